"""Compares what Optuna's journal, the files of the trials and MLflow tell of one stage, and mends it."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from core.errors import DamageError, InputError
from core.storage import checksums
from core.tracking.entities import RunInfo
from core.tracking.errors import UnreachableError
from core.training.progress import METRICS
from sweep.experiment.checks import Value
from sweep.experiment.space import Range
from sweep.experiment.stage import Stage
from sweep.records.journal import Wave
from sweep.records.runs import Records, best_metrics
from sweep.records.study import Study
from sweep.records.trial_files import TrialFiles, read_trial
from sweep.search import grouping, plan
from sweep.search.cell import Cell
from sweep.search.outcome import Outcome
from sweep.stages.end import end_again
from sweep.stages.state import StageState, inherit
from sweep.stages.sweep import Sweep

_TIMED = "epoch_seconds"  # differs between the times that an epoch was trained


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be, and what --fix does about it."""

    what: str
    mended: str


class StageCheck:
    """One stage: its cells, outcomes, files and runs."""

    def __init__(self, sweep: Sweep, records: Records, stage: Stage, busy: bool) -> None:
        self._sweep, self._records, self._stage, self._busy = sweep, records, stage, busy
        self._tracker = records.tracker
        self._known: Mapping[str, Value] | None = None  # see _inherited
        every = sweep.journal.outcomes(stage.name)
        self._runs = records.runs(kind="trial", stage=stage.name)  # later: a run is there before its outcome
        here = sweep.journal.outcomes(stage.name, records.trials(self._runs))
        self._outcomes = every | here  # of the journal, by key: those that this store has a run of, if it has

    def examine(self, fix: bool) -> Iterator[Finding]:
        """Compare, and mend on fix."""
        found = False
        for finding in chain(self._trials(fix), self._own(fix)):
            found = True
            yield finding
        if fix and found:
            runs = self._records.trials()
            state = StageState.of(self._sweep, self._stage, runs=runs, inherited=self._known)
            end_again(self._sweep, state, self._records)

    def _trials(self, fix: bool) -> Iterator[Finding]:
        for former in self._records.superseded(self._runs):
            yield Finding(f"{former.name} is there twice, since one was made anew", f"{former.run_id[:8]} is removed")
            del self._runs[former.run_id]
            if fix:
                self._tracker.delete(former.run_id)
        if not self._busy:
            yield from self._unknown(fix)
        for key, outcome in self._outcomes.items():
            run = self._runs.get(outcome.run_id)
            if self._busy and run and run.status == "RUNNING":
                continue
            folder = self._tracker.artifacts.folder(run) if run else self._files(outcome.run_id)
            try:
                trial = self._read(folder, key)
            except InputError as error:
                if run is not None:  # else it is open anyway
                    yield Finding(str(error), f"its trial is opened again: the next run{self._points(run)} trains it")
                    if fix:
                        self._tracker.delete(run.run_id)
                continue
            if run is None and self._tracker.lookup.deleted(outcome.run_id):
                continue  # somebody wants it trained again
            what = "is not in MLflow" if run is None else self._difference(run, trial)
            if what and (cell := self._cell(trial)):
                yield Finding(f"run {outcome.run_id[:8]} ({trial.config['trial']}) {what}", "made anew from its files")
                if fix:
                    self._records.rebuild(cell, self._parent(), self._recorded(trial, outcome), trial.history, folder)
            elif run and run.status == "RUNNING" and fix:
                self._records.close(run.run_id, outcome)

    @property
    def _inherited(self) -> Mapping[str, Value]:
        """What the winner of the stage before hands on, by all that the journal knows."""
        if self._known is None:
            self._known = inherit(self._sweep, self._stage)
        return self._known

    def _recorded(self, trial: TrialFiles, outcome: Outcome) -> Outcome:
        """What the trial's files tell of how it ended, with the id of its run that the journal has."""
        was = {now: id_ for id_, now in self._records.trials(self._runs).items()}
        return replace(trial.outcome, run_id=was.get(outcome.run_id, outcome.run_id))

    def _read(self, folder: Path, key: str) -> TrialFiles:
        """What the files in the folder of the trial of this key tell. Raises InputError if they are another's."""
        trial = read_trial(folder)
        if (trial.config["stage"], trial.config["key"]) != (self._stage.name, key):
            raise DamageError(f"{folder} holds the files of another trial, {trial.config['trial']}")
        return trial

    def _files(self, run_id: str) -> Path:
        """Where a run's files are if no server has them."""
        return self._sweep.folder.path / run_id / "artifacts"

    def _cell(self, trial: TrialFiles) -> Cell | None:
        """The trial's cell; None if the experiment's file would not make it any more."""
        cells = [cell for cell in self._cells([trial]) if cell.key == trial.config["key"]]
        return next((cell for cell in cells if self._stage.space.contains(cell.point)), None)

    def _cells(self, trials: Iterable[TrialFiles]) -> list[Cell]:
        """The cells of their settings, a cell for each seed and attempt."""
        cells: dict[str, Cell] = {}
        for _ in range(self._stage.retries + 1):
            cells |= {cell.key: cell for cell in self._plan(self._settings(trials), cells)}
        return list(cells.values())

    def _plan(self, settings: Sequence[dict[str, Value]], diverged: Container[str]) -> list[Cell]:
        sweep = self._sweep
        return plan.cells(sweep.experiment, self._stage, self._inherited, sweep.data, settings, diverged)

    def _settings(self, trials: Iterable[TrialFiles]) -> list[dict[str, Value]]:
        """What the stage searches, as these trials had it; once, where they are seeds of one setting."""
        settings: list[dict[str, Value]] = []
        for trial in trials:
            chosen: dict[str, Value] = {}
            for key, values in self._stage.space.active(chosen):
                irrelevant = values.low if isinstance(values, Range) else values[0]  # to a trial that does not tell it
                chosen[key] = trial.config["settings"].get(key, irrelevant)
            if chosen not in settings:
                settings.append(chosen)
        return settings

    def _points(self, run: RunInfo) -> str:
        """With what option a run trains this trial, if it needs one."""
        for name, points in self._stage.points.items():
            for point in points:
                if all(run.params.get(key) == str(value) for key, value in point.items()):
                    return f" with --points {name}"
        return ""

    def _parent(self) -> str:
        return self._records.stage(self._stage, dict(self._inherited), [], reopen=True)[0]

    def _difference(self, run: RunInfo, trial: TrialFiles) -> str:
        """How MLflow's run differs from the files; "" if it does not."""
        params = {key: str(value) for key, value in trial.config["settings"].items()}
        wrong = [name for name, value in params.items() if run.params.get(name) != value]
        best = best_metrics(trial.outcome)
        wrong += [name for name, value in best.items() if run.metrics.get(name) != value]
        told = {"outcome": trial.outcome.status, "key": trial.config["key"], "stage": self._stage.name}
        wrong += [name for name, value in told.items() if run.tags.get(name) != value]
        known = self._tracker.lookup.metrics(run.run_id, METRICS)
        for epoch, metrics in enumerate(trial.history, start=1):
            expected = {name: [value] for name, value in metrics.items() if math.isfinite(value)}
            found = {name: known.pop((name, epoch), []) for name in expected}
            wrong += [
                f"{name} of epoch {epoch}"
                for name, values in expected.items()
                if (len(found[name]) != 1 if name == _TIMED else found[name] != values)
            ]
        wrong += [f"{name} of epoch {epoch}, which there was not" for name, epoch in known]
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        return f"differs in MLflow: {wrong[0]}{more}" if wrong else ""

    def _unknown(self, fix: bool) -> Iterator[Finding]:
        """Trials whose files are whole and say how they ended, though the journal does not know of them."""
        adopted: dict[str, TrialFiles] = {}
        for run in self._runs.values():
            if run.status != "FINISHED" and run.tags.get("outcome") != "failed":
                continue
            if run.tags["key"] in self._outcomes:
                continue
            folder = self._tracker.artifacts.folder(run)
            try:
                trial = self._read(folder, run.tags["key"])
            except InputError as error:
                yield Finding(f"{error}, nor has Optuna's journal a record of {run.name}", "its trial is opened again")
                if fix:
                    self._tracker.delete(run.run_id)
                continue
            if self._cell(trial):
                yield Finding(f"Optuna's journal has no record of {run.name}", "taken from its files")
                adopted[trial.config["key"]] = trial
        for trial in self._without_run(adopted.keys() | self._outcomes.keys()):
            yield Finding(f"neither Optuna's journal nor MLflow has {trial.config['trial']}", "taken from its files")
            adopted[trial.config["key"]] = trial
        if fix and adopted:
            self._adopt(adopted)
            now = self._records.trials(self._runs)
            for key, trial in adopted.items():
                id_ = trial.outcome.run_id
                self._outcomes[key] = replace(trial.outcome, run_id=now.get(id_, id_))

    def _without_run(self, known: set[str]) -> Iterator[TrialFiles]:
        """The trials, but for those of known keys, of which there is nothing but files; of each the newest."""
        paths = self._sweep.folder.path.glob(f"{'[0-9a-f]' * 32}/artifacts/config.json")
        for path in sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True):
            run_id = path.parent.parent.name
            if run_id in self._runs or f'"stage": "{self._stage.name}"' not in path.read_text(errors="replace"):
                continue
            try:
                trial = read_trial(path.parent)
            except InputError:
                continue  # nothing counts on it
            key = trial.config["key"]
            if trial.config["stage"] != self._stage.name or key in known or not self._cell(trial):
                continue
            if not self._tracker.lookup.deleted(run_id):
                known.add(key)
                yield replace(trial, outcome=replace(trial.outcome, run_id=run_id))

    def _adopt(self, adopted: Mapping[str, TrialFiles]) -> None:
        sweep, stage = self._sweep, self._stage
        settings = self._settings(sorted(adopted.values(), key=lambda trial: _number(stage, trial)))
        state = StageState.of(sweep, stage, inherited=self._inherited)
        study = state.study(sweep)
        if stage.adaptive:
            self._propose_again(study, state.identity, settings)
        failed = {key for key, trial in adopted.items() if trial.outcome.status == "failed"}
        attempts = [*grouping.by_setting(self._plan(settings, ())), *grouping.by_setting(self._plan(settings, failed))]
        for same in {tuple(cell.key for cell in same): same for same in attempts}.values():
            known = {cell.key: adopted[cell.key].outcome for cell in same if cell.key in adopted}
            (trial,) = study.enqueue([same[0].point])
            study.describe(trial, same[0].setting, [cell.key for cell in same], known)
            histories = [adopted[cell.key].history for cell in same if cell.key in adopted]
            study.report_curves(trial, [[metrics["val_accuracy"] for metrics in history] for history in histories])
            study.end(trial)
        sweep.journal.close_abandoned()  # those of which a seed is missing

    def _propose_again(self, study: Study, identity: str, settings: Sequence[dict[str, Value]]) -> None:
        """Note as proposed what of these settings is no point, and was not proposed as far as the journal knows."""
        points = self._stage.every_point
        known, _ = self._sweep.journal.proposals(self._stage, identity)
        lost = [setting for setting in settings if setting not in known]
        others, proposed = [s for s in lost if s in points], [s for s in lost if s not in points]
        for start in range(0, len(proposed), self._stage.at_once):
            wave = proposed[start : start + self._stage.at_once]
            study.record(Wave([] if start else others, wave, wave))

    def _own(self, fix: bool) -> Iterator[Finding]:
        """The stage's own run and table."""
        for run in self._records.runs(kind="stage", stage=self._stage.name).values():
            try:
                self._tracker.artifacts.path(run, "summary.csv")
            except UnreachableError:
                raise
            except InputError as error:
                if run.status in ("FINISHED", "FAILED") and "reason" not in run.tags:  # which what broke it off has
                    yield Finding(str(error), "the next run writes it anew")
                    if fix:
                        (self._files(run.run_id) / checksums.SUMS).unlink(missing_ok=True)
                        self._tracker.update(run.run_id, status="KILLED")


def _number(stage: Stage, trial: TrialFiles) -> int:
    """Of the trial's setting in the stage; see Cell.label."""
    found = re.match(r"-(\d+)", str(trial.config["trial"]).removeprefix(stage.name))
    return int(found[1]) if found else 0
