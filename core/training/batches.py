"""Images on the device, and the order in which a training sees them."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import numpy as np

from core.random import Array, Purpose, permutation


def shuffled_batches(count: int, batch_size: int, seed: int, epoch: int, xp: ModuleType = np) -> Iterator[Array]:
    """The images of each step of an epoch (from 0), a new order each epoch; the last, short batch counts.

    A last batch of a single image, which batch normalisation could not normalise, joins the one before.

    The order depends on the data's seed and the epoch alone: all trials of a group see the same batches.
    """
    order = xp.asarray(permutation(seed, Purpose.ORDER, epoch, count))  # all at once: a copy a step would cost time
    steps = steps_in_epoch(count, batch_size)
    return iter(xp.split(order, [batch_size * step for step in range(1, steps)]))


def steps_in_epoch(count: int, batch_size: int) -> int:
    """How many batches so many images make."""
    return max(1, -(-(count - 1) // batch_size))
