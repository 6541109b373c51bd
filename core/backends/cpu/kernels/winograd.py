"""3x3 convolution with 4 times fewer products: Winograd's F(4x4, 3x3) (Lavin & Gray 2016).

An image, with zeros around it, is cut into tiles of 6x6 pixels that overlap by two; each gives 4x4 outputs. Tiles and
filters are transformed to 36 numbers per channel, for each of which a matrix product over the channels follows, and
the result is transformed back:

    y = A' ((G w G') . (B' x B)) A        and, for the gradients,
    dw = G' ((B' x B) . (A dy A')) G      dx = B ((G w G') . (A dy A')) B'

The transforms evaluate polynomials at 0, +-P, +-Q and infinity. With P and Q the roots of 1/2 and 2 they round about
half as much as with the usual 1 and 2 (Barabasz et al. 2020 on the choice of points).

Arrays in memory are (T, N, H, W, channels), channels a multiple of LANES. A trial's images are cut into PARTS, whatever
the number of trials or threads; a thread works through a part, some images at a time, whose tiles stay in its cache.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from numba import prange

from core.backends.cpu.kernels.batch_norm import PARTS, convolved_gradient
from core.backends.cpu.kernels.buffers import empty, scratch
from core.backends.cpu.kernels.gemm import gemm, packed, rounded, strided
from core.backends.cpu.kernels.jit import LANES, ROWS, kernel, parallel
from core.backends.cpu.kernels.pooling import clear, copy, moments
from core.backends.cpu.kernels.simd import VECTOR_BYTES, Code, Vector, address, program

TILE, OUT, POINTS = 6, 4, 36
P, Q = 0.5**0.5, 2.0**0.5
_CACHED = 2**18  # floats
MANY_FILTERS = 64 * 64

Column = list[Vector]


def _input(d: Column) -> Column:
    """B' d."""
    even, odd = d[4].add(-2.0, d[2]), d[3].add(-2.0, d[1])
    even2, odd2 = d[4].add(-0.5, d[2]), d[3].add(-0.5, d[1])
    first, last = (d[0] + d[4]).add(-2.5, d[2]), (d[1] + d[5]).add(-2.5, d[3])
    return [first, even.add(P, odd), even.add(-P, odd), even2.add(Q, odd2), even2.add(-Q, odd2), last]


def _output(m: Column) -> Column:
    """A' m."""
    s1, d1, s2, d2 = m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]
    return [m[0] + s1 + s2, (d1 * P).add(Q, d2), (s1 * 0.5).add(2.0, s2), m[5].add(P / 2, d1).add(2 * Q, d2)]


def _output_gradient(y: Column) -> Column:
    """A y."""
    even, odd = y[0].add(0.5, y[2]), y[1].add(0.5, y[3])
    even2, odd2 = y[0].add(2.0, y[2]), y[1].add(2.0, y[3])
    return [y[0], even.add(P, odd), even.add(-P, odd), even2.add(Q, odd2), even2.add(-Q, odd2), y[3]]


def _input_gradient(v: Column) -> Column:
    """B v."""
    s1, d1, s2, d2 = v[1] + v[2], v[1] - v[2], v[3] + v[4], v[3] - v[4]
    return [
        v[0],
        v[5].add(-2 * P, d1).add(-Q / 2, d2),
        (v[0] * -2.5).add(-2.0, s1).add(-0.5, s2),
        (v[5] * -2.5).add(P, d1).add(Q, d2),
        v[0] + s1 + s2,
        v[5],
    ]


def _filter(w: Column) -> Column:
    """G w."""
    even, even2 = w[0].add(0.5, w[2]) * (-2 / 3), w[0].add(2.0, w[2]) * (1 / 6)
    odd, odd2 = w[1] * (-2 / 3 * P), w[1] * (Q / 6)
    return [w[0], even + odd, even - odd, even2 + odd2, even2 - odd2, w[2]]


def _filter_gradient(u: Column) -> Column:
    """G' u."""
    s1, d1, s2, d2 = u[1] + u[2], u[1] - u[2], u[3] + u[4], u[3] - u[4]
    return [
        u[0].add(-2 / 3, s1).add(1 / 6, s2),
        (d1 * (-2 / 3 * P)).add(Q / 6, d2),
        u[5].add(-1 / 3, s1).add(1 / 3, s2),
    ]


