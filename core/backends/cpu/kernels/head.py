"""The head: dropout, the linear layer and softmax cross entropy, and back.

x is (T, N, H, W, C), C a multiple of LANES; features are in C, H, W order, as the rows of w are. Images go through in
blocks, whatever the number of threads. Sizes that a matrix product rounds up are rounded up in memory too.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import prange

from core.backends.cpu.kernels.buffers import empty, scratch
from core.backends.cpu.kernels.gemm import gemm, rounded, strided
from core.backends.cpu.kernels.jit import LANES, ROWS, kernel, parallel
from core.backends.cpu.kernels.simd import address

Array = np.ndarray
BLOCK = 2 * ROWS  # images
DEPTH = 256  # features summed before they are added to the others: long sums in float32 would lose digits
NO_DROPOUT = np.empty((0, 0), np.float32)


# --------------------------------------------------------------------------------------------------------- forward


@kernel("void(float32[:,:,:,:,::1], int64, int64, int64, float32[:,::1], int64, float32, float32[::1])")
def _flatten(x, t, n, channels, u, row, rate, features):  # type: ignore[no-untyped-def]
    """An image's values in C, H, W order, times what dropout makes of them; u is empty where nothing drops out."""
    height, width = x.shape[2:4]
    pixels = height * width
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                features[c * pixels + i * width + j] = x[t, n, i, j, c]
    if u.size > 0:
        kept = np.float32(1) / (np.float32(1) - rate)
        numbers = u[row, n * channels * pixels : (n + 1) * channels * pixels]
        for k in range(channels * pixels):
            features[k] *= kept if numbers[k] >= rate else np.float32(0)


