"""Convolutions and their gradients (convolution.cu, tensor.cu), and the block that is made of one (normal.cu)."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod
from typing import Any

import numpy as np

from core.backends.gpu import tiles
from core.backends.gpu.device import BLOCK, Device, for_each, of_input, seen, stored, structure, whole
from core.random import Array

_PIXELS = 512  # pooled pixels of a block of threads that sums gradients
BlockGradient = tuple[Array | None, Array, Array, Array, Array, Array | None]


def arranged(device: Device, w: Array, *, backward: bool = False, rounded: bool = True) -> Array:
    """w (T, F, C, K, K) as `convolve` reads it: (T, K * K, C', F'); backward: turned, (T, K * K, F', C').

    Unless rounded, C' is C.
    """
    trials, f, c, kernel, _ = w.shape
    channels, filters = tiles.stored(c) if rounded else c, tiles.stored(f)
    result = device.empty((trials, kernel**2, *((filters, channels) if backward else (channels, filters))))
    where = (None, result) if backward else (result, None)
    size = prod(result.shape[1:])
    for_each(device, "arrange_filters", size, trials, whole(device, w), *where, kernel**2, c, f, channels, filters)
    return result


def convolved(
    device: Device, cut: tiles.Cut, x: Array, w: Array, bias: Array | None = None, *, moments: bool = False
) -> tuple[Array, Array | None]:
    """w (T, F, C, K, K) applied to x (T or 1, N, H, W, C'): (T, N, OH, OW, F'), and its tiles' moments if wanted."""
    shape, trials = cut.shape, len(w)
    z = device.empty((trials, shape.images, shape.rows, shape.columns, shape.filters))
    found = device.empty((trials, shape.tiles, 2, shape.filters)) if moments else None
    _launch(device, "convolve", cut, trials, x, arranged(device, w), bias, z, found, structure(shape), int(len(x) == 1))
    return z, found


