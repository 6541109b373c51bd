"""The block behind the first: a convolution, and what batch norm, shortcut, ReLU and pooling make of it, and back
(convolution.cu, tensor_cores.cu, batch_norm.cu).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod
from typing import Any

import numpy as np

from core.backends.gpu import tiles
from core.backends.gpu.convolution import convolve, filter_gradient, filters_last, launch_convolution
from core.backends.gpu.device import (
    BLOCK,
    BlockGradient,
    Device,
    channels_first,
    channels_last,
    contiguous,
    for_each,
    input_gradient,
    structure,
)
from core.random import Array

_PIXELS = 512  # pooled pixels of a block of threads that sums gradients


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
    pixels, (trials, f), shape = channels_last(device, x), w.shape[:2], cuts.forward.shape
    z, moments = convolve(device, cuts.forward, pixels, w, moments=True)
    table = device.empty((trials, 4, shape.filters))
    mean, variance = device.empty((trials, f)), device.empty((trials, f))
    device.launch(
        "statistics", (ceil(shape.filters / 32), trials), BLOCK, 8 * BLOCK,
        moments, *(contiguous(device, v) for v in vectors), table, mean, variance, structure(shape), f, float(eps),
    )  # fmt: skip
    y, argmax = normalise(device, z, shortcut, table, pool)
    return channels_first(y, f), mean, variance, (cuts, pixels, w, z, argmax, table, pool, shortcut is not None)


def normalise(device: Device, z: Array, shortcut: Array | None, table: Array, pool: int) -> tuple[Array, Array]:
    """What a block makes of z (T, N, OH, OW, F'), its convolution's output: y and argmax (T, N, PH, PW, F')."""
    trials, images, rows, columns, filters = z.shape
    pooled = (trials, images, rows // pool, columns // pool, filters)
    y, argmax = device.empty(pooled), device.empty(pooled, np.uint8)
    added, step = None, 0
    if shortcut is not None:
        added = channels_last(device, shortcut)
        step = prod(added.shape[1:]) if len(added) > 1 else 0
    sizes = (images, rows, columns, filters, pool)
    for_each(device, "normalise", prod(pooled[1:]) // 4, trials, z, added, np.uint64(step), table, y, argmax, *sizes)
    return y, argmax


def block_gradient(device: Device, dy: Array, saved: Any, *, need_dx: bool) -> BlockGradient:
    """dx, dw, db, dgamma, dbeta and dshortcut, as core.backends.reference.fused.block_grad."""
    cuts, x, w, z, argmax, table, pool, has_shortcut = saved
    trials, f, c = w.shape[:3]
    images, rows, columns, filters = z.shape[1:]
    gradient, sizes = channels_last(device, dy), (images, rows, columns, filters, pool)
    blocks, lines = ceil(images * (rows // pool) * (columns // pool) / _PIXELS), ceil(filters / 32)
    parts = device.empty((trials, blocks, 2, filters))
    device.launch(
        "gradient_sums", (blocks, trials, lines), BLOCK, 32 * BLOCK,
        z, gradient, argmax, table, parts, *sizes, _PIXELS,
    )  # fmt: skip
    dgamma, dbeta = device.empty((trials, f)), device.empty((trials, f))
    constants = device.empty((trials, 4, filters))
    device.launch(
        "gradient_constants", (lines, trials), BLOCK, 16 * BLOCK,
        parts, table, dgamma, dbeta, constants, blocks, f, filters, float(images * rows * columns),
    )  # fmt: skip
    source, shared = (z, gradient, argmax, constants), int(len(x) == 1)
    dw = filter_gradient(device, "correlate_gradient", cuts.filters, w, (x, *source), pool, shared)
    dx = dshortcut = None
    if need_dx:
        back, cut = device.empty((trials, *x.shape[1:])), cuts.backward
        turned = filters_last(device, w, backward=True)
        launch_convolution(device, "convolve_gradient", cut, trials, *source, turned, back, structure(cut.shape), pool)
        dx = input_gradient(back, x, c)
    if has_shortcut:
        spread = device.empty(z.shape)
        for_each(device, "unpool", prod(z.shape[1:]) // 4, trials, gradient, argmax, spread, *sizes)
        dshortcut = channels_first(spread, f)
    return dx, dw, device.xp.zeros((trials, f), np.float32), dgamma, dbeta, dshortcut


def running_table(device: Device, vectors: Sequence[Array], eps: float) -> Array:
    """The table of `normalise` from b, gamma, beta, and the running mean and variance (T, F)."""
    trials, f = vectors[0].shape
    filters = tiles.padded_channels(f)
    table = device.empty((trials, 4, filters))
    known = (contiguous(device, values) for values in vectors)
    for_each(device, "running_table", filters, trials, *known, table, f, filters, float(eps))
    return table
