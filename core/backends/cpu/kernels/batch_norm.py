"""The second half of a block: batch normalisation, shortcut, ReLU and pooling of what a convolution left, and back.

Arrays are (T, N, H, W, channels), channels a multiple of LANES.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from core.backends.cpu.kernels.buffers import empty
from core.backends.cpu.kernels.jit import kernel, parallel
from core.backends.cpu.kernels.pooling import (
    gradient1,
    gradient2,
    gradient3,
    outside_gradient,
    passed_sums,
    pool1,
    pool2,
    pool3,
    scatter1,
    scatter2,
    scatter3,
)
from core.backends.cpu.kernels.simd import VECTOR_BYTES, address

PARTS = 8  # in which a trial's images are summed, whatever the threads: as many can share one trial


Array = np.ndarray
_NO_ARGMAX = np.empty((0,) * 5, np.uint8)
_NOTHING = np.empty((0,) * 5, np.float32)
_ZEROS = np.zeros(VECTOR_BYTES // 4, np.float32)


# --------------------------------------------------------------------------------------------------------- forward


@kernel(
    "void(float32[:,:,:,::1], int64, int64, float32[:,:], float32[:,:], float64, float64[:,::1], float64[:,::1],"
    " float32[:,:,::1])"
)
def _statistics(sums, images, pixels, gamma, beta, eps, mean, variance, table):  # type: ignore[no-untyped-def]
    trials, filters = mean.shape
    for t in range(trials):
        for f in range(filters):
            total = 0.0
            for part in range(PARTS):
                count = ((part + 1) * images // PARTS - part * images // PARTS) * pixels
                total += count * np.float64(sums[t, part, 0, f]) + sums[t, part, 1, f]
            mean[t, f] = total / (images * pixels)
            squares = 0.0
            for part in range(PARTS):
                count = ((part + 1) * images // PARTS - part * images // PARTS) * pixels
                if count > 0:
                    off = np.float64(sums[t, part, 1, f]) / count  # of the part's mean from its pivot
                    away = np.float64(sums[t, part, 0, f]) + off - mean[t, f]  # of the part's mean from the batch's
                    squares += sums[t, part, 2, f] - count * off * off + count * away * away
            if squares < 0:
                squares = 0.0
            variance[t, f] = squares / (images * pixels)
            table[t, 0, f] = mean[t, f]
            table[t, 1, f] = gamma[t, f] / np.sqrt(variance[t, f] + eps)
            table[t, 2, f] = beta[t, f]


def statistics(
    sums: Array, images: int, pixels: int, gamma: Array, beta: Array, eps: float
) -> tuple[Array, Array, Array]:
    """Each channel's mean and variance (T, F), float64, and the table (T, 3, padded F) by which to normalise.

    sums   (T, PARTS, 3, padded F): of each part of the images a pivot, the sum of z - pivot and of its square
    table  the mean, gamma / sqrt(variance + eps), and beta
    """
    trials, filters = gamma.shape
    mean, variance = np.empty((2, trials, filters))
    table = np.zeros((trials, 3, sums.shape[3]), np.float32)
    _statistics(sums, images, pixels, gamma, beta, eps, mean, variance, table)
    return mean, variance, table


@kernel("void(int64, int64, int64, int64, int64, int64, int64, int64, int64, int64, int64, int64, int64, int64, int64)")
def normalise_row(  # type: ignore[no-untyped-def]
    size,
    windows,
    channels,
    z,
    row,
    column,
    shortcut,
    shortcut_row,
    shortcut_column,
    table,
    table_stride,
    y,
    raw,
    argmax,
    f,
):
    """A row of pooling windows: see pooling.pool; f is the first channel's offset in bytes."""
    step = 4 * channels
    for j in range(windows):
        at, added, to = z + j * size * column + f, shortcut + j * size * shortcut_column + f, j * step + f
        if shortcut_column == 0:
            added = shortcut
        if size == 1:
            pool1(
                at,
                row,
                column,
                added,
                0,
                0,
                table + f,
                table + table_stride + f,
                table + 2 * table_stride + f,
                y + to,
                0,
                0,
            )
        elif size == 2:
            pool2(
                at,
                row,
                column,
                added,
                shortcut_row,
                shortcut_column,
                table + f,
                table + table_stride + f,
                table + 2 * table_stride + f,
                y + to,
                raw + to,
                argmax + to // 4,
            )
        else:
            pool3(
                at,
                row,
                column,
                added,
                shortcut_row,
                shortcut_column,
                table + f,
                table + table_stride + f,
                table + 2 * table_stride + f,
                y + to,
                raw + to,
                argmax + to // 4,
            )


