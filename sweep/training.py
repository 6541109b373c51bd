"""The groups of a stage in training: each epoch is told to Optuna, MLflow and the screen, and some trials end early."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from core.config import Architecture, Settings
from core.errors import InputError
from core.train import EpochReport, TrialResult, Verdict
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


class _Group:
    """Cells in training (see sweep.trainer.Group)."""

    def __init__(
        self, training: Training, number: int, groups: int | None, cells: Sequence[Cell], owners: Mapping[int, Trial]
    ) -> None:
        """Begin: each cell gets a run.

        number, groups  of how many this is which; None: that is not known
        owners          the Optuna trial of each setting, by the cells' index
        """
        self.number, self.groups, self.cells, self.owners = number, groups, cells, owners
        self._training, self._reported = training, False
        self.running = [_Running(cell, owners[cell.index], training.begin(cell)) for cell in cells]

    @property
    def architecture(self) -> Architecture:
        return self._training.architecture(self.cells[0])

    @property
    def trials(self) -> list[Settings]:
        return [cell.settings for cell in self.cells]

    def judge(self, report: EpochReport) -> Mapping[int, Verdict]:
        return self._training.judge(self, report)

    def record(self, report: EpochReport) -> None:
        self._reported = True
        self._training.record(self, report)

    def halves(self, error: MemoryError) -> Iterator[_Group]:
        if self._reported or len(plan.by_setting(self.cells)) == 1:
            raise error
        return self._training.halves(self)


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
        """
        parent    the stage's MLflow run
        cells     of its plan: those that were trained before count for its budget
        outcomes  of all cells that were trained before in a stage of this name, by key
        """
        self._experiment, self._data, self._trainer = sweep.experiment, sweep.data, sweep.trainer
        self._display, self._signals, self._grouped = sweep.display, sweep.signals, sweep.groups
        self._stage, self._inherited, self._study = stage, inherited, study
        self._records, self._parent = records, parent
        self._outcomes = {key: outcome for key, outcome in outcomes.items() if not stage.reopens(outcome.status)}
        before = [outcomes[cell.key] for cell in cells if cell.key in outcomes]
        self._epochs, self._seconds = sum(o.epochs for o in before), sum(o.seconds for o in before)
        self._failed: set[int] = set()
        self._groups, self._before = 0, len(self._outcomes)

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
        self._trainer.train(self._enqueued(self._grouped(cells)))

    def _enqueued(self, groups: Sequence[Sequence[Cell]]) -> Iterator[_Group]:
        for cells in groups:
            if self.spent:
                return
            settings = plan.by_setting(cells)
            with self._signals.held():
                trials = self._study.enqueue([same[0].searched for same in settings])
                owners = {same[0].index: trial for same, trial in zip(settings, trials, strict=True)}
                for same in settings:
                    self._describe(owners[same[0].index], self._cells([same[0].searched]))
            yield self._begun(cells, owners, len(groups))

    def _begun(self, cells: Sequence[Cell], owners: Mapping[int, Trial], groups: int | None) -> _Group:
        self._groups += 1
        self._display.group(self._groups, groups, cells)
        with self._signals.held():
            return _Group(self, self._groups, groups, cells, owners)

    def halves(self, group: _Group) -> Iterator[_Group]:
        """Two groups in place of one for which memory did not suffice."""
        name = plan.group_name(group.cells[0].settings)
        self._display.note(f"{name}: memory ran out with {len(group.cells)} trials: in halves")
        with self._signals.held():
            for running in group.running:
                self._records.break_off(running.run_id, "KILLED", "memory ran out: trained in a smaller group")
        for half in plan.parts(group.cells, 2):
            if not self.spent:
                yield self._begun(half, group.owners, None)

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
            self._trainer.train(self._begun(cells, owners, None) for cells in self._grouped(new) if not self.spent)
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

    def begin(self, cell: Cell) -> str:
        """The run of a cell that begins to train."""
        return self._records.start_trial(cell, self._parent)

    def architecture(self, cell: Cell) -> Architecture:
        return plan.architecture(cell.settings, self._data)

    def judge(self, group: _Group, report: EpochReport) -> dict[int, Verdict]:
        """Tell Optuna the epoch's accuracies, and find who is pruned and whether the budget is spent."""
        self._epochs += len(report.metrics)
        self._seconds += next(iter(report.metrics.values()))["epoch_seconds"]
        for place, metrics in report.metrics.items():
            group.running[place].accuracy = metrics["val_accuracy"]
            group.running[place].seconds += metrics["epoch_seconds"] / len(report.metrics)
        with self._signals.held():
            for index in {group.running[place].cell.index for place in report.metrics}:
                same = [running for running in group.running if running.cell.index == index]
                self._study.report(same[0].trial, report.epoch, sum(r.accuracy for r in same) / len(same))
            pruned = self._pruned(group, report)
        if self.spent:
            return dict.fromkeys(report.metrics.keys() - report.ended, ("cut", self.spent))
        return pruned

    def _pruned(self, group: _Group, report: EpochReport) -> dict[int, Verdict]:
        if self._stage.pruner is None:
            return {}
        running = {place: group.running[place].trial.number for place in report.metrics.keys() - report.ended}
        # A setting of which one seed has diverged will rank as failed: it must not take the place of another.
        self._failed |= {group.running[place].trial.number for place, r in report.ended.items() if r.status == "failed"}
        curves = {number: curve for number, curve in self._study.curves().items() if number not in self._failed}
        stopped = to_prune(self._stage.pruner, curves, set(running.values()) - self._failed)
        reason = f"pruned by {self._stage.pruner.kind} after epoch {report.epoch}"
        return {place: ("pruned", reason) for place, number in running.items() if number in stopped}

    def record(self, group: _Group, report: EpochReport) -> None:
        """Write down what an epoch brought."""
        with self._signals.held():
            for place, metrics in report.metrics.items():
                self._records.epoch(group.running[place].run_id, report.epoch, metrics)
            for place, result in report.ended.items():
                running = group.running[place]
                outcome = replace(_outcome(running.run_id, result), seconds=running.seconds)
                self._records.results(running.run_id, running.cell, result, outcome)
                self._study.tell(running.trial, running.cell.key, outcome)
                self._records.close(running.run_id, outcome)
                self._outcomes[running.cell.key] = outcome
        self._display.epoch(group.number, group.groups, group.cells, report)


def _outcome(run_id: str, result: TrialResult) -> Outcome:
    best_loss = result.history[result.best_epoch - 1]["val_loss"] if result.best_epoch else None
    return Outcome(
        result.status, run_id, result.best_accuracy, best_loss, result.best_epoch, epochs=len(result.history)
    )
