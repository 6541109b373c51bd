"""Train a group: the epoch loop, with early stop, best weights and failure for each trial on its own."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from core import model as network
from core.batches import Images, shuffled_batches
from core.config import Architecture, Hyperparameters, Settings
from core.ops import Ops
from core.schedules import learning_rates

Metrics = dict[str, float]


@dataclass
class TrialResult:
    """What became of one trial.

    status         "finished", or "failed" with the reason
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


def train_group(
    ops: Ops,
    architecture: Architecture,
    trials: Sequence[Settings],
    train: Images,
    validation: Images,
    *,
    data_seed: int = 0,
    dtype: type = np.float32,
) -> Iterator[EpochReport]:
    """Train trials of one architecture and batch size together, and report after each epoch.

    A trial that has ended is taken out of the arrays; the rest goes on without it. The loop ends with the last trial.
    train_loss and train_accuracy are means over the epoch's batches as they were trained (dropout on, weights
    moving); losses are mean cross entropy without the L2 term, so that they compare across values of reg.
    """
    active = list(range(len(trials)))
    results = [TrialResult() for _ in trials]
    model = network.initial_model(architecture, trials, dtype, ops.xp)
    rates = learning_rates(trials)
    step = ops.make_step(ops, architecture, Hyperparameters.of(trials), dtype)
    batch_size = trials[0].batch_size
    number = 0
    for epoch in range(len(rates)):
        started = time.perf_counter()
        lr = rates[epoch, active]
        sums = ops.xp.zeros((3, len(active)))
        for chosen in shuffled_batches(len(train), batch_size, data_seed, epoch):
            sums += ops.xp.stack(step(model, train, ops.xp.asarray(chosen), lr, number))
            number += 1
        val_loss, val_accuracy = evaluate(ops, architecture, model, validation, batch_size)
        loss, correct, norm = ops.to_host(sums)
        measured = {
            "train_loss": loss / len(train),
            "train_accuracy": correct / len(train),
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
            "learning_rate": lr,
            "gradient_norm": norm / math.ceil(len(train) / batch_size),
            "epoch_seconds": np.full(len(active), time.perf_counter() - started),
        }
        report = EpochReport(epoch + 1, {}, {})
        for place, trial in enumerate(active):
            report.metrics[trial] = {name: float(values[place]) for name, values in measured.items()}
            weights = {name: values[place] for name, values in model.items()}
            if results[trial].record(trials[trial], report.metrics[trial], weights):
                report.ended[trial] = _on_host(ops, results[trial])
        if report.ended:
            stay = [place for place, trial in enumerate(active) if trial not in report.ended]
            active = [active[place] for place in stay]
            model = network.take(model, stay)
            step = ops.make_step(ops, architecture, Hyperparameters.of([trials[t] for t in active]), dtype)
        yield report
        if not active:
            return


def _on_host(ops: Ops, result: TrialResult) -> TrialResult:
    if result.model is not None:
        result.model = {name: ops.to_host(values) for name, values in result.model.items()}
    return result


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