def _launch(device: Device, kernel: str, cut: tiles.Cut, trials: int, *arguments: Any) -> None:
    grid = (cut.shape.tiles, trials, cut.shape.filters // tiles.width(cut.shape.filters))
    device.launch(f"{kernel}_{cut.kernel}", grid, cut.threads, cut.shared, *arguments)


def _filter_gradient(
    device: Device, kernel: str, cut: tiles.Correlation, w: Array, arguments: Sequence[Any], *flags: int
) -> Array:
    """dw from `correlate`: arguments come before the parts, flags after the shape."""
    (trials, f, c, size, _), shape, block = w.shape, cut.cut.shape, cut.cut
    parts = device.empty((trials, cut.parts, size**2, shape.channels, shape.filters))
    device.launch(
        f"{kernel}_{block.kernel}", (cut.groups, trials, cut.blocks), block.threads, block.shared,
        *arguments, parts, structure(shape), *flags, cut.images, cut.slices,
    )  # fmt: skip
    dw, numbers = device.empty(w.shape), prod(parts.shape[2:])
    sizes = (size**2, c, f, shape.channels, shape.filters)
    for_each(device, "sum_filters", numbers, trials, parts, dw, cut.parts, *sizes)
    return dw


def plain_gradient(
    device: Device, cuts: tiles.Cuts, dy: Array, x: Array, w: Array, *, need_dx: bool
) -> tuple[Array | None, Array, Array]:
    """dx, dw and db of a convolution by itself, for dy (T, N, F, OH, OW) and x (T or 1, N, H, W, C')."""
    gradient, shared = stored(device, dy), int(len(x) == 1)
    dw = _filter_gradient(device, "correlate", cuts.filters, w, (x, gradient), shared)
    dx = None
    if need_dx:
        back, cut = device.empty((len(w), *x.shape[1:])), cuts.backward
        turned = arranged(device, w, backward=True)
        _launch(device, "convolve", cut, len(w), gradient, turned, None, back, None, structure(cut.shape), 0)
        dx = of_input(back, x, w.shape[2])
    return dx, dw, gradient[..., : w.shape[1]].sum(axis=(1, 2, 3))


# ------------------------------------------------------------------------------------------------------------- block


def block(
    device: Device,
    cuts: tiles.Cuts,
    x: Array,
    w: Array,
    vectors: Sequence[Array],
    shortcut: Array | None,
    pool: int,
    eps: float,
) -> tuple[Array, Array, Array, Any]:
    """y (T, N, F, PH, PW), mean and variance (T, F), and saved for block_gradient. vectors: b, gamma and beta."""
    pixels, (trials, f), shape = stored(device, x), w.shape[:2], cuts.forward.shape
    z, moments = convolved(device, cuts.forward, pixels, w, moments=True)
    table = device.empty((trials, 4, shape.filters))
    mean, variance = device.empty((trials, f)), device.empty((trials, f))
    device.launch(
        "statistics", (ceil(shape.filters / 32), trials), BLOCK, 8 * BLOCK,
        moments, *(whole(device, v) for v in vectors), table, mean, variance, structure(shape), f, float(eps),
    )  # fmt: skip
    y, place = normalised(device, z, shortcut, table, pool)
    return seen(y, f), mean, variance, (cuts, pixels, w, z, place, table, pool, shortcut is not None)


def normalised(device: Device, z: Array, shortcut: Array | None, table: Array, pool: int) -> tuple[Array, Array]:
    """What a block makes of its convolution's output z (T, N, OH, OW, F'): (T, N, PH, PW, F'); and maxima's places."""
    trials, images, rows, columns, filters = z.shape
    pooled = (trials, images, rows // pool, columns // pool, filters)
    y, place = device.empty(pooled), device.empty(pooled, np.uint8)
    added, step = None, 0
    if shortcut is not None:
        added = stored(device, shortcut)
        step = prod(added.shape[1:]) if len(added) > 1 else 0
    sizes = (images, rows, columns, filters, pool)
    for_each(device, "normalise", prod(pooled[1:]) // 4, trials, z, added, np.uint64(step), table, y, place, *sizes)
    return y, place


def block_gradient(device: Device, dy: Array, saved: Any, *, need_dx: bool) -> BlockGradient:
    """dx, dw, db, dgamma, dbeta and dshortcut, as core.backends.reference.fused.block_grad."""
    cuts, x, w, z, place, table, pool, has_shortcut = saved
    trials, f, c = w.shape[:3]
    images, rows, columns, filters = z.shape[1:]
    gradient, sizes = stored(device, dy), (images, rows, columns, filters, pool)
    blocks, lines = ceil(images * (rows // pool) * (columns // pool) / _PIXELS), ceil(filters / 32)
    parts = device.empty((trials, blocks, 2, filters))
    device.launch(
        "gradient_sums", (blocks, trials, lines), BLOCK, 32 * BLOCK,
        z, gradient, place, table, parts, *sizes, _PIXELS,
    )  # fmt: skip
    dgamma, dbeta = device.empty((trials, f)), device.empty((trials, f))
    constants = device.empty((trials, 4, filters))
    device.launch(
        "gradient_constants", (lines, trials), BLOCK, 16 * BLOCK,
        parts, table, dgamma, dbeta, constants, blocks, f, filters, float(images * rows * columns),
    )  # fmt: skip
    source, shared = (z, gradient, place, constants), int(len(x) == 1)
    dw = _filter_gradient(device, "correlate_gradient", cuts.filters, w, (x, *source), pool, shared)
    dx = dshortcut = None
    if need_dx:
        back, cut = device.empty((trials, *x.shape[1:])), cuts.backward
        turned = arranged(device, w, backward=True)
        _launch(device, "convolve_gradient", cut, trials, *source, turned, back, structure(cut.shape), pool)
        dx = of_input(back, x, c)
    if has_shortcut:
        spread = device.empty(z.shape)
        for_each(device, "unpool", prod(z.shape[1:]) // 4, trials, gradient, place, spread, *sizes)
        dshortcut = seen(spread, f)
    return dx, dw, device.xp.zeros((trials, f), np.float32), dgamma, dbeta, dshortcut


def running_table(device: Device, vectors: Sequence[Array], eps: float) -> Array:
    """The table of `normalise` from b, gamma, beta, and the running mean and variance (T, F)."""
    trials, f = vectors[0].shape
    filters = tiles.stored(f)
    table = device.empty((trials, 4, filters))
    known = (whole(device, values) for values in vectors)
    for_each(device, "running_table", filters, trials, *known, table, f, filters, float(eps))
    return table
