"""The fast operations for a CPU: what reference.py means, by Numba's kernels. float64 and rare shapes go to reference.

Images lie in memory as (T, N, H, W, C), C rounded up to whole vectors; what callers see are views (T, N, C, H, W).
What an operation saves is its gradient's function and what that needs. Kernels use all threads: one call at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numba
import numpy as np

from core.backends.cpu.kernels.cache import compiling
from core.backends.cpu.kernels.jit import LANES, THREADS
from core.backends.cpu.memory import step_memory
from core.backends.reference import backend, fused, plain
from core.config.architecture import EPSILON, PAD, POOL
from core.machine import threads
from core.random import Array, Purpose
from core.training.augment import augment_by

with compiling():
    from core.backends.cpu.kernels import batch_norm, crop_flip, first_block, philox, pointwise, update, winograd
    from core.backends.cpu.kernels import head as linear
    from core.backends.cpu.kernels.gemm import rounded


FEW_CHANNELS = 4  # up to so many, images are convolved as they are
FEW_VALUES = 64

numba.set_num_threads(min(threads.count(), THREADS))


def all_at_once(function: Callable[[slice], Any], trials: int) -> list[Any]:
    """function(all trials): the kernels themselves use the cores there are."""
    with np.errstate(all="ignore"):  # a trial that overflows is found at the epoch's end, by its loss
        return [function(slice(0, trials))]


# ---------------------------------------------------------------------------------------------- order and padding


def _whole(values: Array, dtype: Any = None) -> Array:
    """values as kernels want them: contiguous and writable; no copy where they are."""
    if values.flags.c_contiguous and values.flags.writeable and dtype in (None, values.dtype):
        return values
    return np.array(values, dtype, order="C")


def _padded(values: Array, axis: int) -> Array:
    """values with zeros appended to an axis up to whole vectors, contiguous."""
    size = values.shape[axis]
    missing = rounded(size, LANES) - size
    if not missing:
        return _whole(values)
    shape = list(values.shape)
    shape[axis] += missing
    result = np.zeros(shape, values.dtype)
    result[tuple(slice(0, size) if i == axis % values.ndim else slice(None) for i in range(values.ndim))] = values
    return result


def _pixels_first(x: Array) -> Array:
    """(T, N, C, H, W) -> (T, N, H, W, padded C); no copy where memory is in that order already."""
    return _padded(x.transpose(0, 1, 3, 4, 2), -1)


def _channels_first(x: Array, channels: int) -> Array:
    """The view (T, N, C, H, W) of (T, N, H, W, padded C)."""
    return x[..., :channels].transpose(0, 1, 4, 2, 3)


def _of_input(dx: Array, x: Array, channels: int) -> Array:
    """The gradient dx (T, N, H, W, C) of x: summed where the trials share x."""
    return _channels_first(dx if len(x) == len(dx) else dx.sum(axis=0, keepdims=True), channels)


def _patch_filters(w: Array) -> Array:
    """(T, F, C, 3, 3) -> (T, 9 * C, padded F)."""
    return _padded(w.reshape(*w.shape[:2], -1).swapaxes(1, 2), 2)


def _filters(w: Array) -> Array:
    """(T, F, C, 3, 3) -> (T, 3, 3, padded C, padded F)."""
    return _padded(_padded(w.transpose(0, 3, 4, 2, 1), 3), 4)


# ---------------------------------------------------------------------------------------------------------- block


def _reads_pictures(x: Array, shortcut: Array | None) -> bool:
    """Whether the block is of the kind that kernels.direct is for."""
    return x.shape[2] <= FEW_CHANNELS and shortcut is None


def _fits(x: Array, w: Array, shortcut: Array | None, pad: int, pool: int) -> bool:
    """Whether the kernels are made for this block.

    They are for 3x3 filters in float32, and more than one value to normalise. Where few numbers are summed, or few
    values normalised, a plain sum rounds much less than Winograd's, and is cheap.
    """
    values = x.shape[1] * (x.shape[3] + 2 * pad - 2) * (x.shape[4] + 2 * pad - 2)
    kind = x.dtype == np.float32 == w.dtype and w.shape[-1] == 3 and 0 < pad < 3 and pool < 4 and values > 1
    enough = min(w.shape[1:3]) > FEW_CHANNELS and values >= FEW_VALUES
    return kind and (enough or _reads_pictures(x, shortcut))


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
    if not _fits(x, w, shortcut, pad, pool):
        y, mean, variance, saved = fused.block(x, w, b, gamma, beta, shortcut, pad=pad, pool=pool, eps=eps)
        return y, mean, variance, (fused.block_grad, saved)
    if _reads_pictures(x, shortcut):
        return _first_block(x, w, b, gamma, beta, pad, pool, eps)
    pixels, filters = _pixels_first(x), _filters(w)
    z, sums = winograd.convolve(pixels, filters, pad)
    mean, variance, table = batch_norm.statistics(sums, z.shape[1], z.shape[2] * z.shape[3], gamma, beta, eps)
    added = None if shortcut is None else _pixels_first(shortcut)
    y, raw, place = batch_norm.normalise(z, added, table, pool)
    inverse = 1 / np.sqrt(variance + eps)
    saved = pixels, filters, pad, pool, z, y, raw, place, table, mean, inverse, gamma, added is not None, w.shape
    return *_results(y, mean, variance, b), (_later_block_grad, saved)


def _results(y: Array, mean: Array, variance: Array, b: Array) -> tuple[Array, Array, Array]:
    """The block's output, and the mean and variance of what its convolution gives with its bias."""
    return _channels_first(y, b.shape[1]), (mean + b).astype(np.float32), variance.astype(np.float32)


