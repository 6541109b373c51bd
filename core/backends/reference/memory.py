"""What a training step takes of memory."""

from __future__ import annotations

import math

from core.backends.reference.plain import SLAB_BYTES
from core.config.architecture import Architecture
from core.machine import hardware, threads
from core.network.parameters import parameter_shapes

FLOAT_BYTES = 4  # of a float32


def free_memory() -> int:
    """Bytes that this process can still get."""
    return hardware.available_memory()


def step_memory(architecture: Architecture, trials: int, batch_size: int) -> int:
    """Bytes at the peak of a step, beyond the data and the program: the weights of all trials, and what those that
    compute at the same time, a thread each, make of a batch.
    """
    at_work = min(trials, threads.count())
    values = weights(architecture, trials) + at_work * batch_size * _values(architecture)
    return FLOAT_BYTES * values + at_work * SLAB_BYTES


def weights(architecture: Architecture, trials: int) -> int:
    """Numbers in the weights (current, best, gradient, an optimiser's two) of so many trials."""
    return 5 * trials * sum(math.prod(shape) for shape in parameter_shapes(architecture).values())


def layer_sizes(architecture: Architecture) -> tuple[list[int], list[int]]:
    """How many numbers each convolution gives for an image, and how many of them pooling leaves."""
    return [math.prod(s) for s in architecture.conv_shapes], [math.prod(s) for s in architecture.shapes[1:]]


def _values(architecture: Architecture) -> int:
    """Numbers for each image of a trial at work: each block's centred output and its pooled one, saved for the
    gradient; on top, the largest block's output three times over while it is normalised, or its gradient is.
    """
    conv, pooled = layer_sizes(architecture)
    return sum(conv) + 2 * sum(pooled) + 3 * max(conv)
