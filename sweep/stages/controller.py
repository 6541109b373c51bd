"""The groups of a stage in training: each epoch is told to Optuna, MLflow and the screen, and some trials end early."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from core.errors import InputError
from core.training.checkpoint import remove_group
from core.training.progress import EpochReport, Progress, TrialResult, Verdict
from sweep.executors.base import GroupTask
from sweep.experiment.checks import Value
from sweep.experiment.stage import Stage
from sweep.records.checkpoints import Saved, about, path_of
from sweep.records.runs import Records
from sweep.records.study import Study
from sweep.search import grouping, plan
from sweep.search.cell import Cell
from sweep.search.means import mean
from sweep.search.outcome import Outcome
from sweep.search.pruners import to_prune

if TYPE_CHECKING:
    from optuna import Trial

    from sweep.stages.sweep import Sweep


@dataclass
class _Running:
    """A cell of a group, and its run in MLflow. accuracy: on the validation data, after its last epoch."""

    cell: Cell
    run_id: str
    accuracy: float = 0.0


class _Group:
    """Cells in training (see sweep.executors.base.GroupMonitor)."""

    def __init__(
        self,
        training: Training,
        number: int,
        groups: int | None,
        running: Sequence[_Running],
        owners: Mapping[int, Trial],
        task: GroupTask,
    ) -> None:
        """
        number, groups  of how many this is which; None: that is not known
        owners          the Optuna trial of each setting that is not done, by the cells' index
        """
        self.number, self.groups, self.running, self.owners, self.task = number, groups, running, owners, task
        self.cells = [each.cell for each in running]
        self.stopping = False
        self.left = set(task.start.active if task.start else range(len(running)))  # places of those that have not ended
        self._training, self._reported = training, task.start is not None

    def judge(self, report: EpochReport) -> Mapping[int, Verdict]:
        self.stopping = self._training.stopping
        return self._training.judge(self, report)

    def record(self, report: EpochReport) -> None:
        self._reported = True
        self._training.record(self, report)

    def halves(self, error: MemoryError) -> Iterator[_Group]:
        if self._reported or len(grouping.by_setting(self.cells)) == 1:
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
        self._folder = sweep.folder.training
        self._stage, self._inherited, self._study = stage, inherited, study
        self._records, self._parent = records, parent
        self._outcomes = {key: outcome for key, outcome in outcomes.items() if not stage.reopens(outcome.status)}
        before = [outcomes[cell.key] for cell in cells if cell.key in outcomes]
        self._epochs, self._seconds = sum(o.epochs for o in before), sum(o.seconds for o in before)
        self._diverged = {key for key, outcome in outcomes.items() if outcome.status == "failed"}  # before this
        self._index = {cell.key: cell.index for cell in cells}
        self._failed = {self._index[cell.key] for cell in cells if self._status(cell) == "failed"}
        self._groups, self._before = 0, len(self._outcomes)
        self.groups: list[list[Cell]] = []  # those that began here, and did not go on from an earlier call

    def _status(self, cell: Cell) -> str:
        return self._outcomes[cell.key].status if cell.key in self._outcomes else ""

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
    def _over(self) -> bool:
        return bool(self.stopping or self.spent)

    def planned(self, cells: Sequence[Cell], saved: Sequence[Saved]) -> None:
        """Train these cells: those of saved groups go on, then group after group is enqueued and asked for."""
        going_on = {group.cells[place].key for group in saved for place in group.progress.active}
        groups = self._grouped([cell for cell in cells if cell.key not in going_on])
        count = len(saved) + len(groups)
        self._trainer.train(chain(self._resumed(saved, count), self._enqueued(groups, count)))

    def _enqueued(self, groups: Sequence[Sequence[Cell]], count: int | None) -> Iterator[_Group]:
        for cells in groups:
            if self._over:
                return
            with self._signals.held():
                owners = self._owners(cells)
            yield self._begun(cells, owners, count)

    def _owners(self, cells: Sequence[Cell]) -> dict[int, Trial]:
        """New Optuna trials for the settings of these cells, by the cells' index."""
        settings = [same[0] for same in grouping.by_setting(cells)]
        trials = self._study.enqueue([cell.point for cell in settings])
        for cell, trial in zip(settings, trials, strict=True):
            self._describe(trial, self._cells([cell.point]))
        return {cell.index: trial for cell, trial in zip(settings, trials, strict=True)}

    def _resumed(self, saved: Sequence[Saved], count: int) -> Iterator[_Group]:
        """The groups that were broken off, with their runs, and new Optuna trials that know what was reported."""
        for group in saved:
            if self._over:
                return
            progress = group.progress
            self._groups += 1
            self._display.group(self._groups, count, group.cells)
            with self._signals.held():
                owners = self._owners([group.cells[place] for place in progress.active])
                running = [_Running(*pair) for pair in zip(group.cells, group.run_ids, strict=True)]
                for each, result in zip(running, progress.results, strict=True):
                    each.accuracy = result.history[-1]["val_accuracy"]
                for place in progress.active:
                    result = progress.results[place]
                    self._epochs, self._seconds = self._epochs + len(result.history), self._seconds + result.seconds
                    running[place].run_id = self._records.go_on(
                        running[place].cell, running[place].run_id, self._parent, result.history, group.code
                    )
                self._report_again(running, owners, progress)
            yield self._group(count, running, owners, group)

    def _report_again(self, running: Sequence[_Running], owners: Mapping[int, Trial], progress: Progress) -> None:
        """Tell new Optuna trials the accuracies of the epochs so far."""
        for index, trial in owners.items():
            same = [
                [metrics["val_accuracy"] for metrics in result.history]
                for each, result in zip(running, progress.results, strict=True)
                if each.cell.index == index
            ]
            self._study.report_curves(trial, same)

    def _begun(self, cells: Sequence[Cell], owners: Mapping[int, Trial], count: int | None) -> _Group:
        self._groups += 1
        self.groups.append(list(cells))
        self._display.group(self._groups, count, cells)
        with self._signals.held():
            running = [_Running(cell, self._records.start_trial(cell, self._parent)) for cell in cells]
        return self._group(count, running, owners)

    def _group(
        self, count: int | None, running: Sequence[_Running], owners: Mapping[int, Trial], saved: Saved | None = None
    ) -> _Group:
        cells = [each.cell for each in running]
        path = saved.path if saved else path_of(self._folder, cells)
        known = about(cells, [each.run_id for each in running], self._records.environment)
        shape = grouping.architecture(cells[0].settings, self._data)
        task = GroupTask(shape, [cell.settings for cell in cells], path, known, saved.progress if saved else None)
        return _Group(self, self._groups, count, running, owners, task)

    def halves(self, group: _Group) -> Iterator[_Group]:
        """Two groups in place of one for which memory did not suffice."""
        name = grouping.group_name(group.cells[0].settings)
        self._display.note(f"{name}: memory ran out with {len(group.cells)} trials: in halves")
        self.groups.remove(group.cells)
        with self._signals.held():
            for running in group.running:
                self._records.break_off(running.run_id, "KILLED", "memory ran out: trained in a smaller group")
        for half in grouping.parts(group.cells, 2):
            if not self._over:
                yield self._begun(half, group.owners, None)

    def proposed(self, tried: list[dict[str, Value]], remaining: int) -> None:
        """Train what the sampler proposes, so many settings after those that were tried."""
        while remaining and not self._over:
            count = min(self._stage.at_once, remaining)
            remaining -= count
            with self._signals.held():
                wave = self._study.propose(count, self._keys, self._outcomes, self._left_out)
            tried += wave
            cells = self._cells(tried)
            self._index = {cell.key: cell.index for cell in cells}
            # A choice among few may come up again: its outcome is known.
            new = [cell for cell in cells if cell.point in wave and cell.key not in self._outcomes]
            self._trainer.train(self._enqueued(self._grouped(new), None))

    def _keys(self, setting: Mapping[str, Value]) -> list[str]:
        """The keys of a setting's cells at their first attempt: a retry is no part of the search."""
        cells = plan.cells(self._experiment, self._stage, self._inherited, self._data, [dict(setting)])
        return [cell.key for cell in cells]

    def _left_out(self, error: InputError) -> None:
        self._display.warn(f"{self._stage.name}: left out what {self._stage.sampler} proposed: {error}")

    def _cells(self, settings: Sequence[dict[str, Value]]) -> list[Cell]:
        return plan.cells(self._experiment, self._stage, self._inherited, self._data, settings, self._diverged)

    def _describe(self, trial: Trial, cells: Sequence[Cell]) -> None:
        """Tell Optuna of all cells of a setting."""
        known = {cell.key: self._outcomes[cell.key] for cell in cells if cell.key in self._outcomes}
        self._study.describe(trial, cells[0].setting, [cell.key for cell in cells], known)

    def judge(self, group: _Group, report: EpochReport) -> dict[int, Verdict]:
        """Tell Optuna the epoch's accuracies, and find who is pruned and whether the budget is spent."""
        self._epochs += len(report.metrics)
        self._seconds += next(iter(report.metrics.values()))["epoch_seconds"]
        for place, metrics in report.metrics.items():
            group.running[place].accuracy = metrics["val_accuracy"]
        with self._signals.held():
            for index in {group.running[place].cell.index for place in report.metrics}:
                same = [running.accuracy for running in group.running if running.cell.index == index]
                self._study.report(group.owners[index], report.epoch, mean(same))
            pruned = self._pruned(group, report)
        if self.spent:
            return dict.fromkeys(report.metrics.keys() - report.ended, ("cut", self.spent))
        return pruned

    def _pruned(self, group: _Group, report: EpochReport) -> dict[int, Verdict]:
        if self._stage.pruner is None:
            return {}
        running = {place: group.running[place].cell.index for place in report.metrics.keys() - report.ended}
        # A setting of which one seed has diverged will rank as failed: it must not take the place of another.
        self._failed |= {group.running[place].cell.index for place, r in report.ended.items() if r.status == "failed"}
        curves = {self._index[key]: curve for key, curve in self._study.curves().items() if key in self._index}
        curves = {index: curve for index, curve in curves.items() if index not in self._failed}
        stopped = to_prune(self._stage.pruner, curves, set(running.values()) - self._failed)
        reason = f"pruned by {self._stage.pruner.kind} after epoch {report.epoch}"
        return {place: ("pruned", reason) for place, index in running.items() if index in stopped}

    def record(self, group: _Group, report: EpochReport) -> None:
        """Write down what an epoch brought."""
        with self._signals.held():
            for place, metrics in report.metrics.items():
                self._records.epoch(group.running[place].run_id, report.epoch, metrics)
            for place, result in report.ended.items():
                running = group.running[place]
                outcome = _outcome(running.run_id, result)
                self._records.results(running.run_id, running.cell, result, outcome)
                self._study.tell(group.owners[running.cell.index], running.cell.key, outcome)
                self._records.close(running.run_id, outcome)
                self._outcomes[running.cell.key] = outcome
            group.left -= report.ended.keys()
            if not group.left:
                remove_group(group.task.path)
        self._display.epoch(group.number, group.groups, group.cells, report)


def _outcome(run_id: str, result: TrialResult) -> Outcome:
    best_loss = result.history[result.best_epoch - 1]["val_loss"] if result.best_epoch else None
    best = (result.best_accuracy, best_loss, result.best_epoch)
    return Outcome(
        result.status, run_id, *best, epochs=len(result.history), seconds=result.seconds, reason=result.reason
    )
