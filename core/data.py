"""Data sets: CIFAR-10, scikit-learn's digits, or the user's own .npz."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from core import cifar10, npz, pixels
from core.errors import InputError
from core.hints import command, quoted
from core.labels import MOST_CLASSES, classes_of
from core.pixels import Range
from core.project import available_memory, expand
from core.random import Purpose, permutation

TRAINING_SHARE = 0.8

# x, y, x_test, y_test and the classes' names
Contents = tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None, tuple[str, ...]]


@dataclass(frozen=True)
class Split:
    """Training and validation data, shuffled."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_validation: np.ndarray
    y_validation: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """Labelled images as they came, but for what pixels.offset says; the network's input is x * scale.

    name     "cifar10", "digits", or the .npz file's stem
    source   what to give as --data-dir or --data to get it again
    x, y     (N, C, H, W) uint8 or float32 and (N,) int64: everything but the test data
    x_test   (M, C, H, W), or None
    classes  the labels' names
    pixels   what the values of the images mean; its offset, mostly 0, has been subtracted from them
    sha256   of all four arrays, the scale, an offset and the classes
    note     what the user should know about the choice of this data set, its images or its labels
    """

    name: str
    source: str
    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray | None
    y_test: np.ndarray | None
    classes: tuple[str, ...]
    pixels: Range
    sha256: str
    note: str = ""

    @property
    def scale(self) -> float:
        """What x is multiplied by."""
        return self.pixels.scale

    @property
    def training_images(self) -> int:
        """How many of x are for training; the rest is for validation."""
        return int(len(self.x) * TRAINING_SHARE)

    @property
    def validation_images(self) -> int:
        """How many of x validation accuracy is counted on."""
        return len(self.x) - self.training_images

    def places(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Where in x the training and the validation images are, shuffled by seed: the first 80 %, and the rest."""
        order = permutation(seed, Purpose.SPLIT, 0, len(self.x))
        return order[: self.training_images], order[self.training_images :]

    def split(self, seed: int) -> Split:
        """Training and validation data, shuffled by seed. Raises InputError if there is no memory for the copy."""
        if self.x.nbytes > (free := available_memory()):
            needed = f"{self.x.nbytes / 2**20:.0f} MiB are needed to shuffle its images, {free / 2**20:.0f} are free"
            raise InputError(f"{self.source}: {needed}")
        train, validation = self.places(seed)
        return Split(self.x[train], self.y[train], self.x[validation], self.y[validation])


def load(name: str | None = None, data_dir: str | Path | None = None) -> Dataset:
    """The data set called name: "cifar10", "digits", the path of an .npz file, or None or "auto".

    "auto" is CIFAR-10 where cifar10.locate finds it, else digits. Only CIFAR-10 heeds data_dir.
    Raises InputError if name is none of these, or the data is missing, damaged or not what it should be.
    """
    if name is not None and name.endswith(".npz"):
        return _own(expand(name))
    if name not in (None, "auto", "cifar10", "digits"):
        raise InputError(f'data is "{name}": it must be auto, cifar10, digits or the path of an .npz file')
    if name == "digits":
        return _digits()
    folder = cifar10.locate(data_dir)
    if folder is not None:
        return _dataset("cifar10", str(folder), cifar10.read(folder), Range(1 / 255, white=255.0))
    if name == "cifar10":
        raise InputError(f"CIFAR-10 is not here: {_download()} downloads it, or --data-dir says where it is")
    return replace(_digits(), note=f"CIFAR-10 not found: run {_download()}, or give --data-dir")


def _download() -> str:
    return quoted(command("core.cifar10"))


def describe(data: Dataset) -> str:
    """One line on what was chosen."""
    _, c, height, width = data.x.shape
    test = "no test images" if data.x_test is None else f"{len(data.x_test)} for test"
    line = f"data: {data.name} from {data.source}, {len(data.x)} images {c}x{height}x{width} and {test}"
    line += f", {len(data.classes)} classes, sha256 {data.sha256[:8]}"
    return f"{line} ({data.note})" if data.note else line


def assumed(model: Path, data: Dataset) -> str:
    """One line on how a model's file is used, which does not tell what it was trained on."""
    by = f"minus {data.pixels.offset:g} " * bool(data.pixels.offset) + f"times {data.scale:.6g}"
    return f"{model} does not tell how its images were scaled: those of {data.name} are given to it {by}"


def _dataset(name: str, source: str, contents: Contents, meant: Range, note: str = "") -> Dataset:
    x, y, x_test, y_test, classes = contents
    for label in classes:
        if not label.isprintable():
            raise InputError(f"{source}: the class {label!r} has characters that cannot be printed")
    kept = (meant.offset, meant.scale, classes) if meant.offset else (meant.scale, classes)
    digest = hashlib.sha256(repr(kept).encode())
    for key, values in (("x", x), ("y", y), ("x_test", x_test), ("y_test", y_test)):
        if values is not None:
            digest.update(f"{key} {values.dtype.str} {values.shape}\n".encode())
            digest.update(np.ascontiguousarray(values).data)
    return Dataset(name, source, x, y, x_test, y_test, classes, meant, digest.hexdigest(), note)


def _digits() -> Dataset:
    """1,797 images of 8x8 pixels from 0 to 16; every fifth is for the test, as there is no official test set."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x, y = digits.images[:, None].astype(np.uint8), digits.target.astype(np.int64)
    test = np.arange(len(x)) % 5 == 0
    classes = tuple(str(name) for name in digits.target_names)
    return _dataset(
        "digits", "scikit-learn", (x[~test], y[~test], x[test], y[test], classes), Range(1 / 16, white=16.0)
    )


def _own(path: Path) -> Dataset:
    arrays = npz.read(path, ("x", "y", "x_test", "y_test", "classes", "data_format"), memory=_memory)
    for key in ("x", "y"):
        if key not in arrays:
            there = ", ".join(npz.names(path)) or "none"
            raise InputError(f"{path} has no array {key}: it needs x (images) and y (labels); there are: {there}")
    if ("x_test" in arrays) != ("y_test" in arrays):
        raise InputError(f"{path} has only one of x_test and y_test: give both or neither")
    x, x_test, meant, note = _all_images(path, arrays)
    y, y_test = _labels(path, "y", arrays), _labels(path, "y_test", arrays) if "y_test" in arrays else None
    for key, images, labels in (("y", x, y), ("y_test", x_test, y_test)):
        if images is not None and labels is not None and len(images) != len(labels):
            raise InputError(f"{path}: {key} has {len(labels)} labels for {len(images)} images")
    if len(x) < 5:
        raise InputError(
            f"{path}: x has {len(x)} images; at least 5 are needed for a split into training and validation"
        )
    found = classes_of(path, [y] if y_test is None else [y, y_test], arrays.get("classes"))
    y, y_test = found.numbers(y), None if y_test is None else found.numbers(y_test)
    name = re.sub(r"[^\w.-]", "_", path.stem)
    said = "; ".join(filter(None, (note, found.note)))
    return _dataset(name, str(path.resolve()), (x, y, x_test, y_test, found.names), meant, said)


def _memory(headers: Mapping[str, npz.Header]) -> int:
    """Bytes that the arrays and what is made of them take at once: images that are neither uint8 nor float32, or lie in
    another order, are copied one after another.
    """
    held = peak = npz.plain(headers)
    for header in (headers[key] for key in ("x", "x_test") if key in headers):
        kind = np.dtype(np.uint8 if header.dtype == np.uint8 else np.float32)
        if header.dtype != kind or header.by_columns or pixels.may_be_last(header.shape):
            copy = math.prod(header.shape) * kind.itemsize
            peak, held = max(peak, held + copy), held + copy - header.size
    return peak


def _all_images(path: Path, arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray | None, Range, str]:
    """x and x_test as the network takes them, what their values mean, and what the user should know of that. They are
    taken out of arrays, so that no memory is held twice.
    """
    told, shape = _data_format(path, arrays), arrays["x"].shape
    x, last = pixels.channels_first(_images(path, "x", arrays), f"{path}: x", told)
    meant, x_test = pixels.understood(x), None
    notes = ["the channels of x come last"] * last
    if "x_test" in arrays:
        alike = arrays["x_test"].shape[1:] == shape[1:]
        told = pixels.FORMATS[last] if alike else told
        x_test, last = pixels.channels_first(_images(path, "x_test", arrays), f"{path}: x_test", told)
        if x_test.shape[1:] != x.shape[1:] or (x_test.dtype == np.uint8) != (x.dtype == np.uint8):
            found = f"x_test is {x_test.dtype} {x_test.shape[1:]} and x is {x.dtype} {x.shape[1:]}"
            raise InputError(f"{path}: {found}; they must be alike")
        notes += ["the channels of x_test come last"] * (last and not alike) + pixels.unlike(x, x_test)
    if meant.offset:
        _room_for_floats(path, meant.offset, [x] if x_test is None else [x, x_test])
    x = pixels.as_input(x, meant.offset)
    x_test = None if x_test is None else pixels.as_input(x_test, meant.offset)
    return x, x_test, meant, "; ".join([*notes, meant.note] if meant.note else notes)


def _room_for_floats(path: Path, offset: float, images: list[np.ndarray]) -> None:
    """Raises InputError if there is no memory for images without offset, which are copied to float32 one after another.

    Only the values tell whether there is an offset: _memory cannot count it.
    """
    held = needed = 0
    for x in images:
        copy = 4 * x.size
        needed, held = max(needed, held + copy), held + copy - x.nbytes
    if needed > (free := available_memory()):
        lacking = f"{needed / 2**20:.0f} MiB are needed to subtract {offset:g} from its images"
        raise InputError(f"{path}: {lacking}, {free / 2**20:.0f} are free")


def _data_format(path: Path, arrays: dict[str, np.ndarray]) -> str | None:
    """Where the file says that channels are."""
    told = arrays.get("data_format")
    if told is not None and (told.ndim or str(told) not in pixels.FORMATS):
        raise InputError(f"{path}: data_format is {told!s:.40}: it must be {' or '.join(pixels.FORMATS)}")
    return None if told is None else str(told)


def _images(path: Path, key: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """An array of finite pixels, taken out of arrays."""
    x = arrays.pop(key)
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise InputError(f"{path}: {key} holds {x.dtype}; it must be uint8 (0 to 255) or float")
    if x.size and not max(-float(x.min()), float(x.max())) <= float(np.finfo(np.float32).max):  # nan is not
        raise InputError(f"{path}: {key} holds nan, inf, or numbers too large for float32")
    return x


def _labels(path: Path, key: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    y = arrays[key]
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise InputError(f"{path}: {key} is {y.dtype} {y.shape}; it must be whole numbers (N,)")
    if len(y) and (int(y.min()) < 0 or int(y.max()) >= MOST_CLASSES):
        raise InputError(f"{path}: {key} has labels from {y.min()} to {y.max()}; they must be 0 to {MOST_CLASSES - 1}")
    return y.astype(np.int64)
