"""Each epoch of a stage's groups: judged, which ends some trials, then recorded in Optuna's journal and in MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.training.checkpoint import remove_group
from core.training.progress import EpochReport, TrialResult, Verdict
from sweep.records.records import Records
from sweep.records.study import Study
from sweep.search.cell import Cell
from sweep.search.means import mean
from sweep.search.outcome import Outcome, diverged
from sweep.search.pruners import to_prune
from sweep.stages.group import Group
from sweep.stages.interrupt import Signals
from sweep.stages.state import StageState
from sweep.terminal.display import Display


class Epochs:
    """Judges and records the epochs of a stage's groups, and keeps count of what was spent and how trials ended."""

    def __init__(self, state: StageState, study: Study, records: Records, signals: Signals, display: Display) -> None:
        self._stage, self._study, self._records = state.stage, study, records
        self._signals, self._display = signals, display
        self._outcomes = {k: o for k, o in state.outcomes.items() if not self._stage.reopens(o.status)}
        self._before = len(self._outcomes)
        ended = [outcome for _, outcome in state.ended]  # these count for the budget, too
        self._epochs, self._seconds = sum(o.epochs for o in ended), sum(o.seconds for o in ended)
        self._settings = {cell.key: cell.index for cell in state.cells}
        failed = diverged(self._outcomes)
        self._failed = {cell.index for cell in state.cells if cell.key in failed}  # settings

    @property
    def outcomes(self) -> Mapping[str, Outcome]:
        """How cells ended, here or before, by key; without those that are trained again."""
        return self._outcomes

    @property
    def trained(self) -> int:
        """How many cells have ended here."""
        return len(self._outcomes) - self._before

    @property
    def spent(self) -> str:
        """Which limit of the stage's budget is reached; "" if none is."""
        return self._stage.budget.spent(self._seconds, self._epochs)

    @property
    def stopping(self) -> bool:
        """Whether training is to end after this epoch: a signal came."""
        return self._signals.stopping

    @property
    def over(self) -> bool:
        """Whether no further group is to begin."""
        return bool(self.stopping or self.spent)

    def plan(self, cells: Sequence[Cell]) -> None:
        """These are all cells of the stage now: an adaptive sampler has proposed more."""
        self._settings = {cell.key: cell.index for cell in cells}

    def go_on(self, result: TrialResult) -> None:
        """Count what a trial had trained before it was broken off."""
        self._epochs += len(result.history)
        self._seconds += result.seconds

    def judge(self, group: Group, report: EpochReport) -> dict[int, Verdict]:
        """Tell Optuna the epoch's accuracies, and find who is pruned and whether the budget is spent."""
        self._epochs += len(report.metrics)
        self._seconds += next(iter(report.metrics.values()))["epoch_seconds"]
        group.take(report.metrics)
        with self._signals.held():
            for setting in {group.cells[index].index for index in report.metrics}:
                accuracy = mean(group.accuracies_of(setting))
                self._study.report(group.optuna_trials[setting], report.epoch, accuracy)
            pruned = self._pruned(group, report)
        if self.spent:
            return dict.fromkeys(report.metrics.keys() - report.ended, ("cut", self.spent))
        return pruned

    def _pruned(self, group: Group, report: EpochReport) -> dict[int, Verdict]:
        if self._stage.pruner is None:
            return {}
        running = {index: group.cells[index].index for index in report.metrics.keys() - report.ended}
        # A setting of which one seed has diverged will rank as failed: it must not take the place of another.
        self._failed |= {group.cells[index].index for index, r in report.ended.items() if r.status == "failed"}
        settings = self._settings
        curves = {settings[key]: curve for key, curve in self._study.curves().items() if key in settings}
        curves = {setting: curve for setting, curve in curves.items() if setting not in self._failed}
        stopped = to_prune(self._stage.pruner, curves, set(running.values()) - self._failed)
        reason = f"pruned by {self._stage.pruner.kind} after epoch {report.epoch}"
        return {index: ("pruned", reason) for index, setting in running.items() if setting in stopped}

    def record(self, group: Group, report: EpochReport) -> None:
        """Write down what an epoch brought."""
        with self._signals.held():
            for index, metrics in report.metrics.items():
                self._records.trials.log_epoch(group.run_ids[index], report.epoch, metrics)
            for index, result in report.ended.items():
                self._end(group, index, result)
            group.leave(report.ended.keys())
            if not group.active:
                remove_group(group.task.path)
        self._display.epoch(group.number, group.groups, group.cells, report)

    def _end(self, group: Group, index: int, result: TrialResult) -> None:
        """Artifacts, then Optuna's record, then MLflow's status: what comes later can be made from what came before."""
        cell, run_id = group.cells[index], group.run_ids[index]
        outcome = _outcome(run_id, result)
        self._records.trials.log_results(run_id, cell, result, outcome)
        self._study.tell(group.optuna_trials[cell.index], cell.key, outcome)
        self._records.trials.close(run_id, outcome)
        self._outcomes[cell.key] = outcome


def _outcome(run_id: str, result: TrialResult) -> Outcome:
    best_loss = result.history[result.best_epoch - 1]["val_loss"] if result.best_epoch else None
    best = (result.best_accuracy, best_loss, result.best_epoch)
    return Outcome(
        result.status, run_id, *best, epochs=len(result.history), seconds=result.seconds, reason=result.reason
    )