@parallel(
    "void(float32[:,:,:,:,::1], float32[:,:,:,:,::1], float32[:,:,::1], int64, float32[::1], float32[:,:,:,:,::1],"
    " float32[:,:,:,:,::1], uint8[:,:,:,:,::1])"
)
def _normalise(z, shortcut, table, size, zeros, y, raw, argmax):  # type: ignore[no-untyped-def]
    trials, images, height, width, channels = y.shape
    z_row, z_image = 4 * z.shape[3] * channels, 4 * z.shape[2] * z.shape[3] * channels
    for item in prange(trials * PARTS):
        t, part = item // PARTS, item % PARTS
        for n in range(part * images // PARTS, (part + 1) * images // PARTS):
            for i in range(height):
                source = address(z) + (t * images + n) * z_image + size * i * z_row
                added, added_row, added_column = address(zeros), 0, 0
                if shortcut.size > 0:
                    added = address(shortcut) + (t % len(shortcut) * images + n) * z_image + size * i * z_row
                    added_row, added_column = z_row, 4 * channels
                to = ((t * images + n) * height + i) * width * channels
                for f in range(0, 4 * channels, VECTOR_BYTES):
                    normalise_row(
                        size,
                        width,
                        channels,
                        source,
                        z_row,
                        4 * channels,
                        added,
                        added_row,
                        added_column,
                        address(table) + 12 * channels * t,
                        4 * channels,
                        address(y) + 4 * to,
                        address(raw) + 4 * to,
                        address(argmax) + to,
                        f,
                    )


def normalise(z: Array, shortcut: Array | None, table: Array, size: int) -> tuple[Array, Array, Array]:
    """y = max(0, max_pool((z - mean) * scale + shift + shortcut)), the z that each value of y came from, and its index.

    z         (T, N, OH, OW, F)
    shortcut  (T or 1, N, OH, OW, F)
    table     (T, 3, F): see statistics
    size      the pooling window's, 1 (none) to 3

    Returns y and raw (T, N, PH, PW, F), and the index in the window, uint8; without pooling raw is z, argmax is empty.
    """
    trials, images, height, width, channels = z.shape
    shape = (trials, images, height // size, width // size, channels)
    y = empty(shape)
    raw, argmax = (empty(shape), empty(shape, np.uint8)) if size > 1 else (z, _NO_ARGMAX)
    _normalise(z, _NOTHING if shortcut is None else shortcut, table, size, _ZEROS, y, raw, argmax)
    return y, raw, argmax


# -------------------------------------------------------------------------------------------------------- backward


@parallel(
    "void(float32[:,:,:,:,::1], float32[:,:,:,:,::1], float32[:,:,:,:,::1], float32[:,:,::1], float32[:,:,:,::1])"
)
def _passed_sums(dy, y, raw, table, sums):  # type: ignore[no-untyped-def]
    trials, images, height, width, channels = y.shape
    for item in prange(trials * PARTS):
        t, part = item // PARTS, item % PARTS
        own = address(sums) + 8 * channels * item
        for n in range(part * images // PARTS, (part + 1) * images // PARTS):
            at = 4 * (t * images + n) * height * width * channels
            for f in range(0, 4 * channels, VECTOR_BYTES):
                passed_sums(
                    height * width,
                    address(dy) + at + f,
                    address(y) + at + f,
                    address(raw) + at + f,
                    4 * channels,
                    address(table) + 12 * channels * t + f,
                    own + f,
                    4 * channels,
                )


@kernel(
    "void(float32[:,:,:,::1], int64, float64[:,::1], float64[:,::1], float32[:,:], float32[:,::1], float32[:,::1],"
    " float32[:,:,::1])"
)
def _gradient_constants(sums, count, mean, inverse, gamma, dgamma, dbeta, constants):  # type: ignore[no-untyped-def]
    trials, filters = mean.shape
    for t in range(trials):
        for f in range(filters):
            total, product = 0.0, 0.0
            for part in range(PARTS):
                total += sums[t, part, 0, f]
                product += sums[t, part, 1, f]
            scale = gamma[t, f] * inverse[t, f]
            product *= inverse[t, f]
            dbeta[t, f], dgamma[t, f] = total, product
            constants[t, 0, f] = mean[t, f]
            constants[t, 1, f] = scale
            constants[t, 2, f] = -scale * inverse[t, f] * product / count
            constants[t, 3, f] = -scale * total / count


def gradient_constants(
    dy: Array, y: Array, raw: Array, table: Array, mean: Array, inverse: Array, gamma: Array, count: int
) -> tuple[Array, Array, Array]:
    """dgamma and dbeta (T, F), and what pooling.gradient needs: mean, scale, slope and offset (T, 4, padded F).

    count  values normalised together: images times pixels
    """
    trials, filters = gamma.shape
    sums = np.zeros((trials, PARTS, 2, y.shape[4]), np.float32)
    _passed_sums(dy, y, raw, table, sums)
    dgamma, dbeta = np.empty((2, trials, filters), np.float32)
    constants = np.zeros((trials, 4, y.shape[4]), np.float32)
    _gradient_constants(sums, count, mean, inverse, gamma, dgamma, dbeta, constants)
    return dgamma, dbeta, constants


@kernel(
    "void(float32[:,:,:,:,::1], float32[:,:,:,:,::1], uint8[:,:,:,:,::1], float32[:,:,:,:,::1], float32[:,:,::1],"
    " int64, int64, int64, int64, int64)"
)
def convolved_gradient(dy, y, argmax, z, constants, size, t, n, grid, grid_row):  # type: ignore[no-untyped-def]
    """The gradient of an image's z, into a grid whose rows are so many bytes long."""
    images, height, width, channels = z.shape[1:]
    down, across = height // size, width // size
    step = 4 * channels
    row, table = step * width, address(constants) + 4 * step * t
    z_image, y_image = address(z) + (t * images + n) * height * row, (t * images + n) * down * across * step
    for i in range(down):
        for j in range(across):
            at = y_image + (i * across + j) * step
            source, target = z_image + size * (i * row + j * step), grid + size * (i * grid_row + j * step)
            for f in range(0, step, VECTOR_BYTES):
                gradient, passed, index = address(dy) + at + f, address(y) + at + f, address(argmax) + (at + f) // 4
                if size == 1:
                    gradient1(gradient, passed, 0, source + f, row, step, table + f, step, target + f, grid_row, step)
                elif size == 2:
                    gradient2(
                        gradient, passed, index, source + f, row, step, table + f, step, target + f, grid_row, step
                    )
                else:
                    gradient3(
                        gradient, passed, index, source + f, row, step, table + f, step, target + f, grid_row, step
                    )
    for i in range(height):
        first = size * across if i < size * down else 0
        if first < width:
            for f in range(0, step, VECTOR_BYTES):
                outside_gradient(
                    width - first,
                    z_image + i * row + first * step + f,
                    step,
                    table + f,
                    step,
                    grid + i * grid_row + first * step + f,
                )


@kernel("void(int64, int64, int64, int64, int64, int64, int64, int64, int64)")
def scatter_row(size, windows, channels, dy, y, argmax, target, row, column):  # type: ignore[no-untyped-def]
    """A row of pooling windows: see pooling.scatter."""
    for j in range(windows):
        for c in range(0, channels, VECTOR_BYTES // 4):
            at, to = j * channels + c, target + j * size * column + 4 * c
            if size == 1:
                scatter1(dy + 4 * at, y + 4 * at, 0, to, row, column)
            elif size == 2:
                scatter2(dy + 4 * at, y + 4 * at, argmax + at, to, row, column)
            else:
                scatter3(dy + 4 * at, y + 4 * at, argmax + at, to, row, column)


@parallel("void(float32[:,:,:,:,::1], float32[:,:,:,:,::1], uint8[:,:,:,:,::1], int64, float32[:,:,:,:,::1])")
def _scatter(dy, y, argmax, size, out):  # type: ignore[no-untyped-def]
    trials, images, height, width, channels = y.shape
    row = 4 * out.shape[3] * channels
    for item in prange(trials * images):
        for i in range(height):
            at = (item * height + i) * width * channels
            scatter_row(
                size,
                width,
                channels,
                address(dy) + 4 * at,
                address(y) + 4 * at,
                address(argmax) + at,
                address(out) + (item * out.shape[2] + size * i) * row,
                row,
                4 * channels,
            )


def shortcut_gradient(dy: Array, y: Array, argmax: Array, size: int, height: int, width: int) -> Array:
    """(T, N, height, width, F): dy where y > 0, at the window's argmax, 0 elsewhere."""
    out = empty((*y.shape[:2], height, width, y.shape[4]))
    if height % size or width % size:
        out[...] = 0
    _scatter(dy, y, argmax, size, out)
    return out
