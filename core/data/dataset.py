"""Data sets: CIFAR-10, scikit-learn's digits, or the user's own .npz."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.data.pixels import PixelRange
from core.errors import InputError
from core.machine.hardware import available_memory
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
    pixels: PixelRange
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

    def split_indices(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Where in x the training and the validation images are, shuffled by seed: the first 80 %, and the rest."""
        order = permutation(seed, Purpose.SPLIT, 0, len(self.x))
        return order[: self.training_images], order[self.training_images :]

    def split(self, seed: int) -> Split:
        """Training and validation data, shuffled by seed. Raises InputError if there is no memory for the copy."""
        if self.x.nbytes > (free := available_memory()):
            needed = f"{self.x.nbytes / 2**20:.0f} MiB are needed to shuffle its images, {free / 2**20:.0f} are free"
            raise InputError(f"{self.source}: {needed}")
        train, validation = self.split_indices(seed)
        return Split(self.x[train], self.y[train], self.x[validation], self.y[validation])


def scaling_note(model: Path, data: Dataset) -> str:
    """One line on how a model's file is used, which does not tell what it was trained on."""
    by = f"minus {data.pixels.offset:g} " * bool(data.pixels.offset) + f"times {data.scale:.6g}"
    return f"{model} does not tell how its images were scaled: those of {data.name} are given to it {by}"


def make_dataset(name: str, source: str, contents: Contents, pixel_range: PixelRange, note: str = "") -> Dataset:
    """A data set of these contents, with its SHA-256. Raises InputError on a class that cannot be printed."""
    x, y, x_test, y_test, classes = contents
    for label in classes:
        if not label.isprintable():
            raise InputError(f"{source}: the class {label!r} has characters that cannot be printed")
    kept = (pixel_range.offset, pixel_range.scale, classes) if pixel_range.offset else (pixel_range.scale, classes)
    digest = hashlib.sha256(repr(kept).encode())
    for key, values in (("x", x), ("y", y), ("x_test", x_test), ("y_test", y_test)):
        if values is not None:
            digest.update(f"{key} {values.dtype.str} {values.shape}\n".encode())
            digest.update(np.ascontiguousarray(values).data)
    return Dataset(name, source, x, y, x_test, y_test, classes, pixel_range, digest.hexdigest(), note)
