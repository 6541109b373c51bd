"""The groups of a stage in training: each epoch is told to Optuna, MLflow and the screen, and some trials end early."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from core.batches import Images
from core.errors import InputError
from core.train import EpochReport, TrialResult, Verdict, train_group
from sweep import plan
from sweep.experiment import Stage
from sweep.parsing import Value
from sweep.plan import Cell
from sweep.pruning import to_prune
from sweep.records import Records
from sweep.study import Outcome, Study

if TYPE_CHECKING:
    from optuna import Trial

    from sweep.run import Sweep


@dataclass
class _Running:
    """A cell in training, with the Optuna trial of its setting, and its own MLflow run.

    accuracy  on the validation data, after the last epoch
    seconds   its share of the group's training
    """

    cell: Cell
    trial: Trial
    run_id: str
    accuracy: float = 0.0
    seconds: float = 0.0


class Training:
    """What the groups of one stage share while they train."""

    def __init__(
        self,
        sweep: Sweep,
        stage: Stage,
        inherited: Mapping[str, Value],
        study: Study,
        records: Records,
        parent: str,
        cells: Sequence[Cell],
        outcomes: Mapping[str, Outcome],
    ) -> None:
        """Put the images on the device.

        parent    the stage's MLflow run
        cells     of its plan: those that were trained before count for its budget
        outcomes  of all cells that were trained before in a stage of this name, by key
        """
        self._experiment, self._data, self._ops = sweep.experiment, sweep.data, sweep.ops
        self._display, self._signals, self._grouped = sweep.display, sweep.signals, sweep.groups
        self._stage, self._inherited, self._study = stage, inherited, study
        self._records, self._parent = records, parent
        self._outcomes = {key: outcome for key, outcome in outcomes.items() if not stage.reopens(outcome.status)}
        before = [outcomes[cell.key] for cell in cells if cell.key in outcomes]
        self._epochs, self._seconds = sum(o.epochs for o in before), sum(o.seconds for o in before)
        self._running: list[_Running] = []
        self._failed: set[int] = set()
        self._reported = False  # whether the group that trains has finished an epoch
        self._groups, self._before = 0, len(self._outcomes)
        split, scale = sweep.data.split(sweep.experiment.seed), sweep.data.scale
        self._images = Images.on_device(sweep.ops, split.x_train, split.y_train, scale)
        self._validation = Images.on_device(sweep.ops, split.x_validation, split.y_validation, scale)

    @property
    def trained(self) -> int:
        """How many cells have ended here."""
        return len(self._outcomes) - self._before

    @property
    def spent(self) -> str:
        """Which limit of the stage's budget is reached; "" if none is."""
        return self._stage.budget.spent(self._seconds, self._epochs)

    def planned(self, cells: Sequence[Cell]) -> None:
        """Train these cells: group after group is enqueued and asked for."""
        groups = self._grouped(cells)
        for group in groups:
            if self.spent:
                return
            settings = plan.by_setting(group)
            with self._signals.held():
                trials = self._study.enqueue([same[0].searched for same in settings])
                owners = {same[0].index: trial for same, trial in zip(settings, trials, strict=True)}
                for same in settings:
                    self._describe(owners[same[0].index], self._cells([same[0].searched]))
            self._run(group, owners, len(groups))

    def proposed(self, tried: list[dict[str, Value]], remaining: int) -> None:
        """Train what the sampler proposes, so many settings after those that were tried."""
        while remaining and not self.spent:
            count = min(self._stage.at_once, remaining)
            remaining -= count
            with self._signals.held():
                wave = self._ask(count)
            tried += [cells[0].searched for _, cells in wave]
            numbered = {cell.key: cell for cell in self._cells(tried)}
            owners: dict[int, Trial] = {}
            repeats: list[tuple[Trial, list[Cell]]] = []
            for trial, cells in wave:
                index = numbered[cells[0].key].index
                if index in owners or all(cell.key in self._outcomes for cell in cells):
                    repeats.append((trial, cells))
                else:
                    owners[index] = trial
            new = [cell for cell in numbered.values() if cell.index in owners and cell.key not in self._outcomes]
            for group in self._grouped(new):
                if not self.spent:
                    self._run(group, owners, None)
            with self._signals.held():
                for trial, cells in repeats:  # a choice among few may come up again: the outcome is known
                    self._describe(trial, cells)
                    self._study.end(trial)

    def _ask(self, count: int) -> list[tuple[Trial, list[Cell]]]:
        """Proposals of the sampler with their cells, but for those that cannot be trained."""
        wave = []
        for trial, searched in self._study.propose(count):
            try:
                cells = self._cells([searched])
            except InputError as error:
                self._display.warn(f"{self._stage.name}: left out what {self._stage.sampler} proposed: {error}")
                self._study.describe(trial, "", [], {}, is_proposal=True)
                self._study.end(trial)
            else:
                self._describe(trial, cells, is_proposal=True)
                wave.append((trial, cells))
        return wave

    def _cells(self, settings: Sequence[dict[str, Value]]) -> list[Cell]:
        return plan.cells(self._experiment, self._stage, self._inherited, self._data, settings)

    def _describe(self, trial: Trial, cells: Sequence[Cell], is_proposal: bool = False) -> None:
        """Tell Optuna of all cells of a setting."""
        known = {cell.key: self._outcomes[cell.key] for cell in cells if cell.key in self._outcomes}
        self._failed |= {trial.number for outcome in known.values() if outcome.status == "failed"}
        self._study.describe(trial, cells[0].setting, [cell.key for cell in cells], known, is_proposal)

    def _run(self, group: Sequence[Cell], owners: Mapping[int, Trial], groups: int | None) -> None:
        """Train a group to its end, in halves if memory does not suffice after all.

        owners  the Optuna trial of each setting, by the cells' index
        """
        try:
            self._train(group, owners, groups)
            return
        except MemoryError:
            if self._reported or len(plan.by_setting(group)) == 1:
                raise
        reason = "memory ran out; trained in a smaller group"  # out of the except clause: the error holds the arrays
        self._display.note(f"{plan.group_name(group[0].settings)}: memory ran out with {len(group)} trials: in halves")
        with self._signals.held():
            for running in self._running:
                self._records.break_off(running.run_id, "KILLED", reason)
        for half in plan.parts(group, 2):
            if not self.spent:
                self._run(half, owners, None)

    def _train(self, group: Sequence[Cell], owners: Mapping[int, Trial], groups: int | None) -> None:
        self._groups += 1
        self._reported = False
        self._display.group(self._groups, groups, group)
        with self._signals.held():
            self._running = [
                _Running(cell, owners[cell.index], self._records.start_trial(cell, self._parent)) for cell in group
            ]
        for report in train_group(
            self._ops,
            plan.architecture(group[0].settings, self._data),
            [cell.settings for cell in group],
            self._images,
            self._validation,
            data_seed=self._experiment.seed,
            judge=self._judge,
        ):
            self._reported = True
            with self._signals.held():
                self._record(report)
            self._display.epoch(group, report)

    def _judge(self, report: EpochReport) -> dict[int, Verdict]:
        """Tell Optuna the epoch's accuracies, and find who is pruned and whether the budget is spent."""
        self._epochs += len(report.metrics)
        self._seconds += next(iter(report.metrics.values()))["epoch_seconds"]
        for place, metrics in report.metrics.items():
            self._running[place].accuracy = metrics["val_accuracy"]
            self._running[place].seconds += metrics["epoch_seconds"] / len(report.metrics)
        with self._signals.held():
            for index in {self._running[place].cell.index for place in report.metrics}:
                same = [running for running in self._running if running.cell.index == index]
                self._study.report(same[0].trial, report.epoch, sum(r.accuracy for r in same) / len(same))
            pruned = self._pruned(report)
        if self.spent:
            return dict.fromkeys(report.metrics.keys() - report.ended, ("cut", self.spent))
        return pruned

    def _pruned(self, report: EpochReport) -> dict[int, Verdict]:
        if self._stage.pruner is None:
            return {}
        running = {place: self._running[place].trial.number for place in report.metrics.keys() - report.ended}
        # A setting of which one seed has diverged will rank as failed: it must not take the place of another.
        self._failed |= {self._running[place].trial.number for place, r in report.ended.items() if r.status == "failed"}
        curves = {number: curve for number, curve in self._study.curves().items() if number not in self._failed}
        stopped = to_prune(self._stage.pruner, curves, set(running.values()) - self._failed)
        reason = f"pruned by {self._stage.pruner.kind} after epoch {report.epoch}"
        return {place: ("pruned", reason) for place, number in running.items() if number in stopped}

    def _record(self, report: EpochReport) -> None:
        for place, metrics in report.metrics.items():
            self._records.tracker.log_metrics(self._running[place].run_id, metrics, step=report.epoch)
        for place, result in report.ended.items():
            running = self._running[place]
            outcome = replace(_outcome(running.run_id, result), seconds=running.seconds)
            self._records.results(running.run_id, running.cell, result, outcome)
            self._study.tell(running.trial, running.cell.key, outcome)
            self._records.close(running.run_id, outcome)
            self._outcomes[running.cell.key] = outcome


def _outcome(run_id: str, result: TrialResult) -> Outcome:
    best_loss = result.history[result.best_epoch - 1]["val_loss"] if result.best_epoch else None
    return Outcome(
        result.status, run_id, result.best_accuracy, best_loss, result.best_epoch, epochs=len(result.history)
    )
