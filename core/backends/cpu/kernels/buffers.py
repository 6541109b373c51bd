"""Memory that is used again: taking fresh pages from the system for every array costs as much as filling them."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from core.backends.cpu.kernels.jit import THREADS

_SMALL = 2**16  # bytes; the allocator keeps what is smaller by itself
_FORGOTTEN = 2**11  # requests after which a block that nobody wanted is given back


def _first_free(blocks: list[np.ndarray], references: int) -> np.ndarray | None:
    """The first block that has so many references."""
    for block in blocks:
        if sys.getrefcount(block) == references:
            return block
    return None


# How many references a block has that no array uses.
_UNUSED = next(count for count in range(9) if _first_free([np.empty(0)], count) is not None)


class Pool:
    """Blocks of memory, each lent to one array and its views for as long as any of them lives."""

    def __init__(self) -> None:
        self._blocks: dict[int, list[np.ndarray]] = {}  # by size
        self._wanted: dict[int, int] = {}  # by size, the number of the last request
        self._requests = 0

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
        """Like numpy.empty."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size < _SMALL:
            return np.empty(shape, dtype)
        self._requests += 1
        self._wanted[size] = self._requests
        blocks = self._blocks.setdefault(size, [])
        block = _first_free(blocks, _UNUSED)
        if block is None or self._requests % _FORGOTTEN == 0:
            self._forget()
        if block is None:
            block = np.empty(size, np.uint8)
            blocks.append(block)
        return np.ndarray(shape, dtype, block)

    def _forget(self) -> None:
        for size in [size for size, last in self._wanted.items() if self._requests - last > _FORGOTTEN]:
            del self._blocks[size], self._wanted[size]


empty = Pool().empty

_scratch = [np.zeros((0, 0), np.float32)]


def scratch(floats: int) -> np.ndarray:
    """(threads, at least so many floats), for use within one kernel. It holds numbers, but none that mean anything."""
    if _scratch[0].shape[1] < floats:
        _scratch[0] = np.zeros((THREADS, floats), np.float32)
    return _scratch[0]