def _first_block(
    x: Array, w: Array, b: Array, gamma: Array, beta: Array, pad: int, pool: int, eps: float
) -> tuple[Array, Array, Array, Any]:
    images = _whole(x)
    filters = _patch_filters(w)
    gram = first_block.products(images, first_block.geometry(*x.shape[2:], pad, pool), pad)
    mean, variance, table = first_block.statistics(gram, filters, gamma, beta, eps)
    y, place = first_block.forward(images, filters, table, pad, pool)
    inverse = 1 / np.sqrt(variance + eps)
    saved = (x, w, b, gamma, beta, pad, pool, eps), images, filters, gram, y, place, mean, inverse
    return *_results(y, mean, variance, b), (_first_block_grad, saved)


def _first_block_grad(dy: Array, saved: Any, *, need_dx: bool) -> tuple[Array | None, Array, Array, Array, Array, None]:
    (x, w, b, gamma, beta, pad, pool, eps), images, filters, gram, y, place, mean, inverse = saved
    if need_dx:  # pictures have no use for it: the textbook's way
        *_, again = fused.block(x, w, b, gamma, beta, pad=pad, pool=pool, eps=eps)
        return fused.block_grad(dy, again)
    products = first_block.gradient_products(images, _pixels_first(dy), y, place, pad, pool)
    dw, dgamma, dbeta = first_block.gradient(gram, products, filters, mean, inverse, gamma)
    return None, dw.reshape(w.shape), np.zeros_like(b), dgamma, dbeta, None


def _later_block_grad(
    dy: Array, saved: Any, *, need_dx: bool
) -> tuple[Array | None, Array, Array, Array, Array, Array | None]:
    pixels, filters, pad, pool, z, y, raw, place, table, mean, inverse, gamma, has_shortcut, shape = saved
    trials, f, c = shape[:3]
    gradient = _pixels_first(dy)
    _, images, height, width, _ = z.shape
    dgamma, dbeta, constants = batch_norm.gradient_constants(
        gradient, y, raw, table, mean, inverse, gamma, images * height * width
    )
    dx, dw = winograd.convolve_gradient(pixels, gradient, y, place, z, constants, pool, filters, pad, need_dx)
    dw = np.ascontiguousarray(dw[..., :c, :f].transpose(0, 4, 3, 1, 2))
    seen = _of_input(dx, pixels, c) if need_dx else None
    dshortcut = None
    if has_shortcut:
        dshortcut = _channels_first(batch_norm.shortcut_gradient(gradient, y, place, pool, height, width), f)
    return seen, dw, np.zeros((trials, f), np.float32), dgamma, dbeta, dshortcut


def block_grad(
    dy: Array, saved: Any, *, need_dx: bool = True
) -> tuple[Array | None, Array, Array, Array, Array, Array | None]:
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
    if not _fits(x, w, shortcut, pad, pool):
        return fused.block_inference(x, w, b, gamma, beta, mean, variance, shortcut, pad=pad, pool=pool, eps=eps)
    table = _padded(np.stack([mean - b, gamma / np.sqrt(variance + eps), beta], axis=1), 2)
    if _reads_pictures(x, shortcut):
        y, _ = first_block.forward(_whole(x), _patch_filters(w), table, pad, pool)
    else:
        z, _ = winograd.convolve(_pixels_first(x), _filters(w), pad)
        y, _, _ = batch_norm.normalise(z, None if shortcut is None else _pixels_first(shortcut), table, pool)
    return _channels_first(y, w.shape[1])


