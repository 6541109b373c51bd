"""Compares all that is recorded of an experiment, and mends it.

What is true is what Optuna's journal and the trials' own files say, whose checksums tell whether they are as they were
written. MLflow shows it: a run of it that is lost or differs is made anew from them.
"""

from __future__ import annotations

import csv
import json
import math
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from core import files
from core.checkpoint import load_group, remove_group
from core.errors import InputError
from core.tracking import RunInfo, Tracker, store
from core.train import METRICS, Metrics
from sweep import plan
from sweep.experiment import Stage
from sweep.journal import cut_torn_line, whole_lines
from sweep.plan import Cell
from sweep.records import Records, best_metrics
from sweep.run import Sweep
from sweep.saved import group_paths
from sweep.study import Journal, Outcome

_TOLD = ("config.json", "history.csv")  # by every trial
_TIMED = "epoch_seconds"  # differs between the times that an epoch was trained


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be, and what --fix does about it."""

    what: str
    mended: str


@dataclass(frozen=True)
class Trial:
    """What the files of a trial tell."""

    config: Mapping[str, Any]
    history: list[Metrics]
    outcome: Outcome


def findings(sweep: Sweep, tracking_uri: str | None, fix: bool) -> Iterator[Finding]:
    """All that is wrong, and mended on fix; who asks for that holds the experiment's folder, if there is one.

    Raises InputError where something that cannot be read keeps it from looking further, and where there is nothing
    to look at.
    """
    begun, mended = sweep.folder.path.exists(), False
    for finding in check_database(store(tracking_uri), begun, fix):
        yield finding
        if not fix:
            return  # there is none to compare with
        mended = True
    if not begun:
        if mended:
            return
        name = sweep.experiment.name
        raise InputError(f"nothing of {name} was trained on {sweep.data.name}: there is no {sweep.folder.path}")
    tracker = Tracker(tracking_uri)
    if fix:
        yield from check_journal(sweep.journal, fix)
        yield from examine(sweep, tracker, fix)
        return
    if not sweep.folder.holder():
        yield from check_journal(sweep.journal, fix)
    while True:
        found, stopped, busy = list[Finding](), None, bool(sweep.folder.holder())
        try:
            for finding in examine(sweep, tracker, fix, busy):
                found.append(finding)  # those before an error are wanted
        except InputError as error:
            stopped = error
        if busy or not sweep.folder.holder():
            break  # else a sweep has begun, and what it had not written yet seemed to be wrong
    yield from found
    if stopped:
        raise stopped


def check_database(uri: str, begun: bool, fix: bool) -> Iterator[Finding]:
    """Look at mlflow.db itself, before it is opened; a missing one is missed where the experiment has begun."""
    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///"):
        return
    if not path.exists():
        if begun:
            yield Finding(f"there is no {path}", "the runs of this experiment are made anew from their files")
        return
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            (said,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        said = str(error)
    if said != "ok":
        aside = _aside(path)
        yield Finding(f"{path} is damaged: {said}", f"moved to {aside.name}; a new one is made (for all experiments)")
        if fix:
            for end in ("", "-wal", "-shm", "-journal"):  # what SQLite has beside it belongs to it
                if (part := path.with_name(path.name + end)).exists():
                    part.rename(aside.with_name(aside.name + end))


def check_journal(journal: Journal, fix: bool) -> Iterator[Finding]:
    """Look at Optuna's journal, line by line."""
    path = journal.path
    if not path.exists():
        return
    lines, error = whole_lines(path)
    if error:
        aside = _aside(path)
        yield Finding(error, f"moved to {aside.name}; of it {len(lines)} lines are kept")
        if fix:
            path.rename(aside)
            with files.replacing(path) as file:
                file.write(b"".join(lines))
            journal.reread()
    elif sum(map(len, lines)) < path.stat().st_size:
        yield Finding(f"the last line of {path} is torn", "cut off")
        if fix:
            cut_torn_line(path)


def examine(sweep: Sweep, tracker: Tracker, fix: bool, busy: bool = False) -> Iterator[Finding]:
    """Look at everything else, stage by stage. The journal must be readable.

    busy  a sweep is at work, which has not written all of its records yet
    """
    yield from _identity(sweep, tracker, fix)
    if not fix and not tracker.has_experiment(sweep.name):
        yield Finding(f"MLflow has no experiment {sweep.name}", "its runs are made anew from their files")
        return
    records = sweep.records(tracker)
    if not busy:
        yield from _left_open(sweep, records, fix)
        yield from _groups(sweep, fix)
    for stage in sweep.experiment.stages.values():
        try:
            yield from _Stage(sweep, records, stage, busy).examine(fix)
        except InputError as error:
            if stage.after is None:
                raise
            yield Finding(str(error), "it waits for that")
    if not busy:
        yield from _pictures(sweep, fix)
    if fix:
        sweep.close_open(records, "KILLED", "mended: the next run of the stage ends it")


