"""3x3 convolution of images of few channels, and with it the whole block: for the layer that reads the pictures.

With 27 values under a filter, what batch normalisation needs of a batch follows from the pictures alone. Let X hold the
values under the filter, a row for each output pixel, and a last column of ones. The 28 x 28 sums X'X, one matrix for
all trials, give every filter's mean and variance before anything is convolved, so that one pass convolves, normalises
and pools, and the raw outputs are never written down. Backwards, dy reaches few of them: with H = X'g of the scattered
dy, the gradients of batch normalisation and of the filters are H, X'X and the filters put together (see gradient).

Images are (T or 1, N, C, H, W); what comes out is (T, N, PH, PW, F), F a multiple of LANES.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numba
import numpy as np
from numba import prange

from core.backends.cpu.kernels.batch_norm import PARTS, normalise_row, scatter_row
from core.backends.cpu.kernels.buffers import empty, scratch
from core.backends.cpu.kernels.gemm import gemm, padded_rows, rounded
from core.backends.cpu.kernels.jit import LANES, kernel, parallel
from core.backends.cpu.kernels.simd import VECTOR_BYTES, Code, Vector, address, program

Array = np.ndarray
_UNROLLED = 4  # vectors added up at a time
BLOCK = _UNROLLED * LANES
_ZEROS = np.zeros(LANES, np.float32)


@program
def _multiply(code: Code, vectors: Any, a: Any, b: Any, product: Any) -> None:
    def one(addresses: list[Any], sums: list[Vector]) -> list[Vector]:
        code.store(code.load(addresses[0]) * code.load(addresses[1]), addresses[2])
        return []

    code.loop(vectors, [(a, VECTOR_BYTES), (b, VECTOR_BYTES), (product, VECTOR_BYTES)], [], one)


@program
def _dot(code: Code, blocks: Any, a: Any, b: Any, tail: Any, result: Any) -> None:
    """result = a . b, of so many blocks of _UNROLLED vectors, of which the last is multiplied by tail."""

    def block(addresses: list[Any], sums: list[Vector], mask: list[Vector] | None = None) -> list[Vector]:
        pairs = [[code.load(code.at(start, k * VECTOR_BYTES)) for start in addresses] for k in range(_UNROLLED)]
        if mask:
            pairs = [[first * kept, second] for (first, second), kept in zip(pairs, mask, strict=True)]
        return [total.add(first, second) for total, (first, second) in zip(sums, pairs, strict=True)]

    step = _UNROLLED * VECTOR_BYTES
    sums = code.loop(code.at(blocks, -1), [(a, step), (b, step)], [code.zero()] * _UNROLLED, block)
    skipped = code.builder.mul(code.at(blocks, -1), code.constant(step))
    ends = [code.builder.add(start, skipped) for start in (a, b)]
    first, second, third, fourth = block(
        ends, sums, [code.load(code.at(tail, k * VECTOR_BYTES)) for k in range(_UNROLLED)]
    )
    code.store_float(((first + second) + (third + fourth)).total(), result)


@kernel("void(int64, int64, int64, int64, float32[::1])")
def _blank(channels, height, width, pad, planes):  # type: ignore[no-untyped-def]
    """Planes of zeros for an image's channels, a plane of ones, and zeros behind."""
    plane = (height + 2 * pad) * (width + 2 * pad)
    planes[:] = 0.0
    planes[channels * plane : (channels + 1) * plane] = 1.0


@kernel("void(float32[:,:,:,:,::1], int64, int64, int64, float32[::1])")
def _fill(x, t, n, pad, planes):  # type: ignore[no-untyped-def]
    """Put an image into the middle of its planes."""
    _, _, channels, height, width = x.shape
    row = width + 2 * pad
    plane = (height + 2 * pad) * row
    for c in range(channels):
        for i in range(height):
            start = c * plane + (i + pad) * row + pad
            planes[start : start + width] = x[t, n, c, i]


