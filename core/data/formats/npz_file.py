"""A user's own .npz."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from core.data import pixels
from core.data.dataset import Dataset, make_dataset
from core.data.labels import MOST_CLASSES, classes_of
from core.data.pixels import PixelRange
from core.errors import InputError
from core.machine.hardware import available_memory
from core.storage import npz


def load(path: Path) -> Dataset:
    """The data set in a file. Raises InputError where it is missing, damaged, hostile or not what it should be."""
    arrays = npz.read(path, ("x", "y", "x_test", "y_test", "classes", "data_format"), memory=_memory)
    for key in ("x", "y"):
        if key not in arrays:
            there = ", ".join(npz.names(path)) or "none"
            raise InputError(f"{path} has no array {key}: it needs x (images) and y (labels); there are: {there}")
    return of_arrays(path, arrays)


def of_arrays(path: Path, arrays: dict[str, np.ndarray]) -> Dataset:
    """The data set that a file's arrays make: x and y, and where they are there x_test, y_test, classes, data_format.

    Images are taken out of arrays. Raises InputError where they are not what they should be.
    """
    if ("x_test" in arrays) != ("y_test" in arrays):
        raise InputError(f"{path} has only one of x_test and y_test: give both or neither")
    x, x_test, pixel_range, note = _all_images(path, arrays)
    y, y_test = _labels(path, "y", arrays), _labels(path, "y_test", arrays) if "y_test" in arrays else None
    for key, images, labels in (("y", x, y), ("y_test", x_test, y_test)):
        if images is not None and labels is not None and len(images) != len(labels):
            raise InputError(f"{path}: {key} has {len(labels)} labels for {len(images)} images")
    if len(x) < 5:
        raise InputError(
            f"{path}: x has {len(x)} images; at least 5 are needed for a split into training and validation"
        )
    found = classes_of(path, [y] if y_test is None else [y, y_test], arrays.get("classes"))
    y, y_test = found.encode(y), None if y_test is None else found.encode(y_test)
    name = re.sub(r"[^\w.-]", "_", path.stem)
    said = "; ".join(filter(None, (note, found.note)))
    return make_dataset(name, str(path.resolve()), (x, y, x_test, y_test, found.names), pixel_range, said)


def _memory(headers: Mapping[str, npz.Header]) -> int:
    """Bytes that the arrays and what is made of them take at once: images that are neither uint8 nor float32, or lie in
    another order, are copied one after another.
    """
    held = peak = npz.plain(headers)
    for header in (headers[key] for key in ("x", "x_test") if key in headers):
        kind = np.dtype(np.uint8 if header.dtype == np.uint8 else np.float32)
        if header.dtype != kind or header.by_columns or pixels.may_be_channels_last(header.shape):
            copy = math.prod(header.shape) * kind.itemsize
            peak, held = max(peak, held + copy), held + copy - header.size
    return peak


def _all_images(path: Path, arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray | None, PixelRange, str]:
    """x and x_test as the network takes them, what their values mean, and what the user should know of that. They are
    taken out of arrays, so that no memory is held twice.
    """
    told, shape = _data_format(path, arrays), arrays["x"].shape
    x, last = pixels.channels_first(_images(path, "x", arrays), f"{path}: x", told)
    pixel_range, x_test = pixels.infer_range(x), None
    notes = ["the channels of x come last"] * last
    if "x_test" in arrays:
        alike = arrays["x_test"].shape[1:] == shape[1:]
        told = pixels.FORMATS[last] if alike else told
        x_test, last = pixels.channels_first(_images(path, "x_test", arrays), f"{path}: x_test", told)
        if x_test.shape[1:] != x.shape[1:] or (x_test.dtype == np.uint8) != (x.dtype == np.uint8):
            found = f"x_test is {x_test.dtype} {x_test.shape[1:]} and x is {x.dtype} {x.shape[1:]}"
            raise InputError(f"{path}: {found}; they must be alike")
        notes += ["the channels of x_test come last"] * (last and not alike) + pixels.range_warnings(x, x_test)
    if pixel_range.offset:
        _room_for_floats(path, pixel_range.offset, [x] if x_test is None else [x, x_test])
    x = pixels.as_input(x, pixel_range.offset)
    x_test = None if x_test is None else pixels.as_input(x_test, pixel_range.offset)
    return x, x_test, pixel_range, "; ".join([*notes, pixel_range.note] if pixel_range.note else notes)


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
