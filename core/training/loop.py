"""Train a group: the epoch loop, with early stop, best weights and failure for each trial on its own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from core.config.architecture import Architecture
from core.config.hyperparameters import Hyperparameters
from core.config.settings import Settings
from core.data.images import Images
from core.network import model as network
from core.network import parameters
from core.ops import Ops
from core.training import optimisers
from core.training.batches import shuffled_batches, steps_in_epoch
from core.training.progress import EpochReport, Judge, Keep, Progress, TrialResult, keep_nothing, no_verdicts
from core.training.schedules import learning_rates
from core.training.step import Step


def train_group(
    ops: Ops,
    architecture: Architecture,
    trials: Sequence[Settings],
    train: Images,
    validation: Images,
    *,
    data_seed: int = 0,
    dtype: type = np.float32,
    judge: Judge = no_verdicts,
    keep: Keep = keep_nothing,
    start: Progress | None = None,
) -> Iterator[EpochReport]:
    """Train trials of one architecture, batch size, optimiser; each epoch: train, validate, record, judge, keep, yield.

    judge  sees each epoch's report first, and says which of the trials that have not ended do so there
    keep   is then given the group's progress, before those that have ended leave it; its arrays change afterwards
    start  what keep was given once: goes on from there. Trials of it that ended there are reported once more.

    A trial that has ended is taken out of the arrays; the rest goes on without it. The loop ends with the last trial.
    """
    work = _Work(ops, architecture, trials, train, validation, data_seed, dtype)
    group = start or work.beginning()
    if ended := {index: group.results[index] for index in group.active if group.results[index].ended}:
        group.leave(ended)
        yield EpochReport(group.epoch, {index: result.history[-1] for index, result in ended.items()}, ended)
    step: Step | None = None
    while group.active:
        started = time.perf_counter()
        step = step or work.make_step(group.active)
        measured = work.train(group, step) | work.validate(group)
        report = group.record(trials, measured, time.perf_counter() - started)
        report.end(judge(report), group.results)
        for result in report.ended.values():
            result.to_host(ops.to_host, parameters.architecture_arrays(architecture))
        keep(group)
        if report.ended:
            group.leave(report.ended)
            step = None  # the next one is for those that are left
        yield report


@dataclass(frozen=True)
class _Work:
    """What is trained on what, the same in all epochs; see train_group."""

    ops: Ops
    architecture: Architecture
    trials: Sequence[Settings]
    images: Images
    validation: Images
    data_seed: int
    dtype: type

    def beginning(self) -> Progress:
        """The trials before their first epoch."""
        model = parameters.initial_model(self.architecture, self.trials, self.dtype, self.ops.xp)
        state = optimisers.initial_state(self.trials[0].optimiser, model, Hyperparameters.of(self.trials))
        return Progress(0, list(range(len(self.trials))), model, state, [TrialResult() for _ in self.trials])

    def make_step(self, active: Sequence[int]) -> Step:
        """A step for these trials."""
        trials, optimiser = Hyperparameters.of([self.trials[index] for index in active]), self.trials[0].optimiser
        about = (self.ops, self.architecture, trials)
        return self.ops.make_step(*about, optimiser=optimiser, data_seed=self.data_seed, dtype=self.dtype)

    def train(self, group: Progress, step: Step) -> dict[str, np.ndarray]:
        """Take the steps of one epoch; each trial's metrics of it, (T,) on the host."""
        xp, count, batch_size = self.ops.xp, len(self.images), self.trials[0].batch_size
        steps = steps_in_epoch(count, batch_size)
        rates = learning_rates([self.trials[index] for index in group.active], group.epoch, steps)
        sums, on_device = xp.zeros((3, len(group.active))), xp.asarray(rates)
        for number, indices in enumerate(shuffled_batches(count, batch_size, self.data_seed, group.epoch, xp)):
            lr, since_start = on_device[number], group.epoch * steps + number
            sums += step(group.model, group.state, self.images, indices, lr, since_start)
        loss, correct, norm = self.ops.to_host(sums)
        return {
            "train_loss": loss / count,
            "train_accuracy": correct / count,
            "learning_rate": rates[-1],
            "gradient_norm": norm / steps,
        }

    def validate(self, group: Progress) -> dict[str, np.ndarray]:
        """Each trial's metrics on the validation images, (T,) on the host."""
        batch_size = self.trials[0].batch_size
        loss, accuracy = evaluate(self.ops, self.architecture, group.model, self.validation, batch_size)
        return {"val_loss": loss, "val_accuracy": accuracy}


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
