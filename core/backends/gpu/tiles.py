"""How work is cut for the kernels: sizes of tiles, blocks of threads and their shared memory. Plain arithmetic.

Nothing here depends on the number of trials, so that a trial's sums run in the same order in every group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from math import ceil, prod

from core.config.architecture import KERNEL

LINE = 8  # channels in memory are a multiple of it
SHARED = 64 * 1024  # bytes of shared memory a block may have on every card since compute capability 7.5
PREFERRED = 40 * 1024  # with so many, a multiprocessor runs several blocks at once
THREADS = 192  # most of a block that convolves: ROW_OF_THREADS in convolution.cu
WARP = 32
TENSOR_PLACES = 48  # of a warp on tensor cores
PARTS = 64  # a batch is cut into about so many parts where a sum over images is shared out
FEW_CHANNELS = 4  # up to so many, images are convolved as they come


def padded_channels(channels: int) -> int:
    """Channels as they lie in memory."""
    return ceil(channels / LINE) * LINE


def width(channels: int) -> int:
    """How many of so many channels in memory a block takes: 32, 16 or 8."""
    return next(w for w in (32, 16, 8) if channels % w == 0)


@dataclass(frozen=True)
class Convolution:
    """A convolution's shape and tile, as struct Convolution in convolution.cu has them; channels as in memory."""

    images: int
    height: int
    width: int
    channels: int
    rows: int
    columns: int
    filters: int
    kernel: int
    pad: int
    tile_images: int = 0
    tile_rows: int = 0
    bands: int = 0
    chunk: int = 0

    @classmethod
    def of(cls, x: tuple[int, ...], filters: int, kernel: int, pad: int) -> Convolution:
        """For images x (N, C, H, W)."""
        n, c, height, across = x
        rows, columns = (size + 2 * pad - kernel + 1 for size in (height, across))
        return cls(n, height, across, padded_channels(c), rows, columns, padded_channels(filters), kernel, pad)

    def turned(self) -> Convolution:
        """The one that takes the gradient of the output to that of the input."""
        return Convolution(
            self.images, self.rows, self.columns, self.filters, self.height, self.width, self.channels, self.kernel,
            self.kernel - 1 - self.pad,
        )  # fmt: skip

    @property
    def taps(self) -> int:
        """Numbers of a filter for each channel."""
        return self.kernel**2

    @property
    def tiles(self) -> int:
        """Of all images."""
        return ceil(self.images / self.tile_images) * self.bands


@dataclass(frozen=True)
class Cut:
    """A convolution cut into tiles.

    shape    with its tile
    kernel   the end of its name: what it is made for
    threads  of a block
    shared   bytes of shared memory of a block
    """

    shape: Convolution
    kernel: str
    threads: int
    shared: int


