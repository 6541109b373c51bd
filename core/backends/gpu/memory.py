"""What a training step takes of memory, with the kernels for a GPU."""

from __future__ import annotations

import math

from core.backends.gpu import tiles
from core.backends.reference.memory import FLOAT_BYTES, weights
from core.config.architecture import KERNEL, Architecture


def step_memory(architecture: Architecture, trials: int, batch_size: int) -> int:
    """Bytes at the peak of a step, in which all trials compute at the same time."""
    return FLOAT_BYTES * math.ceil(weights(architecture, trials) + trials * _values(architecture, batch_size))


def _values(architecture: Architecture, batch_size: int) -> float:
    """Numbers of a trial: what each convolution but the first gives; each block's pooled output, its gradient, and a
    byte for its index in the window; a shortcut and its gradient; the features, twice; and the most that the gradient
    of a layer's filters takes before its parts are added up.
    """
    each, parts = 3.0 * architecture.features, 0
    shapes = zip(architecture.layers, architecture.shapes, architecture.conv_shapes, strict=False)
    for layer, source, (filters, rows, columns) in shapes:
        values = tiles.padded_channels(filters) * rows * columns
        each += values * ((layer.number > 1) + 2.25 / layer.pool**2 + 3 * bool(layer.shortcut))
        shape = tiles.Convolution.of((batch_size, *source), filters, KERNEL, layer.pad)
        if layer.number > 1 and (cut := tiles.correlation(shape)):
            parts = max(parts, cut.parts * shape.taps * shape.channels * shape.filters)
    return batch_size * each + parts
