"""A convolution by itself: 1x1 with kernels, all else by the reference."""

from __future__ import annotations

from typing import Any

import numpy as np

from core.backends.cpu.kernels.compiled import pointwise
from core.backends.cpu.layout import channels_first, channels_last, contiguous, input_gradient, padded
from core.backends.reference import plain
from core.config.architecture import PAD
from core.random import Array


def conv2d(x: Array, w: Array, b: Array, *, stride: int = 1, pad: int = PAD) -> tuple[Array, Any]:
    """core.backends.reference.plain.conv2d."""
    if x.dtype != np.float32 or w.shape[-1] > 1 or stride > 1 or pad:
        y, saved = plain.conv2d(x, w, b, stride=stride, pad=pad)
        return y, (plain.conv2d_grad, saved)
    pixels, filters = channels_last(x), padded(padded(w[..., 0, 0].swapaxes(1, 2), 1), 2)
    y = channels_first(pointwise.convolve(pixels, filters), w.shape[1])
    if b.any():
        y += b[:, None, :, None, None]
    return y, (_pointwise_grad, (pixels, filters, w.shape))


def conv2d_grad(dy: Array, saved: Any, *, need_dx: bool = True) -> tuple[Array | None, Array, Array]:
    """core.backends.reference.plain.conv2d_grad."""
    gradient, kept = saved
    results: tuple[Array | None, Array, Array] = gradient(dy, kept, need_dx=need_dx)
    return results


def _pointwise_grad(dy: Array, saved: Any, *, need_dx: bool) -> tuple[Array | None, Array, Array]:
    pixels, filters, shape = saved
    f, c = shape[1:3]
    gradient = channels_last(dy)
    dw, db = pointwise.weight_gradient(pixels, gradient)
    dx = None
    if need_dx:
        dx = input_gradient(pointwise.convolve(gradient, contiguous(filters.swapaxes(1, 2))), pixels, c)
    return dx, dw[:, :c, :f].swapaxes(1, 2).reshape(shape), db[:, :f]