def _identity(sweep: Sweep, tracker: Tracker, fix: bool) -> Iterator[Finding]:
    try:
        if sweep.folder.owner:
            return
    except InputError as error:
        what = str(error)
    else:
        what = f"{sweep.folder.path} does not tell whose it is"
    known = {o.run_id for stage in sweep.experiment.stages.values() for o in sweep.outcomes(stage).values()}
    known |= {path.name for path in sweep.folder.path.iterdir()}  # of the runs that have files here
    runs = tracker.runs(tracker.experiment(sweep.name))
    owners = Counter(run.tags.get("owner", "") for run in runs if run.run_id in known)
    owner = owners.most_common(1)[0][0] if owners else ""
    yield Finding(what, f"written anew, {'as its runs in MLflow tell' if owner else 'with a new name'}")
    if fix:
        sweep.folder.sign(sweep.experiment.name, sweep.data, owner)


def _left_open(sweep: Sweep, records: Records, fix: bool) -> Iterator[Finding]:
    """Runs and trials in training, though nothing trains (the lock is ours)."""
    for run in records.runs().values():
        if run.status == "RUNNING":
            yield Finding(f"{run.name} was left open by a process that ended", "closed as KILLED, or as it ended")
    if fix:
        sweep.close_open(records, "KILLED", "its process ended without closing it")


def _groups(sweep: Sweep, fix: bool) -> Iterator[Finding]:
    """Files of groups in training that cannot be read, or that nothing goes on from."""
    for path in sweep.folder.leftovers():
        yield Finding(f"{path} was being written by a process that was killed", "removed")
        if fix:
            path.unlink(missing_ok=True)
    for path in group_paths(sweep.folder.training):
        try:
            load_group(path)
        except InputError as error:
            yield Finding(str(error), "removed; its trials start again")
            if fix:
                remove_group(path)