# ----------------------------------------------------------------------------------------- head and 1x1 convolution


def head(
    x: Array, w: Array, b: Array, labels: Array, rate: Array, seed: np.ndarray, step: int
) -> tuple[Array, Array, Any]:
    if x.dtype != np.float32:
        loss, correct, saved = fused.head(x, w, b, labels, rate, seed, step)
        return loss, correct, (fused.head_grad, saved)
    rates = rate.astype(np.float32)
    u, seeds, which = linear.NO_DROPOUT, seed, np.zeros(len(x), np.int64)
    if np.any(rates):
        if len(seed) > 1:
            seeds, which = np.unique(seed, return_inverse=True)
        u = philox.uniform(seeds, Purpose.DROPOUT, step, x[0].size)
    pixels = _pixels_first(x)
    outputs, features = linear.logits(pixels, u, which, rates, _padded(w, 2), x.shape[2])
    loss, correct = linear.cross_entropy(outputs, _whole(b), _whole(labels, np.int64))
    kept = outputs, _whole(labels, np.int64), features, w, u, which, rates, x.shape[2:]
    return loss, correct, (_head_grad, kept)


def _head_grad(dloss: Array, saved: Any) -> tuple[Array, Array, Array]:
    dx, dw, db = linear.gradient(_whole(dloss), *saved)
    return _channels_first(dx, saved[-1][0]), dw, db


def head_grad(dloss: Array, saved: Any) -> tuple[Array, Array, Array]:
    gradient, kept = saved
    results: tuple[Array, Array, Array] = gradient(dloss, kept)
    return results


def conv2d(x: Array, w: Array, b: Array, *, stride: int = 1, pad: int = PAD) -> tuple[Array, Any]:
    if x.dtype != np.float32 or w.shape[-1] > 1 or stride > 1 or pad:
        y, saved = plain.conv2d(x, w, b, stride=stride, pad=pad)
        return y, (plain.conv2d_grad, saved)
    pixels, filters = _pixels_first(x), _padded(_padded(w[..., 0, 0].swapaxes(1, 2), 1), 2)
    y = _channels_first(pointwise.convolve(pixels, filters), w.shape[1])
    if b.any():
        y += b[:, None, :, None, None]
    return y, (_pointwise_grad, (pixels, filters, w.shape))


def _pointwise_grad(dy: Array, saved: Any, *, need_dx: bool) -> tuple[Array | None, Array, Array]:
    pixels, filters, shape = saved
    f, c = shape[1:3]
    gradient = _pixels_first(dy)
    dw, db = pointwise.weight_gradient(pixels, gradient)
    dx = None
    if need_dx:
        dx = _of_input(pointwise.convolve(gradient, _whole(filters.swapaxes(1, 2))), pixels, c)
    return dx, dw[:, :c, :f].swapaxes(1, 2).reshape(shape), db[:, :f]


def conv2d_grad(dy: Array, saved: Any, *, need_dx: bool = True) -> tuple[Array | None, Array, Array]:
    gradient, kept = saved
    results: tuple[Array | None, Array, Array] = gradient(dy, kept, need_dx=need_dx)
    return results


def head_inference(x: Array, w: Array, b: Array) -> Array:
    if x.dtype != np.float32:
        return fused.head_inference(x, w, b)
    trials, images, channels = x.shape[:3]
    none = np.zeros(trials, np.int64), np.zeros(trials, np.float32)
    outputs, _ = linear.logits(_pixels_first(x), linear.NO_DROPOUT, *none, _padded(w, 2), channels)
    return outputs[:, :images, : w.shape[2]] + b[:, None]


def augment(x: Array, strength: np.ndarray, seed: int, step: int) -> Array:
    return augment_by(x, strength, seed, step, shift=crop_flip.shifted, uniform=philox.uniform)


OPS = replace(
    backend.OPS,
    name="cpu",
    conv2d=conv2d,
    conv2d_grad=conv2d_grad,
    block=block,
    block_grad=block_grad,
    block_inference=block_inference,
    head=head,
    head_grad=head_grad,
    head_inference=head_inference,
    augment=augment,
    update=update.update,
    map_trials=all_at_once,
    step_memory=step_memory,
    measure_group_size=True,
)
