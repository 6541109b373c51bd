"""Images on the device, and the order in which a training sees them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from core.ops import Ops
from core.random import Array, Purpose, permutation


@dataclass(frozen=True)
class Images:
    """Labelled images on the device, stored as they came and scaled batch by batch.

    pixels  (N, C, H, W) uint8 or float32
    labels  (N,) int64
    scale   the network's input is pixels * scale
    """

    pixels: Array
    labels: Array
    scale: float

    @classmethod
    def on_device(cls, ops: Ops, pixels: np.ndarray, labels: np.ndarray, scale: float) -> Images:
        """Copy to the memory that ops computes in."""
        return cls(ops.xp.asarray(pixels), ops.xp.asarray(labels), scale)

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, chosen: Array | slice, dtype: type = np.float32) -> tuple[Array, Array]:
        """The chosen images, x (1, n, C, H, W) scaled, shared by all trials, and their labels (n,)."""
        x = self.pixels[chosen].astype(dtype)
        x *= dtype(self.scale)
        return x[None], self.labels[chosen]


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