class Geometry:
    """Where things lie in an image's planes, in floats.

    patch     each value under the filter, in the order of a filter's weights, and the one of the plane of ones
    pixels    the output pixels under one row of pooling windows, whose first is 0
    pairs     the products that X'X needs, and index, where in X'X each goes
    complete  every tap of a filter meets every pixel: only the distance of two taps counts
    mask      1 at output pixels, 0 at the ends of rows between them: where complete, zeros of the padding lie there
    """

    def __init__(self, channels: int, height: int, width: int, pad: int, pool: int) -> None:
        self.out_height, self.out_width = height + 2 * pad - 2, width + 2 * pad - 2
        self.windows = self.out_width // pool
        row = width + 2 * pad
        plane = (height + 2 * pad) * row
        grid = np.arange(pool)[:, None] * row + np.arange(self.windows * pool)
        taps = [(c, i, j) for c in range(channels) for i in range(3) for j in range(3)]
        self.patch = np.array([*(c * plane + i * row + j for c, i, j in taps), channels * plane])
        self.weights = len(taps)
        self.pixel_rows, self.pixel_depths = padded_rows(grid.ravel()), grid.ravel() * 4
        self.patch_rows, self.patch_depths = padded_rows(self.patch), self.patch[:-1] * 4
        length = (self.out_height - 1) * row + self.out_width
        self.mask = np.zeros(max(2, -(-length // BLOCK)) * BLOCK, np.float32)
        self.mask[:length] = np.arange(length) % row < self.out_width
        self.floats = rounded((channels + 1) * plane + len(self.mask), LANES)
        self.complete = pad == 2
        self.masked = not self.complete or length <= BLOCK
        self.pairs, self.index = self._pairs(taps)

    def _pairs(self, taps: list[tuple[int, int, int]]) -> tuple[Array, Array]:
        known: dict[Any, int] = {}
        pairs: list[tuple[int, int]] = []
        index = np.zeros((len(self.patch), len(self.patch)), np.int64)
        everywhere = [*taps, (-1, 0, 0)]
        for k, (c, i, j) in enumerate(everywhere):
            for m, (d, y, x) in enumerate(everywhere[: k + 1]):
                key = ((c, d) if c < 0 else (c, d, i - y, j - x)) if self.complete else (k, m)
                if key not in known:
                    known[key] = len(pairs)
                    pairs.append((self.patch[k], self.patch[m]))
                index[k, m] = index[m, k] = known[key]
        return np.array(pairs, np.int64), index


geometry = lru_cache(maxsize=64)(Geometry)


@parallel(
    "void(float32[:,:,:,:,::1], int64, int64[:,::1], float32[::1], boolean, float64[:,:,::1], float32[:,::1], int64)"
)
def _products(x, pad, pairs, mask, masks, sums, scratch, floats):  # type: ignore[no-untyped-def]
    _, images, channels, height, width = x.shape
    vectors = len(mask) // LANES
    for item in prange(len(x) * PARTS):
        t, part = item // PARTS, item % PARTS
        own = scratch[numba.get_thread_id()]
        planes = address(own)
        masked = planes + 4 * floats
        result = floats + len(mask)
        tail = address(mask) + 4 * len(mask) - _UNROLLED * VECTOR_BYTES
        _blank(channels, height, width, pad, own[:floats])
        for n in range(part * images // PARTS, (part + 1) * images // PARTS):
            _fill(x, t, n, pad, own)
            for p in range(len(pairs)):
                first = planes + 4 * pairs[p, 0]
                if masks:
                    if p == 0 or pairs[p, 0] != pairs[p - 1, 0]:
                        _multiply(vectors, first, address(mask), masked)
                    first = masked
                _dot(vectors // _UNROLLED, first, planes + 4 * pairs[p, 1], tail, planes + 4 * result)
                sums[t, part, p] += own[result]


@kernel("void(float64[:,:,::1], int64[:,::1], float64, float64[:,:,::1])")
def _assemble(sums, index, count, gram):  # type: ignore[no-untyped-def]
    trials, size, _ = gram.shape
    for t in range(trials):
        for k in range(size):
            for m in range(size):
                for part in range(PARTS):
                    gram[t, k, m] += sums[t, part, index[k, m]]
        gram[t, size - 1, size - 1] = count


def products(x: Array, planes: Geometry, pad: int) -> Array:
    """X'X of each trial's batch: (T or 1, 9 * C + 1, 9 * C + 1) float64."""
    sums = np.zeros((len(x), PARTS, len(planes.pairs)))
    memory = scratch(planes.floats + len(planes.mask) + LANES)
    _products(x, pad, planes.pairs, planes.mask, planes.masked, sums, memory, planes.floats)
    gram = np.zeros((len(x), *planes.index.shape))
    _assemble(sums, planes.index, float(x.shape[1] * planes.out_height * planes.out_width), gram)
    return gram


@parallel(
    "void(float32[:,:,:,:,::1], float32[:,:,::1], int64, int64, float32[:,:,::1], float32[:,:,:,:,::1],"
    " uint8[:,:,:,:,::1], int64[::1], int64[::1], float32[::1], float32[:,::1], int64)"
)
def _forward(x, w, pad, pool, table, y, argmax, rows, depths, zeros, scratch, floats):  # type: ignore[no-untyped-def]
    trials, images, height, width, channels = y.shape
    step, x_row = 4 * channels, 4 * (x.shape[4] + 2 * pad)
    for item in prange(trials * PARTS):
        t, part = item // PARTS, item % PARTS
        own = scratch[numba.get_thread_id()]
        planes = address(own)
        z = planes + 4 * floats
        raw = z + len(rows) * step
        _blank(x.shape[2], x.shape[3], x.shape[4], pad, own[:floats])
        for n in range(part * images // PARTS, (part + 1) * images // PARTS):
            _fill(x, t % len(x), n, pad, own)
            for i in range(height):
                gemm(
                    planes + i * pool * x_row,
                    address(rows),
                    pool * pool * width,
                    address(depths),
                    w.shape[1],
                    address(w) + 4 * t * w.shape[1] * channels,
                    step,
                    channels,
                    z,
                    step,
                    1,
                )
                at = ((t * images + n) * height + i) * width * channels
                for f in range(0, step, VECTOR_BYTES):
                    normalise_row(
                        pool,
                        width,
                        channels,
                        z,
                        pool * width * step,
                        step,
                        address(zeros),
                        0,
                        0,
                        address(table) + 3 * t * step,
                        step,
                        address(y) + 4 * at,
                        raw,
                        address(argmax) + at,
                        f,
                    )


def forward(x: Array, w: Array, table: Array, pad: int, pool: int) -> tuple[Array, Array]:
    """The block's output (T, N, PH, PW, F), and the index in its window of each value.

    x      (T or 1, N, C, H, W)
    w      (T, 9 * C, F)
    table  (T, 3, F): mean, scale and shift, as batch_norm.statistics makes it
    """
    planes = geometry(*x.shape[2:], pad, pool)
    shape = (len(w), x.shape[1], planes.out_height // pool, planes.windows, w.shape[2])
    y = empty(shape)
    argmax = empty(shape if pool > 1 else (0,) * 5, np.uint8)
    buffer = (len(planes.pixel_rows) + planes.windows) * w.shape[2]
    _forward(
        x,
        w,
        pad,
        pool,
        table,
        y,
        argmax,
        planes.pixel_rows,
        planes.patch_depths,
        _ZEROS,
        scratch(planes.floats + buffer),
        planes.floats,
    )
    return y, argmax


@parallel(
    "void(float32[:,:,:,:,::1], float32[:,:,:,:,::1], float32[:,:,:,:,::1], uint8[:,:,:,:,::1], int64, int64,"
    " float64[:,:,:,::1], int64[::1], int64[::1], float32[:,::1], int64)"
)
def _gradient(x, dy, y, argmax, pad, pool, sums, rows, depths, scratch, floats):  # type: ignore[no-untyped-def]
    trials, images, height, width, channels = y.shape
    step, x_row = 4 * channels, 4 * (x.shape[4] + 2 * pad)
    for item in prange(trials * PARTS):
        t, part = item // PARTS, item % PARTS
        own = scratch[numba.get_thread_id()]
        planes = address(own)
        product = floats + len(depths) * channels
        g, h = planes + 4 * floats, planes + 4 * product
        _blank(x.shape[2], x.shape[3], x.shape[4], pad, own[:floats])
        for n in range(part * images // PARTS, (part + 1) * images // PARTS):
            _fill(x, t % len(x), n, pad, own)
            for i in range(height):
                at = ((t * images + n) * height + i) * width * channels
                scatter_row(
                    pool,
                    width,
                    channels,
                    address(dy) + 4 * at,
                    address(y) + 4 * at,
                    address(argmax) + at,
                    g,
                    pool * width * step,
                    step,
                )
                gemm(
                    planes + i * pool * x_row,
                    address(rows),
                    sums.shape[2],
                    address(depths),
                    len(depths),
                    g,
                    step,
                    channels,
                    h,
                    step,
                    1 if i == 0 else 0,
                )
            for k in range(sums.shape[2]):
                for f in range(channels):
                    sums[t, part, k, f] += np.float64(own[product + k * channels + f])


def gradient_products(x: Array, dy: Array, y: Array, argmax: Array, pad: int, pool: int) -> Array:
    """X'g (T, PARTS, 9 * C + 1, F) float64 of each part of the images, g being dy where y > 0 at the pixel y is of."""
    planes = geometry(*x.shape[2:], pad, pool)
    filters = y.shape[4]
    sums = np.zeros((len(y), PARTS, len(planes.patch), filters))
    memory = scratch(planes.floats + (len(planes.pixel_depths) + len(planes.patch_rows)) * filters)
    _gradient(x, dy, y, argmax, pad, pool, sums, planes.patch_rows, planes.pixel_depths, memory, planes.floats)
    return sums


# ------------------------------------------------------------------------------------ what follows from the products


@kernel("void(float64[:,::1], float32[:,::1], int64, float64[::1])")
def _row(gram, w, k, row):  # type: ignore[no-untyped-def]
    """Row k of X'X w, of so many filters as there is room for."""
    row[:] = 0
    for j in range(len(w)):
        for f in range(len(row)):
            row[f] += gram[k, j] * w[j, f]


@kernel(
    "void(float64[:,:,::1], float32[:,:,::1], float32[:,:], float32[:,:], float64, float64[:,::1], float64[:,::1],"
    " float32[:,:,::1])"
)
def _statistics(gram, w, gamma, beta, eps, mean, variance, table):  # type: ignore[no-untyped-def]
    trials, filters = mean.shape
    row, taps = np.empty(filters), w.shape[1]
    for t in range(trials):
        sums = gram[t % len(gram)]
        mean[t], variance[t] = 0, 0
        for k in range(taps):
            _row(sums, w[t], k, row)
            for f in range(filters):
                mean[t, f] += sums[taps, k] * w[t, k, f]
                variance[t, f] += w[t, k, f] * row[f]
        count = sums[taps, taps]
        for f in range(filters):
            mean[t, f] /= count
            variance[t, f] = variance[t, f] / count - mean[t, f] * mean[t, f]
            if variance[t, f] < 0:
                variance[t, f] = 0
            table[t, 0, f] = mean[t, f]
            table[t, 1, f] = gamma[t, f] / np.sqrt(variance[t, f] + eps)
            table[t, 2, f] = beta[t, f]


def statistics(gram: Array, w: Array, gamma: Array, beta: Array, eps: float) -> tuple[Array, Array, Array]:
    """As batch_norm.statistics, from X'X."""
    trials, filters = gamma.shape
    mean, variance = np.empty((2, trials, filters))
    table = np.zeros((trials, 3, w.shape[2]), np.float32)
    _statistics(gram, w, gamma, beta, eps, mean, variance, table)
    return mean, variance, table


@kernel(
    "void(float64[:,:,::1], float64[:,:,:,::1], float32[:,:,::1], float64[:,::1], float64[:,::1], float32[:,:],"
    " float32[:,:,::1], float32[:,::1], float32[:,::1])"
)
def _put_together(gram, products, w, mean, inverse, gamma, dw, dgamma, dbeta):  # type: ignore[no-untyped-def]
    trials, filters, taps = dw.shape
    row, slope, h = np.empty(filters), np.empty(filters), np.empty((taps + 1, filters))
    for t in range(trials):
        sums = gram[t % len(gram)]
        count = sums[taps, taps]
        h[:], slope[:] = 0, 0
        for part in range(PARTS):
            for k in range(taps + 1):
                for f in range(filters):
                    h[k, f] += products[t, part, k, f]
        for k in range(taps):
            for f in range(filters):
                slope[f] += w[t, k, f] * h[k, f]
        for f in range(filters):
            dbeta[t, f] = h[taps, f]
            slope[f] = inverse[t, f] * (slope[f] - mean[t, f] * h[taps, f])
            dgamma[t, f] = slope[f]
        for k in range(taps):
            _row(sums, w[t], k, row)
            for f in range(filters):
                about_mean = row[f] - sums[taps, k] * mean[t, f]
                dz = h[k, f] - (sums[taps, k] * h[taps, f] + about_mean * inverse[t, f] * slope[f]) / count
                dw[t, f, k] = gamma[t, f] * inverse[t, f] * dz


def gradient(
    gram: Array, products: Array, w: Array, mean: Array, inverse: Array, gamma: Array
) -> tuple[Array, Array, Array]:
    """dw (T, F, 9 * C), dgamma and dbeta (T, F), all of the unpadded filters.

    products  what gradient_products returned

    With dz = gamma * inverse * (g - dbeta / n - (z - mean) * inverse * dgamma / n) and z = X w, dw = X'dz is
    a sum of X'g, the column sums of X, and X'X w.
    """
    trials, filters = gamma.shape
    dw = np.empty((trials, filters, w.shape[1]), np.float32)
    dgamma, dbeta = np.empty((2, trials, filters), np.float32)
    _put_together(gram, products, w, mean, inverse, gamma, dw, dgamma, dbeta)
    return dw, dgamma, dbeta
