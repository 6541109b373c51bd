"""1x1 convolution: a matrix product over the channels of each pixel.

Images are (T, N, H, W, C), C a multiple of LANES. Pixels go through in blocks, and sums over them in PARTS, whatever
the number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from core.backends.cpu.kernels.batch_norm import PARTS
from core.backends.cpu.kernels.buffers import empty
from core.backends.cpu.kernels.gemm import gemm, rounded, strided
from core.backends.cpu.kernels.jit import LANES, ROWS, parallel
from core.backends.cpu.kernels.pooling import moments
from core.backends.cpu.kernels.simd import VECTOR_BYTES, address

Array = np.ndarray
BLOCK = 32 * ROWS  # pixels
_ZEROS = np.zeros(LANES, np.float32)


@parallel("void(float32[:,:,::1], float32[:,:,::1], float32[:,:,::1], int64, int64[::1], int64[::1], int64[::1])")
def _forward(x, w, y, pixels, rows, last_rows, depths):  # type: ignore[no-untyped-def]
    trials, channels, filters = w.shape
    blocks = -(-pixels // BLOCK)
    for item in prange(trials * blocks):
        t, first = item // blocks, item % blocks * BLOCK
        whole = first + BLOCK <= pixels
        gemm(
            address(x) + 4 * (t % len(x) * x.shape[1] + first) * channels,
            address(rows) if whole else address(last_rows),
            min(BLOCK, pixels - first),
            address(depths),
            channels,
            address(w) + 4 * t * channels * filters,
            4 * filters,
            filters,
            address(y) + 4 * (t * y.shape[1] + first) * filters,
            4 * filters,
            1,
        )


def convolve(x: Array, w: Array) -> Array:
    """x (T or 1, N, H, W, C), w (T, C, F) -> (T, N, H, W, F)."""
    trials, channels, filters = w.shape
    pixels = x[0].size // channels
    y = empty((trials, rounded(pixels, ROWS), filters))
    last = strided(pixels % BLOCK or BLOCK, channels)
    flat = x.reshape(len(x), pixels, channels)
    _forward(flat, w, y, pixels, strided(BLOCK, channels), last, strided(channels, 1)[:channels])
    return y[:, :pixels].reshape(trials, *x.shape[1:4], filters)


@parallel(
    "void(float32[:,:,::1], float32[:,:,::1], float32[:,:,:,::1], float32[:,:,:,::1], float32[::1], int64[::1],"
    " int64[::1])"
)
def _gradient(x, dy, dw, db, zeros, rows, depths):  # type: ignore[no-untyped-def]
    trials, pixels, filters = dy.shape
    channels = x.shape[2]
    for item in prange(trials * PARTS):
        t, part = item // PARTS, item % PARTS
        start, stop = part * pixels // PARTS, (part + 1) * pixels // PARTS
        for first in range(start, stop, BLOCK):
            count = min(BLOCK, stop - first)
            gradients = address(dy) + 4 * (t * pixels + first) * filters
            gemm(
                address(x) + 4 * (t % len(x) * pixels + first) * channels,
                address(rows),
                dw.shape[2],
                address(depths),
                count,
                gradients,
                4 * filters,
                filters,
                address(dw) + 4 * item * dw.shape[2] * filters,
                4 * filters,
                0,
            )
            for f in range(0, 4 * filters, VECTOR_BYTES):
                sums = address(db) + 8 * item * filters + f
                moments(count, gradients + f, 4 * filters, address(zeros), sums, 4 * filters)


def weight_gradient(x: Array, dy: Array) -> tuple[Array, Array]:
    """x (T or 1, N, H, W, C), dy (T, N, H, W, F) -> dw (T, C, F), db (T, F)."""
    channels, filters = x.shape[4], dy.shape[4]
    pixels = x[0].size // channels
    parts = np.zeros((len(dy), PARTS, rounded(channels, ROWS), filters), np.float32)
    sums = np.zeros((len(dy), PARTS, 2, filters), np.float32)  # of dy, and of its square, which is not wanted
    flat = x.reshape(len(x), pixels, channels), dy.reshape(len(dy), pixels, filters)
    _gradient(*flat, parts, sums, _ZEROS, strided(channels, 1), strided(BLOCK, channels))
    return parts.sum(axis=1)[:, :channels], sums.sum(axis=1)[:, 0]
