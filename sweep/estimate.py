"""What a stage would cost, without training it: memory from the shapes, time from one measured step of each group."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from core.batches import Images, steps_in_epoch
from core.config import Architecture, Hyperparameters
from core.data import Dataset
from core.model import initial_model, parameter_shapes
from core.ops import Ops
from core.ops.reference import SLAB_BYTES
from core.optim import initial_state
from core.train import evaluate
from sweep import plan
from sweep.plan import Cell

_FLOAT = 4  # bytes of a float32


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


def group_cost(ops: Ops, data: Dataset, group: Sequence[Cell], data_seed: int) -> GroupCost:
    """Measure one training step and one validation batch of the group, and multiply."""
    trials = [cell.settings for cell in group]
    shape = plan.architecture(trials[0], data)
    batch_size, epochs = trials[0].batch_size, max(trial.epochs for trial in trials)
    split = data.split(data_seed)
    images = Images.on_device(ops, split.x_train[:batch_size], split.y_train[:batch_size], data.scale)
    model = initial_model(shape, trials, xp=ops.xp)
    rules = Hyperparameters.of(trials)
    state = initial_state(trials[0].optimiser, model, rules, ops)
    step = ops.make_step(ops, shape, rules, optimiser=trials[0].optimiser, data_seed=data_seed)
    chosen, lr = ops.xp.arange(len(images)), np.array([trial.lr for trial in trials])

    def training() -> None:
        ops.to_host(step(model, state, images, chosen, lr, 0)[0])

    def validation() -> None:
        evaluate(ops, shape, model, images, batch_size)

    steps, batches = steps_in_epoch(len(split.x_train), batch_size), math.ceil(len(split.x_validation) / batch_size)
    seconds = epochs * (steps * _seconds(training) + batches * _seconds(validation))
    memory = group_memory(shape, len(group), batch_size, ops.concurrency)
    return GroupCost(plan.group_name(trials[0]), len(group), steps, memory, seconds)


def _seconds(action: Callable[[], None]) -> float:
    action()
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def group_memory(architecture: Architecture, trials: int, batch_size: int, concurrency: int | None) -> int:
    """Bytes at the peak of a step: weights (current, best, gradient, an optimiser's two) of all trials, activations of
    those at work.

    concurrency  trials computed at the same time; None: all
    """
    weights = sum(math.prod(shape) for shape in parameter_shapes(architecture).values())
    conv = [math.prod(shape) for shape in architecture.conv_shapes]
    pooled = [math.prod(shape) for shape in architecture.shapes[1:]]
    # Saved for the gradient: each block's centred output and its pooled one. On top, the largest block's output
    # three times over while it is normalised, or its gradient is.
    activations = batch_size * (sum(conv) + 2 * sum(pooled) + 3 * max(conv))
    at_work = trials if concurrency is None else min(trials, concurrency)
    return _FLOAT * (5 * trials * weights + at_work * activations) + at_work * SLAB_BYTES
