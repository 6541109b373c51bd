"""The block: which kernels compute it, and its gradient. What they are not made for goes to the reference."""

from __future__ import annotations

from typing import Any

import numpy as np

from core.backends.cpu.kernels.compiled import batch_norm, first_block, winograd
from core.backends.cpu.layout import (
    channels_first,
    channels_last,
    contiguous,
    filter_matrix,
    filters_last,
    input_gradient,
    padded,
)
from core.backends.reference import fused
from core.config.architecture import EPSILON, PAD, POOL
from core.random import Array

FEW_CHANNELS = 4  # up to so many, images are convolved as they are
FEW_VALUES = 64  # below so many, they are normalised by the reference


def block(
    x: Array,
    w: Array,
    b: Array,
    gamma: Array,
    beta: Array,
    shortcut: Array | None = None,
    *,
    pad: int = PAD,
    pool: int = POOL,
    eps: float = EPSILON,
) -> tuple[Array, Array, Array, Any]:
    """core.backends.reference.fused.block."""
    if not _fits(x, w, shortcut, pad, pool):
        y, mean, variance, saved = fused.block(x, w, b, gamma, beta, shortcut, pad=pad, pool=pool, eps=eps)
        return y, mean, variance, (fused.block_grad, saved)
    if _reads_pictures(x, shortcut):
        return _first_block(x, w, b, gamma, beta, pad, pool, eps)
    pixels, filters = channels_last(x), filters_last(w)
    z, sums = winograd.convolve(pixels, filters, pad)
    mean, variance, table = batch_norm.statistics(sums, z.shape[1], z.shape[2] * z.shape[3], gamma, beta, eps)
    added = None if shortcut is None else channels_last(shortcut)
    y, raw, argmax = batch_norm.normalise(z, added, table, pool)
    inverse = 1 / np.sqrt(variance + eps)
    saved = pixels, filters, pad, pool, z, y, raw, argmax, table, mean, inverse, gamma, added is not None, w.shape
    return *_results(y, mean, variance, b), (_later_block_grad, saved)


def block_grad(
    dy: Array, saved: Any, *, need_dx: bool = True
) -> tuple[Array | None, Array, Array, Array, Array, Array | None]:
    """core.backends.reference.fused.block_grad."""
    gradient, kept = saved
    results: tuple[Array | None, Array, Array, Array, Array, Array | None] = gradient(dy, kept, need_dx=need_dx)
    return results


def block_inference(
    x: Array,
    w: Array,
    b: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    variance: Array,
    shortcut: Array | None = None,
    *,
    pad: int = PAD,
    pool: int = POOL,
    eps: float = EPSILON,
) -> Array:
    """core.backends.reference.fused.block_inference."""
    if not _fits(x, w, shortcut, pad, pool):
        return fused.block_inference(x, w, b, gamma, beta, mean, variance, shortcut, pad=pad, pool=pool, eps=eps)
    table = padded(np.stack([mean - b, gamma / np.sqrt(variance + eps), beta], axis=1), 2)
    if _reads_pictures(x, shortcut):
        y, _ = first_block.forward(contiguous(x), filter_matrix(w), table, pad, pool)
    else:
        z, _ = winograd.convolve(channels_last(x), filters_last(w), pad)
        y, _, _ = batch_norm.normalise(z, None if shortcut is None else channels_last(shortcut), table, pool)
    return channels_first(y, w.shape[1])


def _fits(x: Array, w: Array, shortcut: Array | None, pad: int, pool: int) -> bool:
    """Whether the kernels are made for this block.

    They are for 3x3 filters in float32, and more than one value to normalise. Where few numbers are summed, or few
    values normalised, a plain sum rounds much less than Winograd's, and is cheap.
    """
    values = x.shape[1] * (x.shape[3] + 2 * pad - 2) * (x.shape[4] + 2 * pad - 2)
    kind = x.dtype == np.float32 == w.dtype and w.shape[-1] == 3 and 0 < pad < 3 and pool < 4 and values > 1
    enough = min(w.shape[1:3]) > FEW_CHANNELS and values >= FEW_VALUES
    return kind and (enough or _reads_pictures(x, shortcut))


def _reads_pictures(x: Array, shortcut: Array | None) -> bool:
    """Whether the block is of the kind that kernels.first_block is for."""
    return x.shape[2] <= FEW_CHANNELS and shortcut is None


def _first_block(
    x: Array, w: Array, b: Array, gamma: Array, beta: Array, pad: int, pool: int, eps: float
) -> tuple[Array, Array, Array, Any]:
    images = contiguous(x)
    filters = filter_matrix(w)
    gram = first_block.products(images, first_block.geometry(*x.shape[2:], pad, pool), pad)
    mean, variance, table = first_block.statistics(gram, filters, gamma, beta, eps)
    y, argmax = first_block.forward(images, filters, table, pad, pool)
    inverse = 1 / np.sqrt(variance + eps)
    saved = (x, w, b, gamma, beta, pad, pool, eps), images, filters, gram, y, argmax, mean, inverse
    return *_results(y, mean, variance, b), (_first_block_grad, saved)


def _first_block_grad(dy: Array, saved: Any, *, need_dx: bool) -> tuple[Array | None, Array, Array, Array, Array, None]:
    (x, w, b, gamma, beta, pad, pool, eps), images, filters, gram, y, argmax, mean, inverse = saved
    if need_dx:  # pictures have no use for it: the textbook's way
        *_, again = fused.block(x, w, b, gamma, beta, pad=pad, pool=pool, eps=eps)
        return fused.block_grad(dy, again)
    products = first_block.gradient_products(images, channels_last(dy), y, argmax, pad, pool)
    dw, dgamma, dbeta = first_block.gradient(gram, products, filters, mean, inverse, gamma)
    return None, dw.reshape(w.shape), np.zeros_like(b), dgamma, dbeta, None


def _later_block_grad(
    dy: Array, saved: Any, *, need_dx: bool
) -> tuple[Array | None, Array, Array, Array, Array, Array | None]:
    pixels, filters, pad, pool, z, y, raw, argmax, table, mean, inverse, gamma, has_shortcut, shape = saved
    trials, f, c = shape[:3]
    gradient = channels_last(dy)
    _, images, height, width, _ = z.shape
    dgamma, dbeta, constants = batch_norm.gradient_constants(
        gradient, y, raw, table, mean, inverse, gamma, images * height * width
    )
    dx, dw = winograd.convolve_gradient(pixels, gradient, y, argmax, z, constants, pool, filters, pad, need_dx)
    dw = np.ascontiguousarray(dw[..., :c, :f].transpose(0, 4, 3, 1, 2))
    dshortcut = None
    if has_shortcut:
        dshortcut = channels_first(batch_norm.shortcut_gradient(gradient, y, argmax, pool, height, width), f)
    return (
        input_gradient(dx, pixels, c) if need_dx else None,
        dw,
        np.zeros((trials, f), np.float32),
        dgamma,
        dbeta,
        dshortcut,
    )


def _results(y: Array, mean: Array, variance: Array, b: Array) -> tuple[Array, Array, Array]:
    """The block's output, and the mean and variance of what its convolution gives with its bias."""
    return channels_first(y, b.shape[1]), (mean + b).astype(np.float32), variance.astype(np.float32)
