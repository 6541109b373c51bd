"""How far activations spread, by layer, under each initialisation (He et al. 2015, section 2.2; report figure 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from core.config.architecture import KERNEL, Architecture, Layer
from core.config.settings import Settings
from core.config.training import INITIALS
from core.errors import InputError
from core.network.model import shortcut_of
from core.network.parameters import Model, initial_model, weight_std
from core.ops import Ops
from core.random import Array, Purpose, normal

BINS = np.linspace(0, 4, 41)  # edges of the histograms, in standard deviations of the input


@dataclass(frozen=True)
class InitStudy:
    """What comes out of each layer's ReLU; the input has mean 0 and standard deviation 1.

    schemes  T names of initialisations
    std      (T, depth) standard deviation of the activations
    bins     (B + 1,) edges of the histograms' bins
    shares   (T, depth, B) share of the activations in each bin; the last one has all that is larger, too
    """

    schemes: tuple[str, ...]
    std: np.ndarray
    bins: np.ndarray
    shares: np.ndarray


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
    sources = [x.shape[2], *[width] * (depth - 1)]
    layers = [Layer(k, source, width, 1, 1, k, source) for k, source in enumerate(sources, start=1)]
    model = {}
    for k, source in enumerate(sources):
        shape = (width, source, KERNEL, KERNEL)
        numbers = normal(np.array([seed]), Purpose.INITIAL + k, 0, int(np.prod(shape)))
        deviations = np.array([weight_std(scheme, shape) for scheme in schemes])
        values = (numbers * deviations[:, None]).reshape(-1, *shape)
        model[f"w{k + 1}"] = ops.xp.asarray(values, dtype=np.float32)
    return _study(ops, x, layers, model, schemes)


def network_study(
    ops: Ops, x: Array, architecture: Architecture, seed: int = 0, schemes: Sequence[str] = INITIALS
) -> InitStudy:
    """The same for a network as its trials begin: its filters, padding, pooling and shortcuts, and their weights.

    x     (1, N, C, H, W), of any scale
    seed  of the trials

    Raises InputError if all of x's values are equal.
    """
    model = initial_model(architecture, [Settings(seed=seed, initial=scheme) for scheme in schemes], xp=ops.xp)
    return _study(ops, x, architecture.layers, model, schemes)


def _study(ops: Ops, x: Array, layers: Sequence[Layer], model: Model, schemes: Sequence[str]) -> InitStudy:
    x = _standardised(ops, x)

    def forward(part: slice) -> tuple[np.ndarray, np.ndarray]:
        weights = {name: values[part] for name, values in model.items()}
        measured = [[_measure(ops.to_host(trial)) for trial in out] for out in _activations(ops, layers, weights, x)]
        std, shares = zip(*(zip(*layer, strict=True) for layer in measured), strict=True)
        return np.array(std).T, np.array(shares).swapaxes(0, 1)

    parts = zip(*ops.map_trials(forward, len(schemes)), strict=True)
    std, shares = (np.concatenate(values) for values in parts)
    return InitStudy(tuple(schemes), std, BINS, shares)


def _activations(ops: Ops, layers: Sequence[Layer], model: Model, x: Array) -> Iterator[Array]:
    """What comes out of each layer's ReLU, before it is pooled."""
    source = x
    for layer in layers:
        w = model[f"w{layer.number}"]
        x, _ = ops.conv2d(x, w, ops.xp.zeros(w.shape[:2], w.dtype), pad=layer.pad)
        if layer.shortcut:
            x = x + shortcut_of(ops, layer, model, source)[0]
        x, _ = ops.relu(x)
        yield x
        x = ops.max_pool(x, size=layer.pool)[0] if layer.pool > 1 else x
        source = x if layer.ends_block else source


def _standardised(ops: Ops, x: Array) -> Array:
    """x with mean 0 and standard deviation 1 over all its values, as float32, which networks are trained in."""
    x = x.astype(np.float64)
    x -= x.mean()
    deviation = float(x.std())
    if deviation == 0:
        raise InputError("the images' pixels are all equal: nothing spreads from them; give other data")
    return (x / deviation).astype(np.float32)


def _measure(activations: np.ndarray) -> tuple[float, np.ndarray]:
    """Standard deviation, and the share in each bin, of one trial's activations."""
    values = activations.ravel()
    counts, _ = np.histogram(np.minimum(values, BINS[-1]), BINS)
    return float(values.std(dtype=np.float64)), counts / len(values)
