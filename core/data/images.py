"""Images on the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.ops import Ops
from core.random import Array


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

    def batch(self, indices: Array | slice, dtype: type = np.float32) -> tuple[Array, Array]:
        """The chosen images, x (1, n, C, H, W) scaled, shared by all trials, and their labels (n,)."""
        x = self.pixels[indices].astype(dtype)
        x *= dtype(self.scale)
        return x[None], self.labels[indices]
