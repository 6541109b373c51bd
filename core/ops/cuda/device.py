"""What runs kernels: a GPU, or, to check them, a CPU."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from core.random import Array

Grid = tuple[int, ...]
BLOCK = 256  # threads, where nothing else decides


class Device(Protocol):
    """What runs kernels."""

    xp: ModuleType  # makes its arrays

    def empty(self, shape: Grid, dtype: Any = np.float32) -> Array:
        """An array with anything in it."""

    def address(self, values: Array) -> int:
        """Where an array lies in the device's memory."""

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


def whole(device: Device, values: Array, dtype: Any = np.float32) -> Array:
    """The values on the device, as kernels take them: contiguous, of one type."""
    return device.xp.asarray(values, dtype=dtype, order="C")
