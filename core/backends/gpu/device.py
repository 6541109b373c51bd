"""What runs kernels, a GPU or, to check them, a CPU; and how arrays are handed to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple
from math import ceil
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from core.backends.gpu import tiles
from core.random import Array

Grid = tuple[int, ...]
BLOCK = 256  # threads, where nothing else decides
BlockGradient = tuple[Array | None, Array, Array, Array, Array, Array | None]  # as fused.block_grad


class Device(Protocol):
    """What runs kernels."""

    xp: ModuleType  # makes its arrays

    def empty(self, shape: Grid, dtype: Any = np.float32) -> Array:
        """An array with anything in it."""

    def address(self, values: Array) -> int:
        """Where an array lies in the device's memory."""

    def to_host(self, values: Any) -> np.ndarray:
        """A copy in the host's memory. It waits for the device, so no step that is recorded may do it."""

    def launch(self, kernel: str, grid: Grid, block: int, shared: int, *arguments: Any) -> None:
        """Run a kernel with so many bytes of shared memory.

        Arguments are arrays (contiguous), None (no array), int and float (32 bits), NumPy scalars, and structures:
        NumPy arrays of one element of a structured type, by value.
        """

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """What does work again each time it is called, on the same arrays, at less cost.

        work must do nothing but launch kernels. Arrays that it makes are not kept from one time to the next.
        """


def for_each(device: Device, kernel: str, size: int, trials: int, *arguments: Any) -> None:
    """Launch with a thread for each of so many things of each trial."""
    device.launch(kernel, (ceil(size / BLOCK), trials), BLOCK, 0, *arguments)


def contiguous(device: Device, values: Array, dtype: Any = np.float32) -> Array:
    """The values on the device, as kernels take them: contiguous, of one type."""
    return device.xp.asarray(values, dtype=dtype, order="C")


def structure(values: Any) -> Array:
    """A dataclass of whole numbers as an argument of a kernel."""
    numbers = astuple(values)
    return np.array([(numbers,)], np.dtype([("numbers", np.int32, (len(numbers),))]))


def channels_last(device: Device, x: Array) -> Array:
    """(T, N, C, H, W) as it lies in memory: (T, N, H, W, C'); no copy where it does already."""
    last = x.transpose(0, 1, 3, 4, 2)
    channels = tiles.padded_channels(x.shape[2])
    if channels == x.shape[2]:
        return contiguous(device, last)
    result = device.xp.zeros((*last.shape[:4], channels), x.dtype)
    result[..., : x.shape[2]] = last
    return result


def channels_first(x: Array, channels: int) -> Array:
    """The view (T, N, C, H, W) of (T, N, H, W, C')."""
    return x[..., :channels].transpose(0, 1, 4, 2, 3)


def input_gradient(dx: Array, x: Array, channels: int) -> Array:
    """The gradient dx (T, N, H, W, C') of x: summed where the trials share x."""
    return channels_first(dx if len(x) == len(dx) else dx.sum(axis=0, keepdims=True), channels)
