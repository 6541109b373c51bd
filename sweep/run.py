"""Drive one stage of an experiment: plan -> reconcile -> ask -> train in groups -> track -> tell -> rank."""

from __future__ import annotations

import uuid
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from core.batches import Images
from core.data import Dataset
from core.errors import InputError
from core.ops import Ops
from core.project import root
from core.tracking import Tracker
from core.train import EpochReport, TrialResult, train_group
from sweep import plan, ranking
from sweep.display import Display
from sweep.experiment import Experiment, Stage, Value
from sweep.interrupt import Interrupted, Signals
from sweep.plan import Cell
from sweep.records import Records, experiment_name
from sweep.study import Outcome, Study, close_abandoned, outcomes

if TYPE_CHECKING:
    from optuna import Trial


@dataclass(frozen=True)
class StageResult:
    """A stage after a run: its own MLflow run, its ranked trials, and how many of them this call trained."""

    stage: str
    run_id: str
    rows: list[ranking.Row]
    trained: int


@dataclass
class _Running:
    """A trial in training: its cell, its Optuna trial and its MLflow run."""

    cell: Cell
    trial: Trial
    run_id: str


class Sweep:
    """One experiment on one data set: where its records are, and what its stages share."""

    def __init__(self, experiment: Experiment, data: Dataset, ops: Ops, display: Display) -> None:
        self.experiment, self.data, self.ops, self.display = experiment, data, ops, display
        self.signals = Signals()
        self.name = experiment_name(experiment, data)
        self._folder = root() / "mlruns" / self.name
        self._journal = self._folder / "optuna.journal"
        self._runs: Container[str] | None = None

    def cells(self, stage: Stage, points: Sequence[str] = ()) -> list[Cell]:
        """The stage's plan: its grid or draws, the named points asked for, and those trained before.

        Raises InputError while the stage that it builds on is unfinished.
        """
        inherited = self.inherited(stage)
        every = plan.cells(self.experiment, stage, inherited, self.data, tuple(stage.points))
        wanted = {cell.key for cell in plan.cells(self.experiment, stage, inherited, self.data, points)}
        done = self.outcomes(stage)
        return [cell for cell in every if cell.key in wanted or cell.key in done]

    def outcomes(self, stage: Stage) -> dict[str, Outcome]:
        """How the stage's cells that have been trained ended, by key. Once a tracker is known, its runs alone count."""
        return outcomes(self._journal, stage.name, self._runs)

    def inherited(self, stage: Stage) -> dict[str, Value]:
        """What the winner of the stage before hands on."""
        if stage.after is None:
            return {}
        before = self.experiment.stages[stage.after]
        cells = self.cells(before)
        rows = ranking.ranked(cells, self.outcomes(before))
        if len(rows) < len(cells):
            raise InputError(
                f"stage {stage.name} builds on stage {before.name}, of which {len(rows)} of {len(cells)} trials are "
                f"done on this data ({self.data.name}): first run `python -m sweep run {self.experiment.name} "
                f"--stage {before.name}`"
            )
        best = ranking.winner(rows)
        if best is None:
            raise InputError(f"stage {stage.name} builds on stage {before.name}, whose trials all failed")
        return {key: getattr(best.cell.settings, key) for key in stage.inherit}

    def run_stage(self, stage: Stage, tracker: Tracker, points: Sequence[str] = ()) -> StageResult:
        """Train the cells of the stage that have not been trained yet, and rank them all.

        Raises Interrupted when a signal stopped it, after all records were closed: the same call goes on.
        """
        with self._lock(), self.signals.active():
            records = Records(tracker, self.experiment, self.data, self.ops, self._owner())
            try:
                with self.signals.held():
                    for name in self._close_open(records, "KILLED", "its process ended without closing it"):
                        self.display.note(f"{name} was left open by a process that ended: marked KILLED")
                    self._runs = records.runs(kind="trial")
                    cells = self.cells(stage, points)
                    done = self.outcomes(stage)
                    todo = [cell for cell in cells if cell.key not in done]
                    run_id, complete = records.stage(stage, self.inherited(stage), cells, reopen=bool(todo))
                self._train_all(stage, todo, cells, records, run_id)
                self._runs = records.runs(kind="trial")
                rows = ranking.ranked(cells, self.outcomes(stage))
                if todo or not complete:
                    with self.signals.held():
                        records.end_stage(run_id, cells, rows)
            except BaseException as error:
                with self.signals.held():
                    self._close_open(records, *_ending(error))
                raise
            finally:
                self.display.end()
        return StageResult(stage.name, run_id, rows, len(todo))

    def _owner(self) -> str:
        """A name for this folder's records: another checkout may share the MLflow server, and trains on its own."""
        path = self._folder / "owner"
        if not path.exists():
            path.write_text(uuid.uuid4().hex)
        return path.read_text().strip()

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One process at a time trains in an experiment. The system frees the lock of a process that dies."""
        lock = FileLock(self._folder / "sweep.lock")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            raise InputError(f"another sweep is at work in {self._folder.name}: wait for it, or stop it") from None
        except OSError as error:
            raise InputError(f"{self._folder} cannot be written: {error.strerror}") from None
        try:
            yield
        finally:
            lock.release()

    def _close_open(self, records: Records, status: str, reason: str) -> list[str]:
        """Close all that is open in this experiment, and return the names of the runs that were broken off.

        A trial whose outcome Optuna has gets the status it ended with; others get this one, and are trained again.
        """
        close_abandoned(self._journal)
        ended = {o.run_id: o for stage in self.experiment.stages for o in outcomes(self._journal, stage).values()}
        broken_off = []
        for run_id, run in records.runs().items():
            if run.status == "RUNNING" and run_id in ended:
                records.close(run_id, ended[run_id])
            elif run.status == "RUNNING":
                records.break_off(run_id, status, reason)
                broken_off.append(run.name)
        return broken_off

    def _train_all(
        self, stage: Stage, todo: Sequence[Cell], cells: Sequence[Cell], records: Records, parent: str
    ) -> None:
        self.display.begin(stage.name, len(cells), len(cells) - len(todo), sum(cell.settings.epochs for cell in todo))
        if not todo:
            return
        study = Study(self._journal, stage, cells)
        split = self.data.split(self.experiment.seed)
        train = Images.on_device(self.ops, split.x_train, split.y_train, self.data.scale)
        validation = Images.on_device(self.ops, split.x_validation, split.y_validation, self.data.scale)
        groups = plan.groups(todo)
        for number, group in enumerate(groups, start=1):
            self.display.group(number, len(groups), group)
            with self.signals.held():
                running = [
                    _Running(cell, trial, records.start_trial(cell, parent))
                    for cell, trial in zip(group, study.ask(group), strict=True)
                ]
            for report in train_group(
                self.ops,
                plan.architecture(group[0].settings, self.data),
                [cell.settings for cell in group],
                train,
                validation,
                data_seed=self.experiment.seed,
            ):
                with self.signals.held():
                    self._record(report, running, study, records)
                self.display.epoch(group, report)

    def _record(self, report: EpochReport, running: Sequence[_Running], study: Study, records: Records) -> None:
        for place, metrics in report.metrics.items():
            records.tracker.log_metrics(running[place].run_id, metrics, step=report.epoch)
        for place, result in report.ended.items():
            trial = running[place]
            outcome = _outcome(trial.run_id, result)
            records.results(trial.run_id, trial.cell, result, outcome)
            study.tell(trial.trial, outcome)
            records.close(trial.run_id, outcome)


def _outcome(run_id: str, result: TrialResult) -> Outcome:
    best_loss = result.history[result.best_epoch - 1]["val_loss"] if result.best_epoch else None
    return Outcome(
        result.status, run_id, result.best_accuracy, best_loss, result.best_epoch, epochs=len(result.history)
    )


def _ending(error: BaseException) -> tuple[str, str]:
    """Status and reason of runs that an exception broke off."""
    if isinstance(error, Interrupted):
        return "KILLED", f"stopped by {error}"
    return "FAILED", f"{type(error).__name__}: {error}"
