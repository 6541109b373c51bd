"""The parameters of a network: names, shapes, first values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from types import ModuleType

import numpy as np

from core.config.architecture import KERNEL, Architecture
from core.config.settings import Settings
from core.errors import InputError
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
    seeds, index = np.unique([trial.seed for trial in trials], return_inverse=True)
    model: Model = {}
    for k, (name, shape) in enumerate(parameter_shapes(architecture).items()):
        if is_weight(name):
            std = np.array([weight_std(trial.initial, shape) for trial in trials])
            values = normal(seeds, Purpose.INITIAL + k, 0, math.prod(shape))[index] * std[:, None]
        else:
            values = np.full((len(trials), math.prod(shape)), float(name.startswith(("gamma", "running_var"))))
        model[name] = xp.asarray(values.reshape(len(trials), *shape), dtype=dtype)
    return model


def architecture_arrays(architecture: Architecture) -> dict[str, np.ndarray]:
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
