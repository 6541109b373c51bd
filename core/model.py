"""The network: parameters, forward and backward, for any number of conv blocks.

A model is a dict of arrays (T, ...), named as in the .npz files: w1, b1, gamma1, beta1, running_mean1,
running_var1 for the first convolution and so on, then w and b of the linear layer with the next number. The 1x1
projection of a shortcut is p<number of the convolution whose output it joins>.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from core.batches import Images
from core.config import KERNEL, MOMENTUM, Architecture, Hyperparameters, Layer, Settings
from core.errors import InputError
from core.ops import Ops
from core.random import Array, Purpose, normal

Model = dict[str, Array]
SMALL = 0.01  # standard deviation of the "normal" initialisation (report table 1)


def parameter_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Name and shape, without the trial axis, of every array of a model, in the files' order."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in architecture.layers:
        shapes[f"w{layer.number}"] = (layer.filters, layer.channels, KERNEL, KERNEL)
        for name in ("b", "gamma", "beta", "running_mean", "running_var"):
            shapes[f"{name}{layer.number}"] = (layer.filters,)
        if layer.shortcut == "projection":
            shapes[f"p{layer.number}"] = (layer.filters, layer.source, 1, 1)
    last = len(architecture.layers) + 1
    shapes[f"w{last}"] = (architecture.features, architecture.classes)
    shapes[f"b{last}"] = (architecture.classes,)
    return shapes


@cache
def is_weight(name: str) -> bool:
    """True for the conv, projection and linear weights: the tensors with L2 regularisation."""
    return re.fullmatch(r"[wp]\d+", name) is not None


@cache
def is_bias(name: str) -> bool:
    """True for the conv and linear biases: the tensors that are not clipped."""
    return re.fullmatch(r"b\d+", name) is not None


def weight_std(scheme: str, shape: tuple[int, ...]) -> float:
    """Standard deviation of a weight's initial values.

    he      sqrt(2 / fan_in)              (He et al. 2015)
    xavier  sqrt(2 / (fan_in + fan_out))  (Glorot & Bengio 2010)
    normal  0.01, whatever the shape
    """
    field = math.prod(shape[2:])
    inputs, outputs = (shape[1] * field, shape[0] * field) if len(shape) == 4 else shape
    return {"he": math.sqrt(2 / inputs), "xavier": math.sqrt(2 / (inputs + outputs)), "normal": SMALL}[scheme]


def initial_model(
    architecture: Architecture, trials: Sequence[Settings], dtype: type = np.float32, xp: ModuleType = np
) -> Model:
    """Initial values of each trial, from its own seed: weights normal, biases 0, gamma 1, beta 0, running 0 and 1."""
    seeds, which = np.unique([trial.seed for trial in trials], return_inverse=True)
    model: Model = {}
    for k, (name, shape) in enumerate(parameter_shapes(architecture).items()):
        if is_weight(name):
            std = np.array([weight_std(trial.initial, shape) for trial in trials])
            values = normal(seeds, Purpose.INITIAL + k, 0, math.prod(shape))[which] * std[:, None]
        else:
            values = np.full((len(trials), math.prod(shape)), float(name.startswith(("gamma", "running_var"))))
        model[name] = xp.asarray(values.reshape(len(trials), *shape), dtype=dtype)
    return model


def loss_and_gradients(
    ops: Ops, architecture: Architecture, model: Model, x: Array, labels: Array, trials: Hyperparameters, step: int
) -> tuple[Array, Array, Model, Model]:
    """One forward and backward pass in training mode.

    x       (1, N, C, H, W), shared by the trials
    labels  (N,)
    step    counted from 0 through the whole training: decides what drops out

    Returns each image's cross entropy (T, N), whether it was classified rightly (T, N), the gradients of the
    trained parameters without L2, and the batch's statistics under their running names.
    """
    xp = ops.xp
    saved: list[tuple[Any, Any]] = []
    statistics: Model = {}
    source = x  # of the block: what its shortcut adds
    for layer in architecture.layers:
        i = layer.number
        shortcut, projected = shortcut_of(ops, layer, model, source)
        x, statistics[f"running_mean{i}"], statistics[f"running_var{i}"], kept = ops.block(
            x, *_arrays(model, i, "w", "b", "gamma", "beta"), shortcut, pad=layer.pad, pool=layer.pool
        )
        saved.append((kept, projected))
        source = x if layer.ends_block else source
    if architecture.global_pool:
        x, pooled = ops.mean_pool(x)
    last = len(architecture.layers) + 1
    loss, correct, kept = ops.head(x, *_arrays(model, last, "w", "b"), labels, trials.dropout, trials.seed, step)

    weight = xp.where(xp.asarray(trials.sums), 1.0, 1.0 / len(labels)).astype(loss.dtype)
    dloss = xp.repeat(weight, len(labels)).reshape(loss.shape)
    gradients: Model = {}
    dx, gradients[f"w{last}"], gradients[f"b{last}"] = ops.head_grad(dloss, kept)
    if architecture.global_pool:
        dx = ops.mean_pool_grad(dx, pooled)
    dsource = None  # what reaches the block's input by its shortcut
    for layer in reversed(architecture.layers):
        i = layer.number
        kept, projected = saved.pop()
        dx, dw, db, dgamma, dbeta, dshortcut = ops.block_grad(dx, kept, need_dx=i > 1)
        gradients |= {f"w{i}": dw, f"b{i}": db, f"gamma{i}": dgamma, f"beta{i}": dbeta}
        if layer.shortcut == "projection":
            dsource, gradients[f"p{i}"], _ = ops.conv2d_grad(dshortcut, projected, need_dx=layer.block > 1)
        elif layer.shortcut == "identity":
            dsource = dshortcut
        elif dsource is not None and dx is not None:
            dx += dsource
            dsource = None
    return loss, correct, gradients, statistics


def _arrays(model: Model, number: int, *names: str) -> Iterator[Array]:
    return (model[f"{name}{number}"] for name in names)


def shortcut_of(ops: Ops, layer: Layer, model: Model, source: Array) -> tuple[Array | None, Any]:
    """What the layer adds before its ReLU, and what the gradient of that needs."""
    if layer.shortcut != "projection":
        return (source if layer.shortcut else None), None
    projection = model[f"p{layer.number}"]
    result: tuple[Array, Any] = ops.conv2d(
        source, projection, ops.xp.zeros(projection.shape[:2], projection.dtype), pad=0
    )
    return result


def track_statistics(model: Model, statistics: Model) -> None:
    """Move the running statistics towards the batch's, in place."""
    for name, batch in statistics.items():
        model[name] *= MOMENTUM
        model[name] += batch * (1 - MOMENTUM)


