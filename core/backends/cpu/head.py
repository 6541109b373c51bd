"""The head: flatten, dropout, linear layer, cross entropy, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from core.backends.cpu.kernels.compiled import head as kernels
from core.backends.cpu.kernels.compiled import philox
from core.backends.cpu.layout import channels_first, channels_last, contiguous, padded
from core.backends.reference import fused
from core.random import Array, Purpose


def head(
    x: Array, w: Array, b: Array, labels: Array, rate: Array, seed: np.ndarray, step: int
) -> tuple[Array, Array, Any]:
    """core.backends.reference.fused.head."""
    if x.dtype != np.float32:
        loss, correct, saved = fused.head(x, w, b, labels, rate, seed, step)
        return loss, correct, (fused.head_grad, saved)
    rates = rate.astype(np.float32)
    u, seeds, u_rows = kernels.NO_DROPOUT, seed, np.zeros(len(x), np.int64)
    if np.any(rates):
        if len(seed) > 1:
            seeds, u_rows = np.unique(seed, return_inverse=True)
        u = philox.uniform(seeds, Purpose.DROPOUT, step, x[0].size)
    pixels = channels_last(x)
    outputs, features = kernels.logits(pixels, u, u_rows, rates, padded(w, 2), x.shape[2])
    loss, correct = kernels.cross_entropy(outputs, contiguous(b), contiguous(labels, np.int64))
    kept = outputs, contiguous(labels, np.int64), features, w, u, u_rows, rates, x.shape[2:]
    return loss, correct, (_head_grad, kept)


def head_grad(dloss: Array, saved: Any) -> tuple[Array, Array, Array]:
    """core.backends.reference.fused.head_grad."""
    gradient, kept = saved
    results: tuple[Array, Array, Array] = gradient(dloss, kept)
    return results


def head_inference(x: Array, w: Array, b: Array) -> Array:
    """core.backends.reference.fused.head_inference."""
    if x.dtype != np.float32:
        return fused.head_inference(x, w, b)
    trials, images, channels = x.shape[:3]
    none = np.zeros(trials, np.int64), np.zeros(trials, np.float32)
    outputs, _ = kernels.logits(channels_last(x), kernels.NO_DROPOUT, *none, padded(w, 2), channels)
    return outputs[:, :images, : w.shape[2]] + b[:, None]


def _head_grad(dloss: Array, saved: Any) -> tuple[Array, Array, Array]:
    dx, dw, db = kernels.gradient(contiguous(dloss), *saved)
    return channels_first(dx, saved[-1][0]), dw, db
