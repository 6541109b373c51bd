"""Order in memory: images and filters as the kernels want them, and as callers see them.

Images lie as (T, N, H, W, C), C rounded up to whole vectors; what callers see are views (T, N, C, H, W).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from core.backends.cpu.kernels.compiled import gemm
from core.backends.cpu.kernels.jit import LANES
from core.random import Array


def contiguous(values: Array, dtype: Any = None) -> Array:
    """values as kernels want them: contiguous and writable; no copy where they are."""
    if values.flags.c_contiguous and values.flags.writeable and dtype in (None, values.dtype):
        return values
    return np.array(values, dtype, order="C")


def padded(values: Array, axis: int) -> Array:
    """values with zeros appended to an axis up to whole vectors, contiguous."""
    size = values.shape[axis]
    missing = gemm.rounded(size, LANES) - size
    if not missing:
        return contiguous(values)
    shape = list(values.shape)
    shape[axis] += missing
    result = np.zeros(shape, values.dtype)
    result[tuple(slice(0, size) if i == axis % values.ndim else slice(None) for i in range(values.ndim))] = values
    return result


def channels_last(x: Array) -> Array:
    """(T, N, C, H, W) -> (T, N, H, W, padded C); no copy where memory is in that order already."""
    return padded(x.transpose(0, 1, 3, 4, 2), -1)


def channels_first(x: Array, channels: int) -> Array:
    """The view (T, N, C, H, W) of (T, N, H, W, padded C)."""
    return x[..., :channels].transpose(0, 1, 4, 2, 3)


def input_gradient(dx: Array, x: Array, channels: int) -> Array:
    """The gradient dx (T, N, H, W, C) of x: summed where the trials share x."""
    return channels_first(dx if len(x) == len(dx) else dx.sum(axis=0, keepdims=True), channels)


def filter_matrix(w: Array) -> Array:
    """(T, F, C, 3, 3) -> (T, 9 * C, padded F)."""
    return padded(w.reshape(*w.shape[:2], -1).swapaxes(1, 2), 2)


def filters_last(w: Array) -> Array:
    """(T, F, C, 3, 3) -> (T, 3, 3, padded C, padded F)."""
    return padded(padded(w.transpose(0, 3, 4, 2, 1), 3), 4)