def logits(ops: Ops, architecture: Architecture, model: Model, x: Array) -> Array:
    """Outputs of the linear layer in test mode: running statistics, no dropout. x (1, N, C, H, W) -> (T, N, L)."""
    source = x
    for layer in architecture.layers:
        arrays = _arrays(model, layer.number, "w", "b", "gamma", "beta", "running_mean", "running_var")
        shortcut, _ = shortcut_of(ops, layer, model, source)
        x = ops.block_inference(x, *arrays, shortcut, pad=layer.pad, pool=layer.pool)
        source = x if layer.ends_block else source
    if architecture.global_pool:
        x, _ = ops.mean_pool(x)
    outputs: Array = ops.head_inference(x, *_arrays(model, len(architecture.layers) + 1, "w", "b"))
    return outputs


def predict(
    ops: Ops, architecture: Architecture, model: Model, images: Images, batch_size: int = 128
) -> Iterator[tuple[Array, Array]]:
    """Batch by batch in the images' order: logits (T, n, L) and labels (n,), on the device."""
    dtype = model["w1"].dtype.type
    for start in range(0, len(images), batch_size):
        x, labels = images.batch(slice(start, start + batch_size), dtype)
        yield logits(ops, architecture, model, x), labels


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
        convolved, _ = ops.conv2d(x, *_arrays(model, i, "w", "b"), pad=layer.pad)
        found[f"conv{i}"] = ops.to_host(convolved[0, 0])
        arrays = _arrays(model, i, "w", "b", "gamma", "beta", "running_mean", "running_var")
        shortcut, _ = shortcut_of(ops, layer, model, source)
        x = ops.block_inference(x, *arrays, shortcut, pad=layer.pad, pool=layer.pool)
        found[f"{'pool' if layer.pool > 1 else 'relu'}{i}"] = ops.to_host(x[0, 0])
        source = x if layer.ends_block else source
    return found


def form(architecture: Architecture) -> dict[str, np.ndarray]:
    """What a file must tell of a network beside its parameters: nothing for the report's form."""
    told = {"pool": architecture.pool, "residual": architecture.residual, "global_pool": architecture.global_pool}
    return {name: np.array(value, np.uint8) for name, value in told.items() if value}


def architecture_of(
    model: Mapping[str, np.ndarray], input_shape: tuple[int, int, int], classes: Sequence[str] = ()
) -> Architecture:
    """The architecture of one trial's arrays (no trial axis) for images of input_shape (C, H, W).

    classes  that the images are of, where that matters

    Raises InputError if arrays are missing, or do not fit each other, the images or their classes.
    """
    layers = sum(re.fullmatch(r"w\d+", name) is not None for name in model) - 1
    missing = [f"w{i}" for i in range(1, layers + 2) if f"w{i}" not in model]
    if layers < 1 or missing:
        raise InputError(
            f"the model has arrays {', '.join(model) or '(none)'}: it needs w1, b1, gamma1, ... of a conv net"
        )
    for i in range(1, layers + 2):
        if 0 in model[f"w{i}"].shape:
            raise InputError(f"the model's w{i} has shape {model[f'w{i}'].shape}: no axis may be empty")
        if model[f"w{i}"].ndim != (axes := 4 if i <= layers else 2):
            raise InputError(f"the model's w{i} has shape {model[f'w{i}'].shape}; it must have {axes} axes")
    residual, global_pool = (bool(np.any(model.get(name, 0))) for name in ("residual", "global_pool"))
    if residual and layers % 2:
        raise InputError(f"the model has {layers} convolutions: residual blocks have two each")
    ends = range(2, layers + 1, 2) if residual else range(1, layers + 1)
    filters = tuple(int(model[f"w{i}"].shape[0]) for i in ends)
    pool = tuple(bool(value) for value in np.ravel(model.get("pool", ())))
    outputs = int(model[f"w{layers + 1}"].shape[-1])
    architecture = Architecture(input_shape, filters, outputs, pool, residual, global_pool)
    for name, shape in parameter_shapes(architecture).items():
        if name not in model:
            raise InputError(f"the model has no array {name}")
        if model[name].shape != shape:
            raise InputError(f"the model's {name} has shape {model[name].shape}; images of {input_shape} need {shape}")
    if classes and len(classes) != outputs:
        raise InputError(f"the model tells {outputs} classes apart, the images are of {len(classes)}")
    return architecture


def take(model: Model, keep: Sequence[int]) -> Model:
    """The trials at positions keep, as a model of their own."""
    return {name: values[list(keep)] for name, values in model.items()}