@parallel(
    "void(float32[:,:,:,:,::1], float32[:,::1], int64[::1], float32[::1], float32[:,:,::1], int64, int64[::1],"
    " int64[::1], float32[:,:,::1], float32[:,:,::1])"
)
def _logits(x, u, u_rows, rate, w, channels, rows, depths, features, logits):  # type: ignore[no-untyped-def]
    trials, images = x.shape[:2]
    blocks = -(-images // BLOCK)
    columns, stride = w.shape[2], features.shape[2]
    for item in prange(trials * blocks):
        t, first = item // blocks, item % blocks * BLOCK
        last = min(images, first + BLOCK)
        for n in range(first, last):
            _flatten(x, t, n, channels, u, u_rows[t], rate[t], features[t, n])
        for k in range(0, len(depths), DEPTH):
            gemm(
                address(features) + 4 * ((t * features.shape[1] + first) * stride + k),
                address(rows),
                last - first,
                address(depths),
                min(DEPTH, len(depths) - k),
                address(w) + 4 * (t * w.shape[1] + k) * columns,
                4 * columns,
                columns,
                address(logits) + 4 * (t * logits.shape[1] + first) * columns,
                4 * columns,
                1 if k == 0 else 0,
            )


def logits(x: Array, u: Array, u_rows: Array, rate: Array, w: Array, channels: int) -> tuple[Array, Array]:
    """The linear layer's outputs without the bias, and the features that went in, both with rounded sizes.

    x       (T, N, H, W, padded C)
    u       (seeds, N * C * H * W) uniform numbers, or NO_DROPOUT
    u_rows  (T,) int64: each trial's row of u
    rate    (T,) float32
    w       (T, C * H * W, padded L)

    Returns (T, N rounded up to ROWS, padded L), (T, N rounded up, C * H * W rounded up).
    """
    trials, images = x.shape[:2]
    size, columns = w.shape[1:]
    features = empty((trials, rounded(images, ROWS), rounded(size, ROWS)))
    out = empty((trials, rounded(images, ROWS), columns))
    _logits(x, u, u_rows, rate, w, channels, strided(BLOCK, features.shape[2]), strided_exactly(size), features, out)
    return out, features


def strided_exactly(count: int) -> Array:
    """Offsets in bytes of so many floats one after another."""
    return strided(count, 1)[:count]


@kernel("void(float32[:,:,::1], float32[:,:], int64[::1], float32[:,::1], boolean[:,::1], int64)")
def _cross_entropy(logits, b, labels, loss, correct, classes):  # type: ignore[no-untyped-def]
    for t in range(len(loss)):
        for n in range(len(labels)):
            row = logits[t, n]
            best = 0
            for k in range(classes):
                row[k] += b[t, k]
                if row[k] > row[best] or (row[k] != row[k] and row[best] == row[best]):
                    best = k
            largest, label = row[best], row[labels[n]]
            total = np.float32(0)
            for k in range(classes):
                row[k] = np.exp(row[k] - largest)
                total += row[k]
            loss[t, n] = np.log(total) - (label - largest)
            correct[t, n] = best == labels[n]
            for k in range(classes):
                row[k] /= total
            row[classes:] = np.float32(0)


def cross_entropy(logits: Array, b: Array, labels: Array) -> tuple[Array, Array]:
    """Each image's loss and whether it is classified rightly (T, N); the logits become probabilities."""
    loss, correct = np.empty((len(b), len(labels)), np.float32), np.empty((len(b), len(labels)), np.bool_)
    _cross_entropy(logits, b, labels, loss, correct, b.shape[1])
    return loss, correct


# -------------------------------------------------------------------------------------------------------- backward


@kernel("void(float32[:,:,::1], float32[:,:], int64[::1], float32[:,:,::1], float32[:,::1])")
def _logit_gradients(probability, dloss, labels, dlogits, db):  # type: ignore[no-untyped-def]
    classes = db.shape[1]
    for t in range(len(dloss)):
        for n in range(len(labels)):
            for k in range(probability.shape[2]):
                dlogits[t, n, k] = probability[t, n, k] * dloss[t, n]
            dlogits[t, n, labels[n]] -= dloss[t, n]
            for k in range(classes):
                db[t, k] += dlogits[t, n, k]


@kernel("void(float32[::1], int64, int64, int64, float32[:,::1], int64, float32, float32[:,:,:,:,::1])")
def _unflatten(dfeatures, t, n, channels, u, row, rate, dx):  # type: ignore[no-untyped-def]
    height, width = dx.shape[2:4]
    pixels = height * width
    if u.size > 0:
        kept = np.float32(1) / (np.float32(1) - rate)
        numbers = u[row, n * channels * pixels : (n + 1) * channels * pixels]
        for k in range(channels * pixels):
            dfeatures[k] *= kept if numbers[k] >= rate else np.float32(0)
    for i in range(height):
        for j in range(width):
            for c in range(channels):
                dx[t, n, i, j, c] = dfeatures[c * pixels + i * width + j]
            for c in range(channels, dx.shape[4]):
                dx[t, n, i, j, c] = np.float32(0)


@parallel(
    "void(float32[:,:,::1], float32[:,:,::1], float32[:,:,::1], int64, float32[:,::1], int64[::1], float32[::1],"
    " int64[::1], int64[::1], int64[::1], int64[::1], float32[:,:,:,:,::1], float32[:,:,::1], float32[:,::1])"
)
def _gradient(  # type: ignore[no-untyped-def]
    dlogits, features, turned, channels, u, u_rows, rate, dw_rows, dw_depths, dx_rows, dx_depths, dx, dw, scratch
):
    trials, images = dx.shape[:2]
    blocks = -(-images // BLOCK)
    columns, stride, wide = dlogits.shape[2], features.shape[2], turned.shape[2]
    share = -(-dw.shape[1] // (blocks * ROWS)) * ROWS  # of the weights' rows, a block's
    for item in prange(trials * blocks):
        t, block = item // blocks, item % blocks
        gradients = address(dlogits) + 4 * t * dlogits.shape[1] * columns
        start = block * share
        if start < dw.shape[1]:
            gemm(
                address(features) + 4 * (t * features.shape[1] * stride + start),
                address(dw_rows),
                min(share, dw.shape[1] - start),
                address(dw_depths),
                images,
                gradients,
                4 * columns,
                columns,
                address(dw) + 4 * (t * dw.shape[1] + start) * columns,
                4 * columns,
                1,
            )
        own = scratch[numba.get_thread_id()]
        first = block * BLOCK
        last = min(images, first + BLOCK)
        gemm(
            gradients + 4 * first * columns,
            address(dx_rows),
            last - first,
            address(dx_depths),
            len(dx_depths),
            address(turned) + 4 * t * turned.shape[1] * wide,
            4 * wide,
            wide,
            address(own),
            4 * wide,
            1,
        )
        for n in range(first, last):
            _unflatten(own[(n - first) * wide : (n - first + 1) * wide], t, n, channels, u, u_rows[t], rate[t], dx)


def gradient(
    dloss: Array,
    probability: Array,
    labels: Array,
    features: Array,
    w: Array,
    u: Array,
    u_rows: Array,
    rate: Array,
    shape: tuple[int, int, int],
) -> tuple[Array, Array, Array]:
    """dx (T, N, H, W, padded C), dw (T, C * H * W, L) and db (T, L).

    dloss  (T, N)
    w      (T, C * H * W, L)
    shape  C, H, W
    The rest is what logits and cross_entropy took and gave.
    """
    trials, size, classes = w.shape
    channels, height, width = shape
    dlogits, db = np.zeros_like(probability), np.zeros((trials, classes), np.float32)
    _logit_gradients(probability, dloss, labels, dlogits, db)
    turned = np.zeros((trials, classes, rounded(size, LANES)), np.float32)
    turned[..., :size] = w.swapaxes(1, 2)
    dx = empty((trials, len(labels), height, width, rounded(channels, LANES)))
    dw = empty((trials, features.shape[2], probability.shape[2]))
    offsets = (
        strided(features.shape[2], 1),
        strided(len(labels), features.shape[2]),
        strided(BLOCK, probability.shape[2]),
        strided_exactly(classes),
    )
    memory = scratch(BLOCK * turned.shape[2])
    _gradient(dlogits, features, turned, channels, u, u_rows, rate, *offsets, dx, dw, memory)
    return dx, np.ascontiguousarray(dw[:, :size, :classes]), db
