"""The update of all of a group's tensors at once (core.training.optimisers), and the running statistics with them."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, prod

import numpy as np

from core.backends.gpu.device import BLOCK, Device, contiguous
from core.config.architecture import MOMENTUM
from core.config.hyperparameters import Hyperparameters
from core.network import parameters
from core.random import Array

# As in update.cu.
_TENSORS, _ELEMENTS = 48, 1024
_TENSOR = np.dtype(
    [(name, np.uint64) for name in ("values", "gradient", "first", "second")]
    + [(name, np.int32) for name in ("size", "kind", "block", "reserved")]
)
_LIST = np.dtype([("list", _TENSOR, (_TENSORS,)), ("count", np.int64), ("momentum", np.int64)])
_WEIGHT, _BIAS, _RUNNING = 1, 2, 4
_OPTIMISERS = {"sgd": 0, "adam": 1, "adamw": 2}
_SETTINGS = ("reg", "clip", "clip_global", "momentum", "nesterov", "beta1", "beta2", "adam_eps")


def settings_on(device: Device, trials: Hyperparameters) -> Array:
    """What the update goes by, on the device: (T, settings) float64."""
    values = [device.xp.asarray(getattr(trials, name), np.float64) for name in _SETTINGS]
    return device.xp.stack(values, axis=1)


def update(
    device: Device,
    model: parameters.Model,
    changes: Mapping[str, Array],
    state: parameters.Model,
    settings: Array,
    lr: Array,
    step: Array,
    optimiser: str,
) -> Array:
    """core.training.optimisers.update; and the running statistics move towards the batch's.

    changes   the gradient of each parameter, and the batch's value of each running statistic
    settings  see settings_on
    lr        (T,) float64 on the device
    step      its number, uint32 on the device

    Returns the norm (T,) of each trial's gradient, float64.
    """
    trials, rule = len(lr), _OPTIMISERS[optimiser]
    changes = {name: contiguous(device, values) for name, values in changes.items()}
    lists = _lists(device, model, changes, state)
    blocks = sum(count for _, count in lists)
    squares, norm = device.empty((trials, blocks)), device.empty((trials,), np.float64)
    factors, sums = device.empty((trials, len(changes))), device.empty((trials, len(changes)))
    offset = 0
    for i, (listed, count) in enumerate(lists):
        device.launch("add_l2", (count, trials), BLOCK, 4 * BLOCK, listed, settings, squares, rule, offset, blocks)
        device.launch(
            "clip_tensors", (int(listed["count"][0]), trials), BLOCK, 4 * BLOCK,
            listed, settings, squares, factors, sums, offset, i * _TENSORS, blocks, len(changes),
        )  # fmt: skip
        offset += count
    device.launch("clip_together", (trials,), BLOCK, 4 * BLOCK, settings, sums, factors, norm, len(changes))
    for i, (listed, count) in enumerate(lists):
        device.launch(
            "apply_update", (count, trials), BLOCK, 0,
            listed, settings, lr, step, factors, rule, i * _TENSORS, len(changes), MOMENTUM, 1 - MOMENTUM,
        )  # fmt: skip
    return norm


def _lists(
    device: Device, model: parameters.Model, changes: Mapping[str, Array], state: parameters.Model
) -> list[tuple[np.ndarray, int]]:
    """The tensors as structures of update.cu, each with the blocks of threads that it takes."""
    names, lists = list(changes), []
    slots = list(dict.fromkeys(name.partition(".")[0] for name in state))
    for start in range(0, len(names), _TENSORS):
        listed, block = np.zeros(1, _LIST), 0
        for i, name in enumerate(names[start : start + _TENSORS]):
            assert model[name].flags.c_contiguous
            arrays = [model[name], changes[name], *(state.get(f"{slot}.{name}") for slot in slots)]
            addresses = [0 if array is None else device.address(array) for array in arrays]
            size = prod(model[name].shape[1:])
            listed["list"][0, i] = (*addresses, *[0] * (4 - len(addresses)), size, _kind(name), block, 0)
            block += ceil(size / _ELEMENTS)
        listed["count"], listed["momentum"] = min(_TENSORS, len(names) - start), bool(state)
        lists.append((listed, block))
    return lists


def _kind(name: str) -> int:
    return (
        _WEIGHT * parameters.is_weight(name) | _BIAS * parameters.is_bias(name) | _RUNNING * name.startswith("running_")
    )