def convolution(shape: Convolution, *, tensor: bool = False) -> Cut | None:
    """Tiles for `convolve` or, on tensor cores, `convolve_tensor`; None if not even one row of an image fits."""
    wide = width(shape.filters)
    across = wide // LINE
    most = TENSOR_PLACES * 8 if tensor else THREADS // across * 8  # places of a tile
    for chunk in {min(16, shape.channels): None, 8: None}:
        for images, rows in _tiles(shape, most):
            places = images * rows * shape.columns
            threads = ceil(places / TENSOR_PLACES) * WARP if tensor else ceil(ceil(places / 8) * across / WARP) * WARP
            cells = images * (rows + shape.kernel - 1) * (shape.columns + shape.kernel - 1)
            numbers = cells * (chunk + 4) + shape.taps * chunk * (wide + 8 * tensor)
            sums = (threads // 4 if tensor else ceil(places / 8)) * wide + THREADS // 2 + wide
            shared = 4 * max(numbers, sums)
            if shared <= SHARED:
                tile = replace(shape, tile_images=images, tile_rows=rows, bands=ceil(shape.rows / rows), chunk=chunk)
                return Cut(tile, f"{'tensor_' * tensor}{wide}", threads, shared)
    return None


def _tiles(shape: Convolution, most: int) -> Iterator[tuple[int, int]]:
    """Images and rows of tiles of at most so many places, the largest first; equal bands of an image."""
    for images in range(max(1, shape.images // PARTS), 0, -1):
        if images * shape.rows * shape.columns <= most:
            yield images, shape.rows
    for bands in range(2, shape.rows + 1):
        rows = ceil(shape.rows / bands)
        if rows * shape.columns <= most:
            yield 1, rows


@dataclass(frozen=True)
class Correlation:
    """The gradient of the filters, cut.

    cut     its tile is a strip of rows, its chunk the channels of a block
    images  of a group
    groups  of images
    slices  shares of a strip's rows, each of which gives a part of its own
    parts   in all
    blocks  of channels and filters
    """

    cut: Cut
    images: int
    groups: int
    slices: int
    parts: int
    blocks: int


def correlation(shape: Convolution, *, tensor: bool = False) -> Correlation | None:
    """Tiles for `correlate` or, where that has one for the shape, `correlate_tensor`; None if not even one row fits."""
    channels, filters = width(shape.channels), width(shape.filters)
    tensor = tensor and min(channels, filters) >= 16 and shape.kernel == KERNEL
    images = max(1, shape.images // PARTS)
    each = shape.taps * (channels // LINE) * (filters // LINE)
    for bands in range(1, shape.rows + 1):
        rows = ceil(shape.rows / bands)
        cells = (rows + shape.kernel - 1) * (shape.columns + shape.kernel - 1)
        shared = 4 * (cells * (channels + 4) + rows * shape.columns * (filters + 4))
        if tensor:
            shared = 4 * (cells * (channels + 8) + ceil(rows * shape.columns / 8) * 8 * (filters + 9))
        if shared <= PREFERRED or (rows == 1 and shared <= SHARED):
            slices = 1 if tensor else min(rows, 8, THREADS // each)
            tile = replace(shape, tile_images=1, tile_rows=rows, bands=ceil(shape.rows / rows), chunk=channels)
            kernel = f"tensor_{channels}_{filters}" if tensor else str(filters)
            threads = shape.taps * WARP if tensor else ceil(each * slices / WARP) * WARP
            cut = Cut(tile, kernel, threads, shared)
            blocks = (shape.channels // channels) * (shape.filters // filters)
            groups = ceil(shape.images / images)
            return Correlation(cut, images, groups, slices, groups * slices, blocks)
    return None


@dataclass(frozen=True)
class Cuts:
    """A convolution and its gradients, cut."""

    forward: Cut
    backward: Cut
    filters: Correlation


@cache
def cuts(shape: Convolution, *, tensor: bool = False) -> Cuts | None:
    """Tiles for a convolution and its gradients; None if there are none for one of them."""
    forward, backward = convolution(shape, tensor=tensor), convolution(shape.turned(), tensor=tensor)
    filters = correlation(shape, tensor=tensor)
    return Cuts(forward, backward, filters) if forward and backward and filters else None


@dataclass(frozen=True)
class Pictures:
    """The first block's shape, as struct Pictures in first_block.cu has it."""

    images: int
    channels: int
    height: int
    width: int
    rows: int
    columns: int
    filters: int
    pad: int
    pool: int
    shared: int
    band: int

    @property
    def gram(self) -> int:
        """Rows of the Gram matrix."""
        return self.channels * KERNEL**2 + 1

    @property
    def bands(self) -> int:
        """Bands of an image's pooled rows."""
        return ceil(self.rows // self.pool / self.band)

    @property
    def products_shared(self) -> int:
        """Bytes of shared memory for `first_products`."""
        return 4 * max(self._pixels(self.band * self.pool), 8 * self.gram * WARP)

    @property
    def block_shared(self) -> int:
        """Bytes of shared memory for `first_block`."""
        return 4 * (self._pixels(self.band * self.pool) + (self.gram + 2) * min(64, self.filters))

    def gram_shared(self, rows: int) -> int:
        """Bytes for so many rows of the convolution."""
        pairs = (blocks := ceil(self.gram / 4)) * (blocks + 1) // 2
        return 4 * ceil(self._pixels(rows) / 4) * 4 + 256 // pairs * pairs * 16 * 8

    @property
    def gram_rows(self) -> int:
        """Most rows of the convolution that a block of `gram` can take, in equal bands."""
        bands = next(b for b in range(1, self.rows + 1) if self.gram_shared(ceil(self.rows / b)) <= SHARED)
        return ceil(self.rows / bands)

    def _pixels(self, rows: int) -> int:
        return self.channels * (rows + KERNEL - 1) * (self.width + 2 * self.pad)


def pictures(x: tuple[int, ...], filters: int, pad: int, pool: int) -> Pictures | None:
    """For images x (T or 1, N, C, H, W); None if not even a pooled row fits, or nothing is left to pool."""
    trials, n, c, height, across = x
    rows, columns = (size + 2 * pad - KERNEL + 1 for size in (height, across))
    shape = Pictures(n, c, height, across, rows, columns, padded_channels(filters), pad, pool, int(trials == 1), 0)
    high = rows // pool
    if not prod((high, columns // pool)) or shape.gram_shared(1) > SHARED:
        return None
    for bands in range(1, high + 1):
        cut = replace(shape, band=ceil(high / bands))
        if max(cut.products_shared, cut.block_shared) <= PREFERRED:
            return cut
    return None
