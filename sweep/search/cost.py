"""What a stage would cost, without training it: memory from the shapes, time from measured steps of each group."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heapreplace

import numpy as np

from core.config.hyperparameters import Hyperparameters
from core.data.dataset import Dataset
from core.data.images import Images
from core.network.parameters import initial_model
from core.ops import Ops
from core.training.batches import steps_in_epoch
from core.training.loop import evaluate
from core.training.optimisers import initial_state
from sweep.search import grouping
from sweep.search.cell import Cell

_PATIENCE = 1.0  # seconds of measuring after which it is not repeated
_RESERVE = 0.2  # share of the free memory that is left to others, and for what an estimate leaves out


@dataclass(frozen=True)
class GroupCost:
    """One group of the plan.

    steps    a whole epoch's
    memory   bytes at the peak of a step, beyond the data and the program
    seconds  at most: trials that stop early take less
    """

    network: str
    trials: int
    steps: int
    memory: int
    seconds: float


def group_cost(ops: Ops, data: Dataset, group: Sequence[Cell]) -> GroupCost:
    """Measure a training step and a validation batch of the group, and multiply."""
    trial, epochs = group[0].settings, max(cell.settings.epochs for cell in group)
    training, validation = map(_seconds, actions(ops, data, group))
    steps = steps_in_epoch(data.training_images, trial.batch_size)
    batches = math.ceil(data.validation_images / trial.batch_size)
    memory = ops.step_memory(grouping.architecture(trial, data), len(group), trial.batch_size)
    seconds = epochs * (steps * training + batches * validation)
    return GroupCost(grouping.group_name(trial), len(group), steps, memory, seconds)


def actions(ops: Ops, data: Dataset, group: Sequence[Cell]) -> tuple[Callable[[], None], Callable[[], None]]:
    """A training step of the group, and the validation of a batch, to be timed."""
    trials = [cell.settings for cell in group]
    shape, batch_size = grouping.architecture(trials[0], data), trials[0].batch_size
    images = Images.on_device(ops, data.x[:batch_size], data.y[:batch_size], data.scale)  # which they are takes no time
    model = initial_model(shape, trials, xp=ops.xp)
    rules = Hyperparameters.of(trials)
    state = initial_state(trials[0].optimiser, model, rules)
    step = ops.make_step(ops, shape, rules, optimiser=trials[0].optimiser)
    which, lr = ops.xp.arange(len(images)), np.array([trial.lr for trial in trials])

    def training() -> None:
        ops.to_host(step(model, state, images, which, lr, 0)[0])

    def validation() -> None:
        evaluate(ops, shape, model, images, batch_size)

    return training, validation


def costs(ops: Ops, data: Dataset, waves: Sequence[Sequence[Sequence[Cell]]]) -> list[list[GroupCost]]:
    """Of every group of every wave; groups that differ in nothing that costs are measured once."""
    known: dict[tuple[str, int, int], GroupCost] = {}

    def cost(group: Sequence[Cell]) -> GroupCost:
        key = grouping.group_name(group[0].settings), len(group), max(cell.settings.epochs for cell in group)
        if key not in known:
            known[key] = group_cost(ops, data, group)
        return known[key]

    return [[cost(group) for group in groups] for groups in waves]


def stage_seconds(waves: Sequence[Sequence[GroupCost]], ops: Ops, processes: int) -> float:
    """How long groups take in so many processes: each wave's are handed out in their order, to whoever is free.

    Processes that share a device have a part of its threads each, and take at most so many times as long.
    """
    seconds, slower = 0.0, processes if ops.processes_share_device else 1
    for wave in waves:
        free = [0.0] * processes  # when each has done what it was given
        for cost in wave:
            heapreplace(free, free[0] + slower * cost.seconds)
        seconds += max(free)
    return seconds


def epoch_seconds(ops: Ops, data: Dataset, groups: Sequence[Sequence[Cell]]) -> dict[str, float]:
    """How long an epoch of one trial takes in each of these groups, by the group's name."""
    found = zip(*costs(ops, data, [groups]), groups, strict=True)
    return {cost.network: cost.seconds / sum(cell.settings.epochs for cell in group) for cost, group in found}


def _seconds(action: Callable[[], None]) -> float:
    """The shortest of three, which a busy machine slows least; of fewer where they take long."""
    for _ in range(2):  # the second may record what the third repeats
        action()
    began, took = time.perf_counter(), list[float]()
    while not took or (len(took) < 3 and time.perf_counter() - began < _PATIENCE):
        started = time.perf_counter()
        action()
        took.append(time.perf_counter() - started)
    return min(took)


def usable_memory(ops: Ops, data: Dataset) -> int:
    """Bytes that a group may take: what there still is, less a reserve and a copy of the data."""
    return max(0, int((1 - _RESERVE) * ops.free_memory()) - data.x.nbytes)


def fitting(ops: Ops, data: Dataset, group: Sequence[Cell], memory: int) -> tuple[list[list[Cell]], str]:
    """The group in as few equal parts as take at most so many bytes each, and a note on it; "" if it need not be cut.

    A setting's seeds stay together, since pruning goes by their mean: that is the least a part may be.
    """
    settings, trial = grouping.by_setting(group), group[0].settings
    largest, shape = max(map(len, settings)), grouping.architecture(trial, data)

    def needed(count: int) -> int:
        return ops.step_memory(shape, count * largest, trial.batch_size)

    most = bisect_right(range(1, len(settings) + 1), memory, key=needed)
    if most == len(settings):
        return [list(group)], ""
    parts = grouping.parts(group, math.ceil(len(settings) / max(1, most)))
    total, free = (f"{size / 2**20:.0f} MiB" for size in (needed(len(settings)), memory))
    note = (
        f"{grouping.group_name(trial)}: {len(group)} together would take {total} of memory, of which {free} are free: "
    )
    return parts, note + f"in {len(parts)} parts" + ("" if most else ", and even so it may run out")
