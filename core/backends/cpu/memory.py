"""What a training step takes of memory, with the kernels for a CPU."""

from __future__ import annotations

import math

from core.backends.reference.memory import FLOAT_BYTES, layer_sizes, weights
from core.config.architecture import Architecture


def step_memory(architecture: Architecture, trials: int, batch_size: int) -> int:
    """Bytes at the peak of a step, in which all trials compute at the same time."""
    return FLOAT_BYTES * math.ceil(weights(architecture, trials) + trials * batch_size * _values(architecture))


def _values(architecture: Architecture) -> float:
    """Numbers for each image of a trial: what each convolution but the first gives; each block's pooled output, the
    same as it was convolved, its gradient, and a byte for its index in the window; and dropout's draws while they are
    made.
    """
    conv, pooled = layer_sizes(architecture)
    return sum(conv[1:]) + 3.25 * sum(pooled) + 6 * architecture.features
