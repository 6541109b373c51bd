"""Feeds the executor with the groups of a stage: those that go on, those that are planned, what is proposed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from core.errors import InputError
from core.training.progress import EpochReport, Verdict
from sweep.executors.base import GroupTask
from sweep.experiment.checks import Value
from sweep.records.checkpoints import SavedGroup, about, path_of
from sweep.records.records import Records
from sweep.records.study import Study
from sweep.search import grouping, plan
from sweep.search.cell import Cell
from sweep.search.outcome import diverged
from sweep.stages.epochs import Epochs
from sweep.stages.group import Group
from sweep.stages.state import StageState
from sweep.stages.sweep import Sweep

if TYPE_CHECKING:
    from optuna import Trial


class Controller:
    """Begins the groups of a stage, one after another, as the executor asks for them."""

    def __init__(
        self, sweep: Sweep, state: StageState, study: Study, records: Records, epochs: Epochs, parent: str
    ) -> None:
        """
        state   the stage as it was before this call
        parent  the stage's MLflow run
        """
        self._sweep, self._stage, self._inherited = sweep, state.stage, state.inherited
        self._study, self._records, self._epochs, self._parent = study, records, epochs, parent
        self._diverged = diverged(state.outcomes)
        self._executor, self._begun = sweep.executor, 0
        self.groups: list[list[Cell]] = []  # those that began here, and did not go on from an earlier call

    def train(self, cells: Sequence[Cell], saved: Sequence[SavedGroup]) -> None:
        """Train these cells: those of saved groups go on, then group after group is enqueued and asked for."""
        going_on = {group.cells[index].key for group in saved for index in group.progress.active}
        groups = self._sweep.planner.groups([cell for cell in cells if cell.key not in going_on])
        count = len(saved) + len(groups)
        self._executor.train(chain(self._resumed(saved, count), self._enqueued(groups, count)))

    def train_proposals(self, tried: Sequence[dict[str, Value]], remaining: int) -> None:
        """Train `remaining` more proposals of the sampler; tried are the settings of before."""
        settings = list(tried)
        while remaining and not self._epochs.over:
            count = min(self._stage.at_once, remaining)
            remaining -= count
            with self._sweep.signals.held():
                wave = self._study.propose(count, self._keys, self._epochs.outcomes, self._left_out)
            settings += wave
            cells = self._cells(settings)
            self._epochs.plan(cells)
            # A choice among few may come up again: its outcome is known.
            new = [cell for cell in cells if cell.point in wave and cell.key not in self._epochs.outcomes]
            self._executor.train(self._enqueued(self._sweep.planner.groups(new), None))

    def _keys(self, setting: Mapping[str, Value]) -> list[str]:
        """The keys of a setting's cells at their first attempt: a retry is no part of the search."""
        sweep = self._sweep
        cells = plan.cells(sweep.experiment, self._stage, self._inherited, sweep.data, [dict(setting)])
        return [cell.key for cell in cells]

    def _left_out(self, error: InputError) -> None:
        self._sweep.display.warn(f"{self._stage.name}: left out what {self._stage.sampler} proposed: {error}")

    def _cells(self, settings: Sequence[dict[str, Value]]) -> list[Cell]:
        sweep = self._sweep
        return plan.cells(sweep.experiment, self._stage, self._inherited, sweep.data, settings, self._diverged)

    def _enqueued(self, groups: Sequence[Sequence[Cell]], count: int | None) -> Iterator[Monitor]:
        for cells in groups:
            if self._epochs.over:
                return
            with self._sweep.signals.held():
                optuna_trials = self._enqueue(cells)
            yield self._begin(cells, optuna_trials, count)

    def _enqueue(self, cells: Sequence[Cell]) -> dict[int, Trial]:
        """New Optuna trials for the settings of these cells, by the cells' index."""
        settings = [same[0] for same in grouping.by_setting(cells)]
        trials = self._study.enqueue([cell.point for cell in settings])
        known = self._epochs.outcomes
        for cell, trial in zip(settings, trials, strict=True):
            every = self._cells([cell.point])
            ended = {seed.key: known[seed.key] for seed in every if seed.key in known}
            self._study.describe(trial, every[0].setting, [seed.key for seed in every], ended)
        return {cell.index: trial for cell, trial in zip(settings, trials, strict=True)}

    def _begin(self, cells: Sequence[Cell], optuna_trials: Mapping[int, Trial], count: int | None) -> Monitor:
        self._show(cells, count)
        self.groups.append(list(cells))
        with self._sweep.signals.held():
            run_ids = [self._records.trials.start(cell, self._parent) for cell in cells]
        return self._monitor(count, cells, run_ids, optuna_trials)

    def _show(self, cells: Sequence[Cell], count: int | None) -> None:
        self._begun += 1
        self._sweep.display.group(self._begun, count, cells)

    def _resumed(self, saved: Sequence[SavedGroup], count: int) -> Iterator[Monitor]:
        """The groups that were broken off, with their runs, and new Optuna trials that know what was reported."""
        for group in saved:
            if self._epochs.over:
                return
            self._show(group.cells, count)
            with self._sweep.signals.held():
                optuna_trials = self._enqueue([group.cells[index] for index in group.progress.active])
                run_ids = list(group.run_ids)
                for index in group.progress.active:
                    cell, result = group.cells[index], group.progress.results[index]
                    self._epochs.go_on(result)
                    given = (cell, run_ids[index], self._parent, result.history, group.code)
                    run_ids[index] = self._records.trials.resume(*given)
                self._report_again(group, optuna_trials)
            yield self._monitor(count, group.cells, run_ids, optuna_trials, group)

    def _report_again(self, group: SavedGroup, optuna_trials: Mapping[int, Trial]) -> None:
        """Tell new Optuna trials the accuracies of the epochs so far."""
        trials = list(zip(group.cells, group.progress.results, strict=True))
        for setting, optuna_trial in optuna_trials.items():
            histories = [result.history for cell, result in trials if cell.index == setting]
            curves = [[metrics["val_accuracy"] for metrics in history] for history in histories]
            self._study.report_curves(optuna_trial, curves)

    def _monitor(
        self,
        count: int | None,
        cells: Sequence[Cell],
        run_ids: Sequence[str],
        optuna_trials: Mapping[int, Trial],
        saved: SavedGroup | None = None,
    ) -> Monitor:
        path = saved.path if saved else path_of(self._sweep.folder.training, cells)
        architecture = grouping.architecture(cells[0].settings, self._sweep.data)
        kept = about(cells, run_ids, self._records.provenance.environment)
        progress = saved.progress if saved else None
        task = GroupTask(architecture, [cell.settings for cell in cells], path, kept, progress)
        return Monitor(Group(self._begun, count, cells, run_ids, optuna_trials, task), self._epochs, self._halve)

    def _halve(self, group: Group) -> Iterator[Monitor]:
        """Two groups in place of one for which memory did not suffice."""
        name = grouping.group_name(group.cells[0].settings)
        self._sweep.display.note(f"{name}: memory ran out with {len(group.cells)} trials: in halves")
        self.groups.remove(group.cells)
        with self._sweep.signals.held():
            for run_id in group.run_ids:
                self._records.trials.break_off(run_id, "KILLED", "memory ran out: trained in a smaller group")
        for half in grouping.parts(group.cells, 2):
            if not self._epochs.over:
                yield self._begin(half, group.optuna_trials, None)


class Monitor:
    """What the executor asks about a group: see sweep.executors.base.GroupMonitor."""

    def __init__(self, group: Group, epochs: Epochs, halve: Callable[[Group], Iterator[Monitor]]) -> None:
        self.stopping = False
        self._group, self._epochs, self._halve = group, epochs, halve
        self._recorded = group.task.start is not None

    @property
    def task(self) -> GroupTask:
        """What is to be trained."""
        return self._group.task

    def judge(self, report: EpochReport) -> Mapping[int, Verdict]:
        """Who ends after this epoch, beside those that have."""
        self.stopping = self._epochs.stopping
        return self._epochs.judge(self._group, report)

    def record(self, report: EpochReport) -> None:
        """Write down what the epoch brought."""
        self._recorded = True
        self._epochs.record(self._group, report)

    def halves(self, error: MemoryError) -> Iterator[Monitor]:
        """Two groups in its place, which begin anew. Raises error if it has recorded an epoch, or is one setting."""
        if self._recorded or len(grouping.by_setting(self._group.cells)) == 1:
            raise error
        return self._halve(self._group)
