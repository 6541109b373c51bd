"""Images shifted and mirrored, as augmentation asks, in one pass."""

from __future__ import annotations

import numpy as np
from numba import prange

from core.backends.cpu.kernels.buffers import empty
from core.backends.cpu.kernels.jit import kernel, parallel
from core.training import augment

Array = np.ndarray

_SHARE = 2**15  # numbers that one thread copies at a time

# What is only read may be locked against writing.
_IMAGES = 'Array(float32, 4, "C", readonly=True)'


@kernel(f"void({_IMAGES}, int64[::1], int64[::1], boolean[::1], float32[:,:,:,::1])")
def _shift(x, down, right, mirrored, out):  # type: ignore[no-untyped-def]
    images, channels, height, width = x.shape
    for n in range(images):
        step = right[n]
        start, stop = (step, width + step) if mirrored[n] else (-step, width - step)
        start, stop = max(start, 0), min(stop, width)  # the columns into which pixels come, not zeros
        for c in range(channels):
            for i in range(height):
                row = i + down[n]
                if row < 0 or row >= height:
                    for j in range(width):
                        out[n, c, i, j] = 0
                    continue
                for j in range(start):
                    out[n, c, i, j] = 0
                for j in range(stop, width):
                    out[n, c, i, j] = 0
                if mirrored[n]:
                    for j in range(start, stop):
                        out[n, c, i, j] = x[n, c, row, width - 1 - j + step]
                else:
                    for j in range(start, stop):
                        out[n, c, i, j] = x[n, c, row, j + step]


@parallel(f"void({_IMAGES}, int64[::1], int64[::1], boolean[::1], float32[:,:,:,::1], int64)")
def _shift_all(x, down, right, mirrored, out, each):  # type: ignore[no-untyped-def]
    for part in prange(-(-len(x) // each)):
        a, b = part * each, (part + 1) * each
        _shift(x[a:b], down[a:b], right[a:b], mirrored[a:b], out[a:b])


def shifted(x: Array, crop: int, top: Array, left: Array, mirrored: Array) -> Array:
    """core.training.augment.shifted, bit for bit; values that are not float32 go there."""
    if x.dtype != np.float32:
        plain: Array = augment.shifted(x, crop, top, left, mirrored)
        return plain
    x, out = np.ascontiguousarray(x), empty(x.shape)
    each = max(1, _SHARE // x[0].size)
    if len(x) <= each:  # too little to share
        _shift(x, top - crop, left - crop, mirrored, out)
    else:
        _shift_all(x, top - crop, left - crop, mirrored, out, each)
    return out