def _transform(function: Callable[[Column], Column], size: int, *, add: bool = False) -> Any:
    """A program: function of the columns, then of the rows, of size x size vectors; add: to what is there."""

    def transform(
        code: Code, source: Any, row: Any, column: Any, target: Any, target_row: Any, target_column: Any
    ) -> None:
        columns = [
            function([code.load(code.at(source, (row, i), (column, j))) for i in range(size)]) for j in range(size)
        ]
        for i in range(len(columns[0])):
            for j, value in enumerate(function([done[i] for done in columns])):
                entry = code.at(target, (target_row, i), (target_column, j))
                code.store(code.load(entry) + value if add else value, entry)

    return program(transform)


_transform_input = _transform(_input, TILE)
_transform_output = _transform(_output, TILE)
_transform_output_gradient = _transform(_output_gradient, OUT)
_add_input_gradient = _transform(_input_gradient, TILE, add=True)
_transform_filter = _transform(_filter, 3)
_transform_filter_gradient = _transform(_filter_gradient, TILE)


# ------------------------------------------------------------------------------------------------------- one image


@kernel("void(int64, int64, int64, int64, int64, int64, int64)")
def _into_middle(x, height, width, channels, pad, padded, row):  # type: ignore[no-untyped-def]
    """Copy an image to the middle of one with zeros around it, whose rows are so many bytes long."""
    for i in range(height):
        copy(width * channels // LANES, x + 4 * i * width * channels, padded + (i + pad) * row + 4 * pad * channels)


@kernel("void(int64, int64, int64, int64, int64, int64, int64)")
def _from_middle(padded, row, height, width, channels, pad, x):  # type: ignore[no-untyped-def]
    """Copy such a middle out."""
    for i in range(height):
        copy(width * channels // LANES, padded + (i + pad) * row + 4 * pad * channels, x + 4 * i * width * channels)


@kernel("void(int64, int64, int64, int64, int64, int64)")
def _input_tiles(padded, down, across, channels, v, v_stride):  # type: ignore[no-untyped-def]
    """From an image to its tiles' rows of the 36 matrices."""
    row = 4 * (OUT * across + 2) * channels
    for i in range(down):
        for j in range(across):
            corner, entry = padded + OUT * (i * row + 4 * j * channels), v + 4 * (i * across + j) * channels
            for c in range(0, 4 * channels, VECTOR_BYTES):
                _transform_input(corner + c, row, 4 * channels, entry + c, TILE * v_stride, v_stride)


@kernel("void(int64, int64, int64, int64, int64, int64)")
def _output_tiles(m, m_stride, down, across, channels, y):  # type: ignore[no-untyped-def]
    """From the 36 matrices to an image of OUT * down x OUT * across pixels."""
    row = 4 * OUT * across * channels
    for i in range(down):
        for j in range(across):
            corner, entry = y + OUT * (i * row + 4 * j * channels), m + 4 * (i * across + j) * channels
            for c in range(0, 4 * channels, VECTOR_BYTES):
                _transform_output(entry + c, TILE * m_stride, m_stride, corner + c, row, 4 * channels)


@kernel("void(int64, int64, int64, int64, int64, int64)")
def _output_gradient_tiles(dy, down, across, channels, m, m_stride):  # type: ignore[no-untyped-def]
    row = 4 * OUT * across * channels
    for i in range(down):
        for j in range(across):
            corner, entry = dy + OUT * (i * row + 4 * j * channels), m + 4 * (i * across + j) * channels
            for c in range(0, 4 * channels, VECTOR_BYTES):
                _transform_output_gradient(corner + c, row, 4 * channels, entry + c, TILE * m_stride, m_stride)


@kernel("void(int64, int64, int64, int64, int64, int64)")
def _input_gradient_tiles(v, v_stride, down, across, channels, padded):  # type: ignore[no-untyped-def]
    """Sum what the tiles, which overlap, send to an image with a margin, which is zero at first."""
    row = 4 * (OUT * across + 2) * channels
    for i in range(down):
        for j in range(across):
            corner, entry = padded + OUT * (i * row + 4 * j * channels), v + 4 * (i * across + j) * channels
            for c in range(0, 4 * channels, VECTOR_BYTES):
                _add_input_gradient(entry + c, TILE * v_stride, v_stride, corner + c, row, 4 * channels)


# ----------------------------------------------------------------------------------------------------- a whole batch


def _images_together(images: int, tiles: int, channels: int, filters: int) -> int:
    """How many images' tiles, of a part's images, are multiplied at once.

    Many, to fill the rows of a product and to read the filters seldom; but no more than stay in the cache, or than
    take as much memory as the filters themselves.
    """
    budget = max(_CACHED, POINTS * channels * filters) // (POINTS * tiles * (channels + filters))
    most = max(1, min(images, budget))
    return min(range(1, most + 1), key=lambda count: (rounded(count * tiles, ROWS) + ROWS) / count)


def transformed_filters(w: np.ndarray) -> np.ndarray:
    """w (T, 3, 3, rows, columns), columns a multiple of LANES -> (T, 36, rows * columns), packed as gemm likes it."""
    trials, _, _, rows, columns = w.shape
    u = empty((trials, POINTS, rows * columns))
    if u.size < _CACHED:
        _transform_rows(w, u, 0, trials * rows)
    else:
        _transform_filters(w, u)
    return u


@kernel("void(float32[:,:,:,:,::1], float32[:,:,::1], int64, int64)")
def _transform_rows(w, u, first, last):  # type: ignore[no-untyped-def]
    _, _, _, rows, columns = w.shape
    step = 4 * rows * columns
    for row in range(first, last):
        t, r = row // rows, row % rows
        for j in range(0, columns, LANES):
            source = address(w) + 9 * step * t + 4 * (r * columns + j)
            target = address(u) + POINTS * step * t + 4 * packed(r, j, rows, columns)
            _transform_filter(source, 3 * step, step, target, TILE * step, step)


@parallel("void(float32[:,:,:,:,::1], float32[:,:,::1])")
def _transform_filters(w, u):  # type: ignore[no-untyped-def]
    for row in prange(w.shape[0] * w.shape[3]):
        _transform_rows(w, u, row, row + 1)


@kernel(
    "void(float32[:,:,:,:,::1], int64, int64, float32[:,:,::1], int64, float32[:,:,:,:,::1], float32[:,:,:,::1],"
    " int64, int64, int64[::1], int64[::1])"
)
def _convolve_part(x, t, part, u, pad, z, sums, scratch, together, rows, depths):  # type: ignore[no-untyped-def]
    images, out_height, out_width, filters = z.shape[1:]
    height, width, channels = x.shape[2:]
    down, across = -(-out_height // OUT), -(-out_width // OUT)
    tiles = down * across
    most = -(-together * tiles // ROWS) * ROWS
    v_stride, m_stride = 4 * (most * channels + LANES), 4 * (most * filters + LANES)
    v, m = scratch, scratch + POINTS * v_stride
    padded = m + POINTS * m_stride
    row = 4 * (OUT * across + 2) * channels
    grid = padded + (OUT * down + 2) * row
    clear((OUT * down + 2) * row // VECTOR_BYTES, padded)
    first, last = part * images // PARTS, (part + 1) * images // PARTS
    x_image, z_image = 4 * height * width * channels, 4 * out_height * out_width * filters
    x_start, z_start = address(x) + t % len(x) * images * x_image, address(z) + t * images * z_image
    pivot = address(sums) + 4 * 3 * filters * (t * PARTS + part)
    for n in range(first, last, together):
        count = min(together, last - n)
        for i in range(count):
            _into_middle(x_start + (n + i) * x_image, height, width, channels, pad, padded, row)
            _input_tiles(padded, down, across, channels, v + 4 * i * tiles * channels, v_stride)
        for point in range(POINTS):
            gemm(
                v + point * v_stride,
                address(rows),
                count * tiles,
                address(depths),
                channels,
                address(u) + 4 * (t * POINTS + point) * channels * filters,
                0,
                filters,
                m + point * m_stride,
                4 * filters,
                1,
            )
        for i in range(count):
            image = z_start + (n + i) * z_image
            _output_tiles(m + 4 * i * tiles * filters, m_stride, down, across, filters, grid)
            _from_middle(grid, 4 * OUT * across * filters, out_height, out_width, filters, 0, image)
            if n + i == first:
                copy(filters // LANES, image, pivot)
            step = 4 * filters
            for i_row in range(out_height):  # short sums round less
                for f in range(0, step, VECTOR_BYTES):
                    moments(out_width, image + i_row * out_width * step + f, step, pivot + f, pivot + step + f, step)


@parallel(
    "void(float32[:,:,:,:,::1], float32[:,:,::1], int64, float32[:,:,:,:,::1], float32[:,:,:,::1], float32[:,::1],"
    " int64, int64[::1], int64[::1])"
)
def _convolve(x, u, pad, z, sums, scratch, together, rows, depths):  # type: ignore[no-untyped-def]
    for item in prange(len(z) * PARTS):
        own = address(scratch) + 4 * scratch.shape[1] * numba.get_thread_id()
        _convolve_part(x, item // PARTS, item % PARTS, u, pad, z, sums, own, together, rows, depths)


def convolve(x: np.ndarray, w: np.ndarray, pad: int) -> tuple[np.ndarray, np.ndarray]:
    """x (T or 1, N, H, W, C), w (T, 3, 3, C, F) -> z (T, N, OH, OW, F), and its sums for batch_norm.statistics."""
    _, images, height, width, channels = x.shape
    trials, filters = len(w), w.shape[4]
    out = height + 2 * pad - 2, width + 2 * pad - 2
    z = empty((trials, images, *out, filters))
    sums = np.zeros((trials, PARTS, 3, filters), np.float32)
    together, most, floats = _workplace(images, PARTS, out, channels, filters)
    offsets = strided(most, channels), strided(channels, 1)
    _convolve(x, transformed_filters(w), pad, z, sums, scratch(floats), together, *offsets)
    return z, sums


@lru_cache(maxsize=64)
def _workplace(images: int, parts: int, out: tuple[int, int], channels: int, filters: int) -> tuple[int, int, int]:
    """Images at a time, rows of their products, and floats of scratch memory a thread needs."""
    down, across = (-(-size // OUT) for size in out)
    together = _images_together(-(-images // parts), down * across, channels, filters)
    most = rounded(together * down * across, ROWS)
    products = POINTS * (most * (channels + filters) + 2 * LANES + rounded(channels, ROWS) * filters)
    padded = (OUT * down + 2) * (OUT * across + 2) * channels
    return together, most, products + padded + OUT * OUT * down * across * filters


@kernel(
    "void(float32[:,:,:,:,::1], float32[:,:,:,:,::1], float32[:,:,:,:,::1], uint8[:,:,:,:,::1],"
    " float32[:,:,:,:,::1], float32[:,:,::1], int64, float32[:,:,::1], int64, int64, int64,"
    " float32[:,:,:,:,::1], float32[:,:,:,:,:,::1], int64, int64, int64[::1], int64[::1], int64[::1], int64[::1])"
)
def _gradient_part(  # type: ignore[no-untyped-def]
    x, dy, y, argmax, z, constants, pool, u, pad, t, part, dx, dw, scratch, together, x_rows, x_depths, m_rows, m_depths
):
    images, out_height, out_width, filters = z.shape[1:]
    height, width, channels = x.shape[2:]
    down, across = -(-out_height // OUT), -(-out_width // OUT)
    tiles = down * across
    most = -(-together * tiles // ROWS) * ROWS
    v_stride, m_stride = 4 * (most * channels + LANES), 4 * (most * filters + LANES)
    u_stride = 4 * (-(-channels // ROWS) * ROWS) * filters
    v, m = scratch, scratch + POINTS * v_stride
    du = m + POINTS * m_stride
    padded = du + POINTS * u_stride
    row, grid_row = 4 * (OUT * across + 2) * channels, 4 * OUT * across * filters
    grid = padded + (OUT * down + 2) * row
    clear(OUT * down * grid_row // VECTOR_BYTES, grid)
    parts = dw.shape[1]
    first, last = part * images // parts, (part + 1) * images // parts
    if first == last:
        clear(POINTS * u_stride // VECTOR_BYTES, du)
    x_image = 4 * height * width * channels
    x_start, dx_start = address(x) + t % len(x) * images * x_image, address(dx) + t * images * x_image
    for n in range(first, last, together):
        count = min(together, last - n)
        clear((OUT * down + 2) * row // VECTOR_BYTES, padded)
        for i in range(count):
            convolved_gradient(dy, y, argmax, z, constants, pool, t, n + i, grid, grid_row)
            _output_gradient_tiles(grid, down, across, filters, m + 4 * i * tiles * filters, m_stride)
            _into_middle(x_start + (n + i) * x_image, height, width, channels, pad, padded, row)
            _input_tiles(padded, down, across, channels, v + 4 * i * tiles * channels, v_stride)
        for point in range(POINTS):
            gemm(
                v + point * v_stride,
                address(x_depths),
                channels,
                address(x_rows),
                count * tiles,
                m + point * m_stride,
                4 * filters,
                filters,
                du + point * u_stride,
                4 * filters,
                1 if n == first else 0,
            )
        if dx.size == 0:
            continue
        for point in range(POINTS):
            gemm(
                m + point * m_stride,
                address(m_rows),
                count * tiles,
                address(m_depths),
                filters,
                address(u) + 4 * (t * POINTS + point) * channels * filters,
                0,
                channels,
                v + point * v_stride,
                4 * channels,
                1,
            )
        for i in range(count):
            clear((OUT * down + 2) * row // VECTOR_BYTES, padded)
            _input_gradient_tiles(v + 4 * i * tiles * channels, v_stride, down, across, channels, padded)
            _from_middle(padded, row, height, width, channels, pad, dx_start + (n + i) * x_image)
    step = 4 * channels * filters
    own = address(dw) + 9 * step * (t * dw.shape[1] + part)
    for f in range(0, step, VECTOR_BYTES):
        _transform_filter_gradient(du + f, TILE * u_stride, u_stride, own + f, 3 * step, step)


@parallel(
    "void(float32[:,:,:,:,::1], float32[:,:,:,:,::1], float32[:,:,:,:,::1], uint8[:,:,:,:,::1],"
    " float32[:,:,:,:,::1], float32[:,:,::1], int64, float32[:,:,::1], int64, float32[:,:,:,:,::1],"
    " float32[:,:,:,:,:,::1], float32[:,::1], int64, int64[::1], int64[::1], int64[::1], int64[::1])"
)
def _gradient(  # type: ignore[no-untyped-def]
    x, dy, y, argmax, z, constants, pool, u, pad, dx, dw, scratch, together, x_rows, x_depths, m_rows, m_depths
):
    parts = dw.shape[1]
    for item in prange(len(z) * parts):
        own = address(scratch) + 4 * scratch.shape[1] * numba.get_thread_id()
        _gradient_part(
            x,
            dy,
            y,
            argmax,
            z,
            constants,
            pool,
            u,
            pad,
            item // parts,
            item % parts,
            dx,
            dw,
            own,
            together,
            x_rows,
            x_depths,
            m_rows,
            m_depths,
        )


def convolve_gradient(
    x: np.ndarray,
    dy: np.ndarray,
    y: np.ndarray,
    argmax: np.ndarray,
    z: np.ndarray,
    constants: np.ndarray,
    pool: int,
    w: np.ndarray,
    pad: int,
    need_dx: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """From the gradient dy of a block's output to dx (T, N, H, W, C), empty unless needed, and dw (T, 3, 3, C, F).

    x, w, pad     what convolve was given; z what it returned
    y, argmax     the block's output and the index in its window of each value
    constants     (T, 4, F): see batch_norm.gradient_constants
    """
    _, images, height, width, channels = x.shape
    trials, filters = len(w), w.shape[4]
    dx = empty((trials, images, height, width, channels) if need_dx else (0,) * 5)
    few = channels * filters > MANY_FILTERS  # whose sums take long to write
    parts = empty((trials, PARTS // 2 if few else PARTS, 3, 3, channels, filters))
    together, most, floats = _workplace(images, parts.shape[1], z.shape[2:4], channels, filters)
    turned = transformed_filters(np.ascontiguousarray(w.swapaxes(3, 4))) if need_dx else empty((0,) * 3)
    offsets = strided(most, channels), strided(channels, 1), strided(most, filters), strided(filters, 1)
    _gradient(x, dy, y, argmax, z, constants, pool, turned, pad, dx, parts, scratch(floats), together, *offsets)
    return dx, parts.sum(axis=1)