class _Stage:
    """One stage: its cells, outcomes, files and runs."""

    def __init__(self, sweep: Sweep, records: Records, stage: Stage, busy: bool) -> None:
        self._sweep, self._records, self._stage, self._busy = sweep, records, stage, busy
        self._tracker = records.tracker
        sweep.runs = None
        self._outcomes = sweep.outcomes(stage)  # of the journal, by key
        self._runs = records.runs(kind="trial", stage=stage.name)  # later: a run is there before its outcome

    def examine(self, fix: bool) -> Iterator[Finding]:
        """Compare, and mend on fix."""
        found = list(self._trials(fix))
        yield from found
        own = list(self._own(fix))
        yield from own
        if fix and found + own:
            self._sweep.end_again(self._stage, self._records)

    def _trials(self, fix: bool) -> Iterator[Finding]:
        now = self._records.trials()  # journal's id -> the run that there is
        damaged = set()
        for key, outcome in self._outcomes.items():
            run = self._runs.get(now.get(outcome.run_id, ""))
            if self._busy and run and run.status == "RUNNING":
                continue
            folder = self._tracker.local(run) if run else self._files(outcome.run_id)
            try:
                trial = read_trial(folder)
            except InputError as error:
                if run is not None:  # else it is open anyway
                    yield Finding(str(error), f"its trial is opened again: the next run{self._points(run)} trains it")
                    damaged.add(key)
                    if fix:
                        self._tracker.delete(run.run_id)
                continue
            if run is None and self._tracker.deleted(outcome.run_id):
                continue  # somebody wants it trained again
            what = "is not in MLflow" if run is None else self._difference(run, trial)
            if what:
                yield Finding(f"run {outcome.run_id[:8]} ({trial.config['trial']}) {what}", "made anew from its files")
                if fix and (cell := self._cell(trial)):
                    self._records.rebuild(cell, self._parent(), trial.outcome, trial.history, folder)
            elif run and run.status == "RUNNING" and fix:
                self._records.close(run.run_id, outcome)
        if not self._busy:
            yield from self._unknown(damaged, fix)
        self._sweep.runs = self._records.trials()

    def _files(self, run_id: str) -> Path:
        """Where a run's files are if no server has them."""
        return self._sweep.folder.path / run_id / "artifacts"

    def _cell(self, trial: Trial) -> Cell | None:
        """The trial's cell; None if the experiment's file would not make it any more."""
        return next((cell for cell in self._cells([trial]) if cell.key == trial.config["key"]), None)

    def _cells(self, trials: Iterable[Trial]) -> list[Cell]:
        """The cells of their settings, a cell for each seed."""
        settings = []
        for trial in trials:
            chosen: dict[str, Any] = {}
            for key, _ in self._stage.space.active(chosen):
                chosen[key] = trial.config["settings"][key]
            settings.append(chosen)
        inherited = self._sweep.inherited(self._stage)
        diverged = [key for key, outcome in self._outcomes.items() if outcome.status == "failed"]
        first, again = (
            plan.cells(self._sweep.experiment, self._stage, inherited, self._sweep.data, settings, keys)
            for keys in ([], diverged)
        )
        return list({cell.key: cell for cell in (*first, *again)}.values())

    def _points(self, run: RunInfo) -> str:
        """With what option a run trains this trial, if it needs one."""
        for name, points in self._stage.points.items():
            for point in points:
                if all(run.params.get(key) == str(value) for key, value in point.items()):
                    return f" with --points {name}"
        return ""

    def _parent(self) -> str:
        return self._records.stage(self._stage, self._sweep.inherited(self._stage), [], reopen=True)[0]

    def _difference(self, run: RunInfo, trial: Trial) -> str:
        """How MLflow's run differs from the files; "" if it does not."""
        params = {key: str(value) for key, value in trial.config["settings"].items()}
        wrong = [name for name, value in params.items() if run.params.get(name) != value]
        best = best_metrics(trial.outcome)
        wrong += [name for name, value in best.items() if run.metrics.get(name) != value]
        told = {"outcome": trial.outcome.status, "key": trial.config["key"], "stage": self._stage.name}
        wrong += [name for name, value in told.items() if run.tags.get(name) != value]
        known = self._tracker.metrics(run.run_id, METRICS)
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

    def _unknown(self, damaged: set[str], fix: bool) -> Iterator[Finding]:
        """Trials whose files are whole and say how they ended, though the journal does not know of them."""
        adopted: dict[str, Trial] = {}
        for run in self._runs.values():
            if run.status != "FINISHED" and run.tags.get("outcome") != "failed":
                continue
            if run.tags.get("key") in self._outcomes.keys() | damaged:
                continue
            try:
                trial = read_trial(self._tracker.local(run))
            except InputError as error:
                yield Finding(f"{error}, nor has Optuna's journal a record of {run.name}", "its trial is opened again")
                if fix:
                    self._tracker.delete(run.run_id)
                continue
            yield Finding(f"Optuna's journal has no record of {run.name}", "taken from its files")
            adopted[trial.config["key"]] = trial
        if fix and adopted:
            self._adopt(adopted)

    def _adopt(self, adopted: Mapping[str, Trial]) -> None:
        sweep, stage = self._sweep, self._stage
        cells = self._cells(adopted.values())
        points = [point for named in stage.points.values() for point in named]
        study = sweep.study(stage, sweep.cells(stage))
        for same in plan.by_setting(cells):
            known = {cell.key: adopted[cell.key].outcome for cell in same if cell.key in adopted}
            (trial,) = study.enqueue([same[0].searched])
            proposed = stage.adaptive and same[0].searched not in points
            study.describe(trial, same[0].setting, [cell.key for cell in same], known, proposed)
            study.end(trial)
        sweep.journal.close_abandoned()  # those of which a seed is missing

    def _own(self, fix: bool) -> Iterator[Finding]:
        """The stage's own run and table."""
        for run in self._records.runs(kind="stage", stage=self._stage.name).values():
            try:
                self._tracker.artifact(run, "summary.csv")
            except InputError as error:
                if run.status in ("FINISHED", "FAILED"):
                    yield Finding(str(error), "the next run writes it anew")
                    if fix:
                        (self._files(run.run_id) / files.SUMS).unlink(missing_ok=True)
                        self._tracker.update(run.run_id, status="KILLED")


def _pictures(sweep: Sweep, fix: bool) -> Iterator[Finding]:
    """All other files that have checksums: pictures, evaluations, reports. Whatever made them makes them again."""
    for folder in sorted(path.parent for path in sweep.folder.path.glob(f"*/artifacts/**/{files.SUMS}")):
        try:
            sums = files.listed(folder)
        except InputError:
            sums = {path.name: "" for path in folder.iterdir() if path.is_file()}
        broken = [name for name, value in sums.items() if not _is(folder / name, value)]
        if broken and not set(broken) & {*_TOLD, "model.npz", "summary.csv"}:
            where = folder.relative_to(sweep.folder.path)
            yield Finding(f"{where}: damaged: {', '.join(broken)}", "removed; the command that made them does it again")
            if fix:
                for name in broken:
                    (folder / name).unlink(missing_ok=True)
                left = {name: files.digest(folder / name) for name in sums.keys() - set(broken)}
                with files.replacing(folder / files.SUMS) as file:
                    file.write(files.as_list(left).encode())


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and files.digest(path) == digest


def read_trial(folder: Path) -> Trial:
    """What a trial's files tell. Raises InputError if one is missing or damaged, also of those that are not read."""
    for name in _TOLD:
        _require(folder / name)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        known = {field.name for field in fields(Outcome)}
        outcome = Outcome(**{name: value for name, value in config["result"].items() if name in known})
        with open(folder / "history.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        history = [{name: float(value) for name, value in row.items() if name != "epoch"} for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder} is damaged: {type(error).__name__}: {error}") from None
    if outcome.best_epoch:
        _require(folder / "model.npz")
    return Trial(config, history, outcome)


def _require(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path} is missing")
    files.check(path)


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
