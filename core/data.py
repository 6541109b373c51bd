"""Data sets: CIFAR-10, scikit-learn's digits, or the user's own .npz."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from core import cifar10, npz
from core.errors import InputError
from core.hints import command, quoted
from core.labels import MOST_CLASSES, classes_of
from core.project import expand
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
    """Labelled images as they came; the network's input is x * scale.

    name     "cifar10", "digits", or the .npz file's stem
    source   what to give as --data-dir or --data to get it again
    x, y     (N, C, H, W) uint8 or float32 and (N,) int64: everything but the test data
    x_test   (M, C, H, W), or None
    classes  the labels' names
    sha256   of all four arrays, the scale and the classes
    note     what the user should know about the choice of this data set, or about its labels
    """

    name: str
    source: str
    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray | None
    y_test: np.ndarray | None
    classes: tuple[str, ...]
    scale: float
    sha256: str
    note: str = ""

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
        """Training and validation data, shuffled by seed."""
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
        return _dataset("cifar10", str(folder), cifar10.read(folder), 1 / 255)
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


def _dataset(name: str, source: str, contents: Contents, scale: float) -> Dataset:
    x, y, x_test, y_test, classes = contents
    for label in classes:
        if not label.isprintable():
            raise InputError(f"{source}: the class {label!r} has characters that cannot be printed")
    digest = hashlib.sha256(repr((scale, classes)).encode())
    for key, values in (("x", x), ("y", y), ("x_test", x_test), ("y_test", y_test)):
        if values is not None:
            digest.update(f"{key} {values.dtype.str} {values.shape}\n".encode())
            digest.update(np.ascontiguousarray(values).data)
    return Dataset(name, source, x, y, x_test, y_test, classes, scale, digest.hexdigest())


def _digits() -> Dataset:
    """1,797 images of 8x8 pixels from 0 to 16; every fifth is for the test, as there is no official test set."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x, y = digits.images[:, None].astype(np.uint8), digits.target.astype(np.int64)
    test = np.arange(len(x)) % 5 == 0
    classes = tuple(str(name) for name in digits.target_names)
    return _dataset("digits", "scikit-learn", (x[~test], y[~test], x[test], y[test], classes), 1 / 16)


def _own(path: Path) -> Dataset:
    arrays = npz.read(path, ("x", "y", "x_test", "y_test", "classes"))
    for key in ("x", "y"):
        if key not in arrays:
            there = ", ".join(npz.names(path)) or "none"
            raise InputError(f"{path} has no array {key}: it needs x (images) and y (labels); there are: {there}")
    x, y = _images(path, "x", arrays), _labels(path, "y", arrays)
    x_test = y_test = None
    if ("x_test" in arrays) != ("y_test" in arrays):
        raise InputError(f"{path} has only one of x_test and y_test: give both or neither")
    if "x_test" in arrays:
        x_test, y_test = _images(path, "x_test", arrays), _labels(path, "y_test", arrays)
        if x_test.shape[1:] != x.shape[1:] or x_test.dtype != x.dtype:
            raise InputError(
                f"{path}: x_test is {x_test.dtype} {x_test.shape[1:]} and x is {x.dtype} {x.shape[1:]}; "
                "they must be alike"
            )
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
    scale = 1 / 255 if x.dtype == np.uint8 else 1.0
    return replace(_dataset(name, str(path.resolve()), (x, y, x_test, y_test, found.names), scale), note=found.note)


def _images(path: Path, key: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    x = arrays[key]
    if x.ndim == 3:
        x = x[:, None]
    if x.ndim != 4 or 0 in x.shape:
        raise InputError(f"{path}: {key} has shape {arrays[key].shape}; it must be (N, C, H, W) or (N, H, W)")
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise InputError(f"{path}: {key} holds {x.dtype}; it must be uint8 (0 to 255) or float")
    if x.dtype.kind == "f":
        with np.errstate(over="ignore"):  # inf is reported below
            x = x.astype(np.float32)
        if not np.isfinite(x).all():
            raise InputError(f"{path}: {key} holds nan, inf, or numbers too large for float32")
    return np.ascontiguousarray(x)


def _labels(path: Path, key: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    y = arrays[key]
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise InputError(f"{path}: {key} is {y.dtype} {y.shape}; it must be whole numbers (N,)")
    if len(y) and (int(y.min()) < 0 or int(y.max()) >= MOST_CLASSES):
        raise InputError(f"{path}: {key} has labels from {y.min()} to {y.max()}; they must be 0 to {MOST_CLASSES - 1}")
    return y.astype(np.int64)
