"""What a trained network makes of images."""

from __future__ import annotations

import numpy as np

from core.config.architecture import Architecture
from core.data.images import Images
from core.network.model import arrays_of, predict, shortcut_of
from core.network.parameters import Model
from core.ops import Ops
from core.random import Array


def probabilities(ops: Ops, architecture: Architecture, model: Model, images: Images) -> np.ndarray:
    """What the only trial of a model gives each class, image by image: (N, L)."""
    parts = []
    for values, _ in predict(ops, architecture, model, images):
        values = ops.to_host(values[0]).astype(np.float64)
        exponentials = np.exp(values - values.max(axis=1, keepdims=True))
        parts.append(exponentials / exponentials.sum(axis=1, keepdims=True))
    return np.concatenate(parts)


def feature_maps(ops: Ops, architecture: Architecture, model: Model, x: Array) -> dict[str, np.ndarray]:
    """What the only trial of a model makes of one image, x (1, 1, C, H, W), in test mode: maps (F, H, W) by name.

    conv1 is the first convolution's output before batch norm, pool1 what its block passes on ("relu1" where it does
    not pool), and so on.
    """
    found: dict[str, np.ndarray] = {}
    source = x
    for layer in architecture.layers:
        i = layer.number
        names = "w", "b", "gamma", "beta", "running_mean", "running_var"
        w, b, gamma, beta, mean, variance = arrays_of(model, i, *names)
        convolved, _ = ops.conv2d(x, w, b, pad=layer.pad)
        found[f"conv{i}"] = ops.to_host(convolved[0, 0])
        shortcut, _ = shortcut_of(ops, layer, model, source)
        x = ops.block_inference(x, w, b, gamma, beta, mean, variance, shortcut, pad=layer.pad, pool=layer.pool)
        found[f"{'pool' if layer.pool > 1 else 'relu'}{i}"] = ops.to_host(x[0, 0])
        source = x if layer.ends_block else source
    return found
