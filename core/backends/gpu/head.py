"""Dropout, the linear layer and cross entropy (head.cu)."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from core.backends.gpu import tiles
from core.backends.gpu.device import BLOCK, Device, channels_first, channels_last, contiguous, for_each, structure
from core.random import Array

# As in head.cu: classes at once, features of a block at once, and their bytes in shared memory.
_CLASSES, _CHANNELS, _TILE = 16, 8, 4 * 8 * 129
MOST_CLASSES = 2048
Draws = tuple[Array | None, Array | None, Array | None]  # what dropout goes by: rate (T,), seed (T,) and step (1,)


@dataclass(frozen=True)
class _Features:
    """As struct Features in head.cu."""

    images: int
    pixels: int
    channels: int
    stored: int
    classes: int


def forward(device: Device, x: Array, w: Array, b: Array, labels: Array, draws: Draws) -> tuple[Array, Array, Any]:
    """The loss (T, N), whether the largest logit is the label's (T, N), and saved for gradient."""
    outputs, features, sizes = logits(device, x, w, b, draws)
    trials, images, classes = outputs.shape
    known = contiguous(device, labels, np.int64)
    loss, correct = device.empty((trials, images)), device.empty((trials, images), np.bool_)
    for_each(device, "cross_entropy", images, trials, outputs, known, loss, correct, outputs, images, classes)
    return loss, correct, (x.shape, contiguous(device, w), outputs, known, features, draws, sizes)


def logits(device: Device, x: Array, w: Array, b: Array, draws: Draws = (None, None, None)) -> tuple[Array, Array, Any]:
    """Logits (T, N, L), the features (T, N, D) they are made of, and their sizes for the kernels."""
    pixels, (trials, d, classes) = channels_last(device, x), w.shape
    images, height, width, channels = pixels.shape[1:]
    sizes = structure(_Features(images, height * width, x.shape[2], channels, classes))
    features, outputs = device.empty((trials, images, d)), device.empty((trials, images, classes))
    device.launch("flatten", (images, trials), BLOCK, _TILE, pixels, features, *draws, sizes)
    grid, shared = (ceil(images / 4), trials, ceil(classes / _CLASSES)), 4 * BLOCK * (_CLASSES + 2)
    device.launch("linear", grid, BLOCK, shared, features, contiguous(device, w), contiguous(device, b), outputs, sizes)
    return outputs, features, sizes


def gradient(device: Device, dloss: Array, saved: Any) -> tuple[Array, Array, Array]:
    """dx, dw and db for dloss (T, N)."""
    shape, w, probability, labels, features, draws, sizes = saved
    (trials, images, classes), d = probability.shape, w.shape[1]
    dlogits, db = device.empty(probability.shape), device.empty((trials, classes))
    device.launch(
        "output_gradient", (ceil(classes / 8), trials), BLOCK, 4 * BLOCK,
        probability, labels, contiguous(device, dloss), dlogits, db, images, classes,
    )  # fmt: skip
    dw = device.empty(w.shape)
    grid = (ceil(d / 64), trials, ceil(classes / _CLASSES))
    device.launch("linear_weight_gradient", grid, 64, 4 * 64 * _CLASSES, features, dlogits, dw, sizes)
    channels = tiles.padded_channels(shape[2])
    dx = device.empty((trials, images, *shape[3:], channels))
    device.launch(
        "linear_input_gradient", (ceil(images / 4), trials, channels // _CHANNELS), BLOCK, 4 * (_TILE + 4 * classes),
        dlogits, w, dx, *draws, sizes,
    )  # fmt: skip
    return channels_first(dx, shape[2]), dw, db
