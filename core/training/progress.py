"""What a group has reached: results, reports, verdicts."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from core.config.settings import Settings
from core.network import parameters
from core.random import Array

Metrics = dict[str, float]
# train_loss and train_accuracy are means over the epoch's batches as they were trained (dropout on, weights moving,
# images augmented); losses are mean cross entropy without the L2 term, so that they compare across values of reg;
# learning_rate is that of the epoch's last step.
METRICS = (
    *("train_loss", "train_accuracy", "val_loss", "val_accuracy"),
    *("learning_rate", "gradient_norm", "epoch_seconds"),
)


@dataclass
class TrialResult:
    """What became of one trial.

    ended          whether its training is over
    status         "finished", "failed", or what a judge said
    reason         why it failed, or what the judge gave
    history        each epoch's metrics, from epoch 1
    seconds        its share of the group's training
    best_epoch     of the highest validation accuracy; 0 if no epoch was finite
    best_accuracy  that accuracy; None if no epoch was finite
    model          the weights of that epoch, without trial axis, on the host once it has ended; None if there are none
    """

    ended: bool = False
    status: str = "finished"
    reason: str = ""
    history: list[Metrics] = field(default_factory=list)
    seconds: float = 0.0
    best_epoch: int = 0
    best_accuracy: float | None = None
    model: dict[str, Array] | None = None

    def record(self, settings: Settings, metrics: Metrics, weights: parameters.Model, seconds: float) -> None:
        """Take in one epoch's metrics, the weights after it and its share of the time; see whether the trial ends."""
        self.history.append(metrics)
        self.seconds += seconds
        epoch = len(self.history)
        broken = [name for name in ("train_loss", "val_loss") if not np.isfinite(metrics[name])]
        if broken:
            self.end("failed", f"{broken[0]} became {metrics[broken[0]]} in epoch {epoch}")
            return
        if self.best_accuracy is None or metrics["val_accuracy"] > self.best_accuracy:
            self.best_epoch, self.best_accuracy = epoch, metrics["val_accuracy"]
            self.model = {name: values.copy() for name, values in weights.items()}
        self.ended = epoch == settings.epochs or epoch - self.best_epoch >= settings.patience

    def end(self, status: str, reason: str) -> None:
        """The trial ends here, for this reason."""
        self.ended, self.status, self.reason = True, status, reason

    def to_host(self, copy: Callable[[Array], np.ndarray], architecture: Mapping[str, np.ndarray]) -> None:
        """Make its model what a file holds: on the host, with arrays that tell the network's architecture."""
        if self.model is not None:
            self.model = {**{name: copy(values) for name, values in self.model.items()}, **architecture}


@dataclass
class Progress:
    """A group after an epoch: all that its training goes on from, bit for bit.

    epoch    from 1; 0 before the first
    active   the trials that trained in it, by their index in the group
    model    (T, ...) arrays of those, as are the optimiser's in state
    results  of all trials of the group so far
    """

    epoch: int
    active: list[int]
    model: parameters.Model
    state: parameters.Model
    results: list[TrialResult]

    def record(self, trials: Sequence[Settings], measured: Mapping[str, np.ndarray], seconds: float) -> EpochReport:
        """Take in the next epoch: of each active trial its metrics (T,), and how long the epoch took."""
        self.epoch += 1
        report = EpochReport(self.epoch, {}, {})
        for row, index in enumerate(self.active):
            measures = {name: float(values[row]) for name, values in measured.items()} | {"epoch_seconds": seconds}
            metrics = report.metrics[index] = {name: measures[name] for name in METRICS}
            weights = {name: values[row] for name, values in self.model.items()}
            result = self.results[index]
            result.record(trials[index], metrics, weights, seconds / len(self.active))
            if result.ended:
                report.ended[index] = result
        return report

    def leave(self, trials: Container[int]) -> None:
        """Take trials out of the arrays."""
        stay = [row for row, index in enumerate(self.active) if index not in trials]
        self.active = [self.active[row] for row in stay]
        self.model, self.state = parameters.take(self.model, stay), parameters.take(self.state, stay)


@dataclass
class EpochReport:
    """What one epoch of a group brought. Trials go by their index in the list given to train_group.

    epoch    from 1
    metrics  of each trial that trained in this epoch
    ended    the results of those for which it was the last; end adds those that a judge ends
    """

    epoch: int
    metrics: dict[int, Metrics]
    ended: dict[int, TrialResult]

    def end(self, verdicts: Mapping[int, Verdict], results: Sequence[TrialResult]) -> None:
        """End trials by verdict, but those that have ended by themselves."""
        for index, (status, reason) in verdicts.items():
            if index not in self.ended:
                results[index].end(status, reason)
                self.ended[index] = results[index]


Verdict = tuple[str, str]  # the status and the reason of a trial that somebody ends
Judge = Callable[[EpochReport], Mapping[int, Verdict]]
Keep = Callable[[Progress], None]


def no_verdicts(report: EpochReport) -> Mapping[int, Verdict]:
    """Ends no trial."""
    return {}


def keep_nothing(progress: Progress) -> None:
    """Keeps nothing."""
