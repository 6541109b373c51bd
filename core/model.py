"""The network: parameters, forward and backward, for any number of conv blocks.

A model is a dict of arrays (T, ...), named as in the .npz files: w1, b1, gamma1, beta1, running_mean1,
running_var1 for block 1 and so on, then w and b of the linear layer with the next number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from core.batches import Images
from core.config import KERNEL, MOMENTUM, Architecture, Hyperparameters, Settings
from core.errors import InputError
from core.ops import Ops
from core.random import Array, Purpose, normal

Model = dict[str, Array]
SMALL = 0.01  # standard deviation of the "normal" initialisation (report table 1)


def parameter_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Name and shape, without the trial axis, of every array of a model, in the files' order."""
    shapes: dict[str, tuple[int, ...]] = {}
    for i, (channels, filters) in enumerate(_channels(architecture), start=1):
        shapes[f"w{i}"] = (filters, channels, KERNEL, KERNEL)
        for name in ("b", "gamma", "beta", "running_mean", "running_var"):
            shapes[f"{name}{i}"] = (filters,)
    last = len(architecture.filters) + 1
    shapes[f"w{last}"] = (architecture.features, architecture.classes)
    shapes[f"b{last}"] = (architecture.classes,)
    return shapes


def _channels(architecture: Architecture) -> Iterator[tuple[int, int]]:
    return zip((architecture.input_shape[0], *architecture.filters), architecture.filters, strict=False)


def is_weight(name: str) -> bool:
    """True for the conv and linear weights: the tensors with L2 regularisation."""
    return re.fullmatch(r"w\d+", name) is not None


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
    saved: list[Any] = []
    statistics: Model = {}
    for i in range(1, len(architecture.filters) + 1):
        x, mean, variance, kept = ops.block(x, model[f"w{i}"], model[f"b{i}"], model[f"gamma{i}"], model[f"beta{i}"])
        statistics[f"running_mean{i}"], statistics[f"running_var{i}"] = mean, variance
        saved.append(kept)
    last = len(saved) + 1
    loss, correct, kept = ops.head(x, model[f"w{last}"], model[f"b{last}"], labels, trials.dropout, trials.seed, step)

    xp = ops.xp
    weight = xp.asarray(np.where(trials.sums, 1.0, 1.0 / len(labels)), dtype=loss.dtype)
    gradients: Model = {}
    dx, gradients[f"w{last}"], gradients[f"b{last}"] = ops.head_grad(xp.broadcast_to(weight[:, None], loss.shape), kept)
    for i in range(last - 1, 0, -1):
        dx, dw, db, dgamma, dbeta = ops.block_grad(dx, saved.pop(), need_dx=i > 1)
        gradients |= {f"w{i}": dw, f"b{i}": db, f"gamma{i}": dgamma, f"beta{i}": dbeta}
    return loss, correct, gradients, statistics


def track_statistics(model: Model, statistics: Model) -> None:
    """Move the running statistics towards the batch's, in place."""
    for name, batch in statistics.items():
        model[name] *= MOMENTUM
        model[name] += batch * (1 - MOMENTUM)


def logits(ops: Ops, architecture: Architecture, model: Model, x: Array) -> Array:
    """Outputs of the linear layer in test mode: running statistics, no dropout. x (1, N, C, H, W) -> (T, N, L)."""
    for i in range(1, len(architecture.filters) + 1):
        names = ("w", "b", "gamma", "beta", "running_mean", "running_var")
        x = ops.block_inference(x, *(model[f"{name}{i}"] for name in names))
    last = len(architecture.filters) + 1
    flat = x.reshape(*x.shape[:2], -1)
    return ops.linear(flat, model[f"w{last}"], model[f"b{last}"])[0]


def predict(
    ops: Ops, architecture: Architecture, model: Model, images: Images, batch_size: int = 128
) -> Iterator[tuple[Array, Array]]:
    """Batch by batch in the images' order: logits (T, n, L) and labels (n,), on the device."""
    dtype = model["w1"].dtype.type
    for start in range(0, len(images), batch_size):
        x, labels = images.batch(slice(start, start + batch_size), dtype)
        yield logits(ops, architecture, model, x), labels


def architecture_of(model: Mapping[str, np.ndarray], input_shape: tuple[int, int, int]) -> Architecture:
    """The architecture of one trial's arrays (no trial axis) for images of input_shape (C, H, W).

    Raises InputError if arrays are missing, or do not fit each other or the images.
    """
    blocks = sum(is_weight(name) for name in model) - 1
    missing = [f"w{i}" for i in range(1, blocks + 2) if f"w{i}" not in model]
    if blocks < 1 or missing:
        raise InputError(
            f"the model has arrays {', '.join(model) or '(none)'}: it needs w1, b1, gamma1, ... of a conv net"
        )
    for i in range(1, blocks + 2):
        if model[f"w{i}"].ndim != (axes := 4 if i <= blocks else 2):
            raise InputError(f"the model's w{i} has shape {model[f'w{i}'].shape}; it must have {axes} axes")
    filters = tuple(int(model[f"w{i}"].shape[0]) for i in range(1, blocks + 1))
    architecture = Architecture(input_shape, filters, int(model[f"w{blocks + 1}"].shape[-1]))
    for name, shape in parameter_shapes(architecture).items():
        if name not in model:
            raise InputError(f"the model has no array {name}")
        if model[name].shape != shape:
            raise InputError(f"the model's {name} has shape {model[name].shape}; images of {input_shape} need {shape}")
    return architecture


def take(model: Model, keep: Sequence[int]) -> Model:
    """The trials at positions keep, as a model of their own."""
    return {name: values[list(keep)] for name, values in model.items()}
