"""Train a group: the epoch loop, with early stop, best weights and failure for each trial on its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from core import model as network
from core import optim
from core.batches import Images, shuffled_batches, steps_in_epoch
from core.config import Architecture, Hyperparameters, Settings
from core.ops import Ops
from core.random import Array
from core.schedules import learning_rates
from core.step import Step

Metrics = dict[str, float]
METRICS = (
    *("train_loss", "train_accuracy", "val_loss", "val_accuracy"),
    *("learning_rate", "gradient_norm", "epoch_seconds"),
)


@dataclass
class TrialResult:
    """What became of one trial.

    status         "finished", "failed", or what a judge said
    reason         why it failed, or what the judge gave
    history        each epoch's metrics, from epoch 1
    best_epoch     of the highest validation accuracy; 0 if no epoch was finite
    best_accuracy  that accuracy; None if no epoch was finite
    model          the weights of that epoch, on the host, without trial axis; None if there are none
    """

    status: str = "finished"
    reason: str = ""
    history: list[Metrics] = field(default_factory=list)
    best_epoch: int = 0
    best_accuracy: float | None = None
    model: dict[str, np.ndarray] | None = None

    def record(self, settings: Settings, metrics: Metrics, weights: network.Model) -> bool:
        """Take in one epoch's metrics and the weights after it; True if the trial ends here."""
        self.history.append(metrics)
        epoch = len(self.history)
        broken = [name for name in ("train_loss", "val_loss") if not np.isfinite(metrics[name])]
        if broken:
            self.status, self.reason = "failed", f"{broken[0]} became {metrics[broken[0]]} in epoch {epoch}"
            return True
        if self.best_accuracy is None or metrics["val_accuracy"] > self.best_accuracy:
            self.best_epoch, self.best_accuracy = epoch, metrics["val_accuracy"]
            self.model = {name: values.copy() for name, values in weights.items()}
        return epoch == settings.epochs or epoch - self.best_epoch >= settings.patience


@dataclass(frozen=True)
class EpochReport:
    """What one epoch of a group brought. Trials go by their place in the list given to train_group.

    epoch    from 1
    metrics  of each trial that trained in this epoch
    ended    the results of those for which it was the last
    """

    epoch: int
    metrics: dict[int, Metrics]
    ended: dict[int, TrialResult]


Verdict = tuple[str, str]  # the status and the reason of a trial that somebody ends
Judge = Callable[[EpochReport], Mapping[int, Verdict]]


def nobody(report: EpochReport) -> Mapping[int, Verdict]:
    """Ends no trial."""
    return {}


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
) -> Iterator[EpochReport]:
    """Train trials of one architecture, batch size and optimiser together, and report after each epoch.

    judge  sees each epoch's report first, and says which of the trials that have not ended do so there

    A trial that has ended is taken out of the arrays; the rest goes on without it. The loop ends with the last trial.
    train_loss and train_accuracy are means over the epoch's batches as they were trained (dropout on, weights
    moving, images augmented); losses are mean cross entropy without the L2 term, so that they compare across values
    of reg. learning_rate is that of the epoch's last step.
    """
    active = list(range(len(trials)))
    results = [TrialResult() for _ in trials]
    batch_size, optimiser = trials[0].batch_size, trials[0].optimiser
    model = network.initial_model(architecture, trials, dtype, ops.xp)
    state = optim.initial_state(optimiser, model, Hyperparameters.of(trials))
    step: Step | None = None
    for epoch in range(max(trial.epochs for trial in trials)):
        started = time.perf_counter()
        settings = [trials[trial] for trial in active]
        if step is None:  # the first, or one for those that are left
            group = Hyperparameters.of(settings)
            step = ops.make_step(ops, architecture, group, optimiser=optimiser, data_seed=data_seed, dtype=dtype)
        measured = _train_epoch(ops, partial(step, model, state, train), settings, len(train), data_seed, epoch)
        measured["val_loss"], measured["val_accuracy"] = evaluate(ops, architecture, model, validation, batch_size)
        measured["epoch_seconds"] = np.full(len(active), time.perf_counter() - started)
        report = EpochReport(epoch + 1, {}, {})
        for place, trial in enumerate(active):
            report.metrics[trial] = {name: float(measured[name][place]) for name in METRICS}
            weights = {name: values[place] for name, values in model.items()}
            if results[trial].record(trials[trial], report.metrics[trial], weights):
                report.ended[trial] = results[trial]
        for trial, (status, reason) in judge(report).items():
            if trial not in report.ended:
                results[trial].status, results[trial].reason = status, reason
                report.ended[trial] = results[trial]
        for result in report.ended.values():
            _complete(ops, architecture, result)
        if report.ended:
            stay = [place for place, trial in enumerate(active) if trial not in report.ended]
            active = [active[place] for place in stay]
            model, state, step = network.take(model, stay), network.take(state, stay), None
        yield report
        if not active:
            return


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
        result.model = on_host | network.form(architecture)


def evaluate(
    ops: Ops, architecture: Architecture, model: network.Model, images: Images, batch_size: int = 128
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
