"""The block that reads images of few channels as they come (first_block.cu)."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np

from core.backends.gpu import tiles
from core.backends.gpu.convolution import filters_last
from core.backends.gpu.device import (
    BLOCK,
    BlockGradient,
    Device,
    channels_first,
    channels_last,
    contiguous,
    for_each,
    structure,
)
from core.random import Array


def block(
    device: Device, s: tiles.Pictures, x: Array, w: Array, vectors: Sequence[Array], eps: float
) -> tuple[Array, Array, Array, Any]:
    """y (T, N, F, PH, PW), mean and variance (T, F), and saved for gradient. vectors: b, gamma and beta."""
    images, filters, (trials, f) = contiguous(device, x), contiguous(device, w), w.shape[:2]
    gram = _gram(device, s, images)
    table = device.empty((trials, 4, s.filters))
    mean, variance = device.empty((trials, f)), device.empty((trials, f))
    device.launch(
        "first_statistics", (ceil(s.filters / 8), trials), BLOCK, 16 * BLOCK,
        gram, filters, *(contiguous(device, v) for v in vectors), table, mean, variance, structure(s), f, float(eps),
    )  # fmt: skip
    y, argmax = forward(device, s, images, w, table)
    return channels_first(y, f), mean, variance, (s, images, filters, gram, table, argmax)


def _gram(device: Device, s: tiles.Pictures, images: Array) -> Array:
    """The Gram matrices (1 or T, K * K) of the images' patches, float64."""
    rows = s.gram_rows
    bands = ceil(s.rows / rows)
    parts = device.empty((len(images), s.images * bands, s.gram**2))
    grid = (s.images, len(images), bands)
    device.launch("gram", grid, BLOCK, s.gram_shared(rows), images, parts, structure(s), rows)
    return _summed(device, parts)


def _summed(device: Device, parts: Array) -> Array:
    """parts (T, count, size) summed over count, float64."""
    trials, count, size = parts.shape
    total = device.empty((trials, size), np.float64)
    for_each(device, "sum_parts", size, trials, parts, total, count, size)
    return total


def forward(device: Device, s: tiles.Pictures, images: Array, w: Array, table: Array) -> tuple[Array, Array]:
    """The block's output (T, N, PH, PW, F') and the index of each maximum in its window."""
    pooled = (len(w), s.images, s.rows // s.pool, s.columns // s.pool, s.filters)
    y, argmax = device.empty(pooled), device.empty(pooled, np.uint8)
    grid, filters = (s.images * s.bands, len(w), ceil(s.filters / 64)), filters_last(device, w, rounded=False)
    device.launch(f"first_block_{s.pool}", grid, BLOCK, s.block_shared, images, filters, table, y, argmax, structure(s))
    return y, argmax


def gradient(device: Device, dy: Array, saved: Any) -> BlockGradient:
    """dw, db, dgamma and dbeta, as core.backends.reference.fused.block_grad; there is no dx."""
    s, images, filters, gram, table, argmax = saved
    trials, f = filters.shape[:2]
    each = max(1, s.images // tiles.PARTS)
    count = ceil(s.images / each) * s.bands
    parts = device.empty((trials, count, s.gram * s.filters))
    device.launch(
        f"first_products_{s.channels}", (count, trials, ceil(s.filters / 32)), BLOCK, s.products_shared,
        images, channels_last(device, dy), argmax, parts, structure(s), each,
    )  # fmt: skip
    dw = device.empty(filters.shape)
    dgamma, dbeta = device.empty((trials, f)), device.empty((trials, f))
    device.launch(
        "first_gradient", (ceil(s.filters / 8), trials), BLOCK, 8 * BLOCK,
        gram, _summed(device, parts), filters, table, dw, dgamma, dbeta, structure(s), f,
    )  # fmt: skip
    return None, dw, device.xp.zeros((trials, f), np.float32), dgamma, dbeta, None
