"""Memory that is used again: taking fresh pages from the system for every array costs as much as filling them."""

from __future__ import annotations

import math
import sys
from typing import Any

import numba
import numpy as np

_SMALL = 2**16  # bytes; the allocator keeps what is smaller by itself
_FORGOTTEN = 4096  # requests after which a block that nobody wanted is given back


def _references(blocks: list[np.ndarray]) -> list[int]:
    return [sys.getrefcount(block) for block in blocks]


_UNUSED = _references([np.empty(0)])[0]  # of a block that no array uses


class Pool:
    """Blocks of memory, each lent to one array and its views for as long as any of them lives."""

    def __init__(self) -> None:
        self._blocks: list[np.ndarray] = []
        self._wanted: dict[int, int] = {}  # by the block's id, the number of its last request
        self._requests = 0

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
        """Like numpy.empty."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size < _SMALL:
            return np.empty(shape, dtype)
        self._requests += 1
        used = _references(self._blocks)
        free = [block for block, references in zip(self._blocks, used, strict=True) if references == _UNUSED]
        fitting = [block for block in free if size <= block.size <= 2 * size]
        if fitting:
            block = min(fitting, key=len)
        else:
            self._forget(free)
            block = np.empty(size, np.uint8)
            self._blocks.append(block)
        self._wanted[id(block)] = self._requests
        return block[:size].view(dtype).reshape(shape)

    def _forget(self, free: list[np.ndarray]) -> None:
        old = {id(block) for block in free if self._requests - self._wanted[id(block)] > _FORGOTTEN}
        self._blocks = [block for block in self._blocks if id(block) not in old]
        for key in old:
            del self._wanted[key]


empty = Pool().empty

_scratch = [np.zeros((0, 0), np.float32)]


def scratch(floats: int) -> np.ndarray:
    """(threads, at least so many floats), for use within one kernel. It holds numbers, but none that mean anything."""
    if _scratch[0].shape[1] < floats:
        _scratch[0] = np.zeros((numba.config.NUMBA_NUM_THREADS, floats), np.float32)
    return _scratch[0]
