"""Convolutions and their gradients by themselves (convolution.cu, tensor_cores.cu)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from core.backends.gpu import tiles
from core.backends.gpu.device import Device, channels_last, contiguous, for_each, input_gradient, structure
from core.random import Array


def filters_last(device: Device, w: Array, *, backward: bool = False, rounded: bool = True) -> Array:
    """w (T, F, C, K, K) as `convolve` reads it: (T, K * K, C', F'); backward: turned, (T, K * K, F', C').

    Unless rounded, C' is C.
    """
    trials, f, c, kernel, _ = w.shape
    channels, filters = tiles.padded_channels(c) if rounded else c, tiles.padded_channels(f)
    result = device.empty((trials, kernel**2, *((filters, channels) if backward else (channels, filters))))
    targets = (None, result) if backward else (result, None)
    size = prod(result.shape[1:])
    for_each(
        device, "arrange_filters", size, trials, contiguous(device, w), *targets, kernel**2, c, f, channels, filters
    )
    return result


def convolve(
    device: Device, cut: tiles.Cut, x: Array, w: Array, bias: Array | None = None, *, moments: bool = False
) -> tuple[Array, Array | None]:
    """w (T, F, C, K, K) applied to x (T or 1, N, H, W, C'): (T, N, OH, OW, F'), and its tiles' moments if wanted."""
    shape, trials = cut.shape, len(w)
    z = device.empty((trials, shape.images, shape.rows, shape.columns, shape.filters))
    found = device.empty((trials, shape.tiles, 2, shape.filters)) if moments else None
    launch_convolution(
        device, "convolve", cut, trials, x, filters_last(device, w), bias, z, found, structure(shape), int(len(x) == 1)
    )
    return z, found


def launch_convolution(device: Device, kernel: str, cut: tiles.Cut, trials: int, *arguments: Any) -> None:
    """Launch a kernel of convolution.cu or tensor_cores.cu with a block of threads for each tile of each trial."""
    grid = (cut.shape.tiles, trials, cut.shape.filters // tiles.width(cut.shape.filters))
    device.launch(f"{kernel}_{cut.kernel}", grid, cut.threads, cut.shared, *arguments)


def filter_gradient(
    device: Device, kernel: str, cut: tiles.Correlation, w: Array, arguments: Sequence[Any], *flags: int
) -> Array:
    """dw from `correlate`: arguments come before the parts, flags after the shape."""
    (trials, f, c, size, _), shape, block = w.shape, cut.cut.shape, cut.cut
    parts = device.empty((trials, cut.parts, size**2, shape.channels, shape.filters))
    device.launch(
        f"{kernel}_{block.kernel}", (cut.groups, trials, cut.blocks), block.threads, block.shared,
        *arguments, parts, structure(shape), *flags, cut.images, cut.slices,
    )  # fmt: skip
    dw, numbers = device.empty(w.shape), prod(parts.shape[2:])
    sizes = (size**2, c, f, shape.channels, shape.filters)
    for_each(device, "sum_filters", numbers, trials, parts, dw, cut.parts, *sizes)
    return dw


def plain_gradient(
    device: Device, cuts: tiles.Cuts, dy: Array, x: Array, w: Array, *, need_dx: bool
) -> tuple[Array | None, Array, Array]:
    """dx, dw and db of a convolution by itself, for dy (T, N, F, OH, OW) and x (T or 1, N, H, W, C')."""
    gradient, shared = channels_last(device, dy), int(len(x) == 1)
    dw = filter_gradient(device, "correlate", cuts.filters, w, (x, gradient), shared)
    dx = None
    if need_dx:
        back, cut = device.empty((len(w), *x.shape[1:])), cuts.backward
        turned = filters_last(device, w, backward=True)
        launch_convolution(device, "convolve", cut, len(w), gradient, turned, None, back, None, structure(cut.shape), 0)
        dx = input_gradient(back, x, w.shape[2])
    return dx, dw, gradient[..., : w.shape[1]].sum(axis=(1, 2, 3))
