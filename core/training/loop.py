"""Train a group: the epoch loop, with early stop, best weights and failure for each trial on its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from core.config.architecture import Architecture
from core.config.hyperparameters import Hyperparameters
from core.config.settings import Settings
from core.data.images import Images
from core.network import model as network
from core.network import parameters
from core.ops import Ops
from core.random import Array
from core.training import optimisers
from core.training.batches import shuffled_batches, steps_in_epoch
from core.training.progress import METRICS, EpochReport, Judge, Keep, Progress, TrialResult, nobody, nothing
from core.training.schedules import learning_rates


def train_group(
    ops: Ops,
    architecture: Architecture,
    trials: Sequence[Settings],
    train: Images,
    validation: Images,
    *,
    data_seed: int = 0,
    dtype: type = np.float32,
    judge: Judge = nobody,
    keep: Keep = nothing,
    start: Progress | None = None,
) -> Iterator[EpochReport]:
    """Train trials of one architecture, batch size and optimiser together, and report after each epoch.

    judge  sees each epoch's report first, and says which of the trials that have not ended do so there
    keep   is then given the group's progress, before those that have ended leave it; its arrays change afterwards
    start  what keep was given once: goes on from there. Trials of it that ended there are reported once more.

    A trial that has ended is taken out of the arrays; the rest goes on without it. The loop ends with the last trial.
    train_loss and train_accuracy are means over the epoch's batches as they were trained (dropout on, weights
    moving, images augmented); losses are mean cross entropy without the L2 term, so that they compare across values
    of reg. learning_rate is that of the epoch's last step.
    """
    batch_size, optimiser = trials[0].batch_size, trials[0].optimiser
    group = start or _beginning(ops, architecture, trials, dtype)
    results, step = group.results, None
    if again := {place: results[place] for place in group.active if results[place].ended}:
        group.leave(again)
        yield EpochReport(group.epoch, {place: result.history[-1] for place, result in again.items()}, again)
    while group.active:
        started = time.perf_counter()
        settings = [trials[place] for place in group.active]
        if step is None:  # the first, or one for those that are left
            those = Hyperparameters.of(settings)
            step = ops.make_step(ops, architecture, those, optimiser=optimiser, data_seed=data_seed, dtype=dtype)
        take = partial(step, group.model, group.state, train)
        measured = _train_epoch(ops, take, settings, len(train), data_seed, group.epoch)
        measured["val_loss"], measured["val_accuracy"] = evaluate(
            ops, architecture, group.model, validation, batch_size
        )
        measured["epoch_seconds"] = np.full(len(settings), time.perf_counter() - started)
        group.epoch += 1
        report = EpochReport(group.epoch, {}, {})
        for row, place in enumerate(group.active):
            metrics = {name: float(measured[name][row]) for name in METRICS}
            results[place].record(trials[place], metrics, {name: values[row] for name, values in group.model.items()})
            results[place].seconds += metrics["epoch_seconds"] / len(settings)
            report.metrics[place] = metrics
            if results[place].ended:
                report.ended[place] = results[place]
        for place, (status, reason) in judge(report).items():
            if place not in report.ended:
                results[place].end(status, reason)
                report.ended[place] = results[place]
        for result in report.ended.values():
            _complete(ops, architecture, result)
        keep(group)
        if report.ended:
            group.leave(report.ended)
            step = None
        yield report


def _beginning(ops: Ops, architecture: Architecture, trials: Sequence[Settings], dtype: type) -> Progress:
    """Trials before their first epoch."""
    model = parameters.initial_model(architecture, trials, dtype, ops.xp)
    state = optimisers.initial_state(trials[0].optimiser, model, Hyperparameters.of(trials))
    return Progress(0, list(range(len(trials))), model, state, [TrialResult() for _ in trials])


def _train_epoch(
    ops: Ops,
    step: Callable[[Array, Array, int], Array],
    trials: Sequence[Settings],
    images: int,
    data_seed: int,
    epoch: int,
) -> dict[str, np.ndarray]:
    """Take the steps of one epoch over so many images; each trial's metrics of it, (T,) on the host."""
    batch_size = trials[0].batch_size
    steps = steps_in_epoch(images, batch_size)
    rates = learning_rates(trials, epoch, steps)
    sums, on_device = ops.xp.zeros((3, len(trials))), ops.xp.asarray(rates)
    for number, chosen in enumerate(shuffled_batches(images, batch_size, data_seed, epoch, ops.xp)):
        sums += step(chosen, on_device[number], epoch * steps + number)
    loss, correct, norm = ops.to_host(sums)
    return {
        "train_loss": loss / images,
        "train_accuracy": correct / images,
        "learning_rate": rates[-1],
        "gradient_norm": norm / steps,
    }


def _complete(ops: Ops, architecture: Architecture, result: TrialResult) -> None:
    """Make its model what a file holds: on the host, and telling the network's form."""
    if result.model is not None:
        on_host = {name: ops.to_host(values) for name, values in result.model.items()}
        result.model = on_host | parameters.form(architecture)


def evaluate(
    ops: Ops, architecture: Architecture, model: parameters.Model, images: Images, batch_size: int = 128
) -> tuple[np.ndarray, np.ndarray]:
    """Mean cross entropy and accuracy of each trial in test mode: two float64 arrays (T,)."""

    def measure(part: slice) -> np.ndarray:
        views = {name: values[part] for name, values in model.items()}
        sums = ops.xp.zeros((2, part.stop - part.start))
        for logits, labels in network.predict(ops, architecture, views, images, batch_size):
            loss, _ = ops.softmax_cross_entropy(logits, labels)
            sums += ops.xp.stack([loss.sum(axis=1), (logits.argmax(axis=2) == labels).sum(axis=1)])
        return ops.to_host(sums) / len(images)

    loss, accuracy = np.concatenate(ops.map_trials(measure, len(model["w1"])), axis=1)
    return loss, accuracy
