"""Random changes to the training images, on the device, drawn anew for every batch.

Draws depend on the data's seed, their purpose, the step and the place in the batch only, as the images' order does:
all trials see the same changes, each at its own strength, and trials of equal strengths see the same images.
"""

from __future__ import annotations

import math
import sys
from types import ModuleType

import numpy as np

from core.config import AUGMENTATIONS, Settings
from core.errors import InputError
from core.random import Array, Purpose, uniform

_GREY = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)


def augment(x: Array, strength: np.ndarray, seed: int, step: int) -> Array:
    """Change the images of a batch: crop, flip, rotate, then brightness, contrast, saturation, noise, cutout.

    x         (1, N, C, H, W), shared by all trials
    strength  (T, 8) on the host, a column for each of core.config.AUGMENTATIONS; 0: not at all
    seed      of the data
    step      counted from 0 through the whole training

    Returns (T, N, C, H, W) of x's type; (1, N, C, H, W) where all trials' strengths are equal, and x itself where they
    are 0. Values are not clipped to a range: images may have any.
    """
    kinds, which = np.unique(strength, axis=0, return_inverse=True)
    if not kinds.any():
        return x
    xp = sys.modules[type(x).__module__.partition(".")[0]]
    changed = [_Batch(xp, x[0], seed, step).change(**dict(zip(AUGMENTATIONS, kind, strict=True))) for kind in kinds]
    return changed[0][None] if len(kinds) == 1 else xp.stack([changed[k] for k in which.ravel()])


class _Batch:
    """One batch (N, C, H, W) on its way through the changes."""

    def __init__(self, xp: ModuleType, x: Array, seed: int, step: int) -> None:
        self.xp, self.x, self.seed, self.step = xp, x, seed, step

    def change(
        self,
        flip: float,
        crop: float,
        rotate: float,
        brightness: float,
        contrast: float,
        saturation: float,
        noise: float,
        cutout: float,
    ) -> Array:
        if flip or crop:
            self._crop_and_flip(int(crop), flip)
        if rotate:
            self._rotate(math.radians(rotate))
        if brightness or contrast or saturation:
            self._colour(brightness, contrast, saturation)
        if noise:
            self._noise(noise)
        if cutout:
            self._cutout(int(cutout))
        return self.x

    def _draw(self, purpose: Purpose, count: int) -> Array:
        """(count, N) uniform numbers in [0, 1)."""
        numbers = uniform(np.array([self.seed], np.uint64), purpose, self.step, count * len(self.x), self.xp)
        return numbers.reshape(len(self.x), count).T.astype(self.x.dtype)

    def _crop_and_flip(self, pixels: int, probability: float) -> None:
        """Pad with zeros, cut an image of the old size, mirror it left-right (Krizhevsky et al. 2012)."""
        xp, (n, c, height, width) = self.xp, self.x.shape
        down, right = (self._draw(Purpose.CROP, 2) * (2 * pixels + 1)).astype(xp.int64)
        mirrored = self._draw(Purpose.FLIP, 1)[0] < probability
        column = xp.arange(width)
        column = xp.where(mirrored[:, None], width - 1 - column, column) + right[:, None]
        row = xp.arange(height) + down[:, None]
        padded = xp.pad(self.x, ((0, 0), (0, 0), (pixels, pixels), (pixels, pixels)))
        place = row[:, :, None] * padded.shape[3] + column[:, None, :]
        flat = padded.reshape(n, c, -1)
        self.x = xp.take_along_axis(flat, place.reshape(n, 1, -1), axis=2).reshape(self.x.shape)

    def _rotate(self, most: float) -> None:
        """Turn about the centre by up to so many radians either way: bilinear, zero outside."""
        xp, (n, c, height, width) = self.xp, self.x.shape
        angle = (self._draw(Purpose.ROTATE, 1)[0] * 2 - 1) * self.x.dtype.type(most)
        sine, cosine = xp.sin(angle)[:, None, None], xp.cos(angle)[:, None, None]
        y = (xp.arange(height, dtype=self.x.dtype) - (height - 1) / 2)[:, None]
        x = (xp.arange(width, dtype=self.x.dtype) - (width - 1) / 2)[None, :]
        row = cosine * y + sine * x + (height - 1) / 2  # where each pixel comes from
        column = cosine * x - sine * y + (width - 1) / 2
        top, left = xp.floor(row), xp.floor(column)
        flat = self.x.reshape(n, c, -1)
        turned = xp.zeros_like(flat)
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
            share = (1 - abs(row - top - i)) * (1 - abs(column - left - j))
            there, here = (top + i).astype(xp.int64), (left + j).astype(xp.int64)
            inside = (there >= 0) & (there < height) & (here >= 0) & (here < width)
            place = xp.where(inside, there * width + here, 0).reshape(n, 1, -1)
            turned += xp.take_along_axis(flat, place, axis=2) * (share * inside).astype(flat.dtype).reshape(n, 1, -1)
        self.x = turned.reshape(self.x.shape)

    def _colour(self, brightness: float, contrast: float, saturation: float) -> None:
        """Scale all values; then their distance from the image's mean grey; then from the pixel's own grey."""
        strength = self.xp.asarray([[brightness], [contrast], [saturation]], dtype=self.x.dtype)
        factors = (1 + strength * (2 * self._draw(Purpose.COLOUR, 3) - 1))[:, :, None, None, None]
        self.x = self.x * factors[0]
        mean = self._grey().mean(axis=(2, 3), keepdims=True)
        self.x = mean + (self.x - mean) * factors[1]
        grey = self._grey()
        self.x = grey + (self.x - grey) * factors[2]

    def _grey(self) -> Array:
        """(N, 1, H, W): of three channels by how bright they look, else their mean."""
        channels = self.x.shape[1]
        shares = _GREY if channels == 3 else (1 / channels,) * channels
        return sum(self.x[:, k : k + 1] * self.x.dtype.type(share) for k, share in enumerate(shares))

    def _noise(self, deviation: float) -> None:
        """Add normal numbers (Box & Muller 1958)."""
        xp, count = self.xp, self.x.size
        u = uniform(np.array([self.seed], np.uint64), Purpose.NOISE, self.step, 2 * count, xp)[0].astype(self.x.dtype)
        radius = xp.sqrt(-2 * xp.log(u[:count] + self.x.dtype.type(2.0**-25)))  # the logarithm of 0 would be infinite
        normal = radius * xp.cos(2 * math.pi * u[count:])
        self.x = self.x + self.x.dtype.type(deviation) * normal.reshape(self.x.shape)

    def _cutout(self, side: int) -> None:
        """Zero a square whose centre is anywhere in the image (DeVries & Taylor 2017)."""
        xp, (_, _, height, width) = self.xp, self.x.shape
        draw = self._draw(Purpose.CUTOUT, 2)
        covered = []
        for place, length in zip(draw, (height, width), strict=True):
            first = (place * length).astype(xp.int64)[:, None] - side // 2
            covered.append((xp.arange(length) >= first) & (xp.arange(length) < first + side))
        self.x = xp.where(covered[0][:, None, :, None] & covered[1][:, None, None, :], self.x.dtype.type(0), self.x)


def check_fits(settings: Settings, input_shape: tuple[int, int, int]) -> None:
    """Raise InputError if crop or cutout is larger than the images (C, H, W)."""
    _, height, width = input_shape
    for name in ("crop", "cutout"):
        if (pixels := getattr(settings, name)) > min(height, width):
            raise InputError(f"{name} is {pixels}: larger than images of {height}x{width} pixels")
