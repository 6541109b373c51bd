"""How far activations spread, by layer, under each initialisation (He et al. 2015, section 2.2; report figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.config import INITIALS, KERNEL
from core.errors import InputError
from core.model import weight_std
from core.ops import Ops
from core.random import Array, Purpose, normal

BINS = np.linspace(0, 4, 41)  # edges of the histograms, in standard deviations of the input


@dataclass(frozen=True)
class InitStudy:
    """What comes out of each layer's ReLU; the input has mean 0 and standard deviation 1.

    schemes  T names of initialisations
    spread   (T, depth) standard deviation of the activations
    bins     (B + 1,) edges of the histograms' bins
    shares   (T, depth, B) share of the activations in each bin; the last one has all that is larger, too
    width    channels of a layer
    images   pushed through
    """

    schemes: tuple[str, ...]
    spread: np.ndarray
    bins: np.ndarray
    shares: np.ndarray
    width: int
    images: int


def init_study(
    ops: Ops, x: Array, *, depth: int = 8, width: int = 32, seed: int = 0, schemes: Sequence[str] = INITIALS
) -> InitStudy:
    """Push images through conv -> ReLU, depth times, without batch normalisation: the schemes are the trial axis.

    x      (1, N, C, H, W), of any scale: it is standardised, so that what the first layer does to the spread is its own
    depth  convolutions of 3x3 pixels, stride 1, zero padding 1: the image keeps its size
    width  filters of each
    seed   of the normal numbers that all schemes scale: their weights differ by a factor only

    Raises InputError if all of x's values are equal.
    """
    x = _standardised(ops, x)
    weights = _weights(ops, x.shape[2], depth, width, seed, schemes, x.dtype.type)
    bias = ops.xp.zeros((len(schemes), width), x.dtype)

    def forward(part: slice) -> tuple[np.ndarray, np.ndarray]:
        out, measured = x, []
        for w in weights:
            out, _ = ops.relu(ops.conv2d(out, w[part], bias[part], pad=1)[0])
            measured.append([_measure(ops.to_host(trial)) for trial in out])
        spread, shares = zip(*(zip(*layer, strict=True) for layer in measured), strict=True)
        return np.array(spread).T, np.array(shares).swapaxes(0, 1)

    parts = zip(*ops.map_trials(forward, len(schemes)), strict=True)
    spread, shares = (np.concatenate(values) for values in parts)
    return InitStudy(tuple(schemes), spread, BINS, shares, width, x.shape[1])


def _standardised(ops: Ops, x: Array) -> Array:
    """x with mean 0 and standard deviation 1 over all its values, as float32, which networks are trained in."""
    x = x.astype(np.float64)
    x -= x.mean()
    deviation = float(x.std())
    if deviation == 0:
        raise InputError("the images' pixels are all equal: nothing spreads from them; give other data")
    return (x / deviation).astype(np.float32)


def _weights(
    ops: Ops, channels: int, depth: int, width: int, seed: int, schemes: Sequence[str], dtype: Any
) -> list[Array]:
    """For each layer (T, width, C, 3, 3)."""
    weights = []
    for k in range(depth):
        shape = (width, width if k else channels, KERNEL, KERNEL)
        numbers = normal(np.array([seed]), Purpose.INITIAL + k, 0, int(np.prod(shape)))
        deviations = np.array([weight_std(scheme, shape) for scheme in schemes])
        weights.append(ops.xp.asarray((numbers * deviations[:, None]).reshape(-1, *shape), dtype=dtype))
    return weights


def _measure(activations: np.ndarray) -> tuple[float, np.ndarray]:
    """Standard deviation, and the share in each bin, of one trial's activations."""
    values = activations.ravel()
    counts, _ = np.histogram(np.minimum(values, BINS[-1]), BINS)
    return float(values.std(dtype=np.float64)), counts / len(values)
