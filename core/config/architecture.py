"""The network that trials of a group share."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property

from core.errors import InputError

KERNEL, PAD, POOL = 3, 2, 2  # convolution width, its zero padding, pooling window and stride (report 3.1 and 8.1)
EPSILON = 1e-5  # added to the variance by batch normalisation
MOMENTUM = 0.9  # running = MOMENTUM * running + (1 - MOMENTUM) * batch
RESIDUAL_PAD = 1  # of a residual block's convolutions: its input is added, so its size must not change


@dataclass(frozen=True)
class Layer:
    """One convolution and what follows it: conv -> batch norm (-> add the shortcut) -> ReLU (-> max pool).

    number    from 1: the layer's arrays are w1, b1, gamma1, ...
    channels  (C) it reads
    filters   (F) it makes
    pad       zero padding on each side
    pool      window and stride of the pooling; 1: none
    block     of the network that it belongs to, from 1
    source    channels of its block's input
    shortcut  what it adds before its ReLU: "" nothing, "identity" its block's input, "projection" that after a 1x1
              convolution with the array p<number>
    ends_block  whether it is the last one of its block
    """

    number: int
    channels: int
    filters: int
    pad: int
    pool: int
    block: int
    source: int
    shortcut: str = ""
    ends_block: bool = True


@dataclass(frozen=True)
class Architecture:
    """The shapes that all trials of a group share.

    input_shape  (C, H, W) of an image
    filters      output channels of each block
    classes      outputs of the linear layer
    pool         whether each block ends with max pooling; (): as in the report, wherever there is something to pool
    residual     a block is not one padded convolution, as in the report, but two of unchanged size, and its input is
                 added before the last ReLU (He et al. 2016, equations 1 and 2)
    global_pool  the linear layer reads each channel's mean over the image (Lin et al. 2014), not every pixel

    Raises InputError if a block is left without a pixel, or pool does not fit filters.
    """

    input_shape: tuple[int, int, int]
    filters: tuple[int, ...]
    classes: int
    pool: tuple[bool, ...] = ()
    residual: bool = False
    global_pool: bool = False

    def __post_init__(self) -> None:
        if self.pool and len(self.pool) != len(self.filters):
            raise InputError(f"pool speaks of {len(self.pool)} blocks, but there are {len(self.filters)}")
        for block, (_, height, width) in zip((0, *(layer.block for layer in self.layers)), self.shapes, strict=True):
            if min(height, width) < 1:
                raise InputError(
                    f"images of {self.input_shape[1]}x{self.input_shape[2]} pixels leave none after block {block} of "
                    f"{len(self.filters)}: use fewer blocks, less pooling or larger images"
                )

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The convolutions in their order."""
        layers: list[Layer] = []
        source, *size = self.input_shape
        pad = RESIDUAL_PAD if self.residual else PAD
        for block, filters in enumerate(self.filters, start=1):
            channels, shortcut = source, ""
            if self.residual:
                layers.append(Layer(len(layers) + 1, source, filters, pad, 1, block, source, ends_block=False))
                channels, shortcut = filters, "identity" if source == filters else "projection"
            size = [length + 2 * pad - KERNEL + 1 for length in size]
            pools = self.pool[block - 1] if self.pool else min(size) >= POOL
            pool = POOL if pools else 1
            layers.append(Layer(len(layers) + 1, channels, filters, pad, pool, block, source, shortcut))
            size = [length // pool for length in size]
            source = filters
        return tuple(layers)

    @cached_property
    def conv_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(C, H, W) of each layer before its pooling."""
        shapes = []
        _, height, width = self.input_shape
        for layer in self.layers:
            height, width = (size + 2 * layer.pad - KERNEL + 1 for size in (height, width))
            shapes.append((layer.filters, height, width))
            height, width = height // layer.pool, width // layer.pool
        return tuple(shapes)

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """(C, H, W) of the input and after each layer."""
        after = zip(self.layers, self.conv_shapes, strict=True)
        return [
            self.input_shape,
            *((c, height // layer.pool, width // layer.pool) for layer, (c, height, width) in after),
        ]

    @property
    def features(self) -> int:
        """Inputs of the linear layer."""
        return self.filters[-1] if self.global_pool else math.prod(self.shapes[-1])


def parse_filters(text: str) -> tuple[int, ...]:
    """ "32x64" -> (32, 64): the output channels of each block."""
    if not re.fullmatch(r"[1-9][0-9]{0,4}(x[1-9][0-9]{0,4})*", text):
        raise InputError(f'filters is "{text}": write the output channels of each block, like "32x64"')
    return tuple(int(part) for part in text.split("x"))


def parse_pool(text: str) -> tuple[bool, ...]:
    """ "yes/no" -> (True, False): whether each block pools; "auto" -> (): wherever it can."""
    if text == "auto":
        return ()
    parts = text.split("/")
    if not set(parts) <= {"yes", "no"}:
        raise InputError(f'pool is "{text}": write "auto", or yes or no for each block, like "yes/no"')
    return tuple(part == "yes" for part in parts)
