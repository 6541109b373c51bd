"""Compares all that is recorded of an experiment, and mends it.

What is true is what Optuna's journal and the trials' own files say, whose checksums tell whether they are as they were
written. MLflow shows it: a run of it that is lost or differs is made anew from them.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from core.errors import InputError, reason
from core.storage import atomic, checksums
from core.tracking import store
from core.tracking.errors import RefusedError
from core.tracking.tracker import Tracker
from core.training.checkpoint import load_group, remove_group
from sweep.doctor.stage_check import Finding, StageCheck
from sweep.records.checkpoints import group_paths
from sweep.records.journal import Journal
from sweep.records.journal_file import cut_torn_line, whole_lines
from sweep.records.runs import Records
from sweep.records.trial_files import TOLD
from sweep.results import ranking
from sweep.stages.end import ended_stages
from sweep.stages.reconcile import close_open
from sweep.stages.state import UnfinishedError
from sweep.stages.sweep import Sweep

_ELSEWHERE = (  # SQLite's codes of trouble that does not lie in its file
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN),
    *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM),
)


def findings(sweep: Sweep, tracking_uri: str | None, fix: bool) -> Iterator[Finding]:
    """All that is wrong, and mended on fix; who asks for that holds the experiment's folder, if there is one.

    Raises InputError where something that cannot be read keeps it from looking further, and where there is nothing
    to look at.
    """
    begun, mended = sweep.folder.path.exists(), False
    for finding in check_database(store.tracking_uri(tracking_uri), begun, fix):
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
    if not path.exists() or not path.stat().st_size:
        if begun:
            what = f"{path} is empty" if path.exists() else f"there is no {path}"
            yield Finding(what, "the runs of this experiment are made anew from their files")
        return
    try:  # writable, as one in which a process was killed is set right by whoever reads it next
        with closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True)) as connection:
            (said,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in _ELSEWHERE:
            raise InputError(f"{path} cannot be looked at: {reason(error)}") from None
        said = reason(error)
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
        yield Finding(error, f"kept as {aside.name}; its first {len(lines)} lines count")
        if fix:
            shutil.copy2(path, aside)
            with atomic.replacing(path) as file:
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
    with sweep.hints.on_deletion():
        known = tracker.lookup.has_experiment(sweep.name, _owner(sweep))
    if not known and not fix:
        yield Finding(f"MLflow has no experiment {sweep.name}", "its runs are made anew from their files")
        return
    unsigned = list(_identity(sweep, tracker, fix))
    yield from unsigned
    if unsigned and not fix:
        return  # which runs are of this folder is not known
    records = sweep.records(tracker)
    if not busy:
        yield from _left_open(sweep, records, fix)
        yield from _groups(sweep, fix)
    for stage in sweep.experiment.stages.values():
        try:
            yield from StageCheck(sweep, records, stage, busy).examine(fix)
        except UnfinishedError as error:
            yield Finding(str(error), "it waits for that")
    if not busy:
        yield from _pictures(sweep, fix)
        yield from _registered(sweep, records, fix)
    if fix:
        close_open(sweep, records, "KILLED", "mended: the next run of the stage ends it")


def _owner(sweep: Sweep) -> str:
    """What the experiment's folder says of its owner; "" if that is lost."""
    with suppress(InputError):
        return sweep.folder.owner
    return ""


def _identity(sweep: Sweep, tracker: Tracker, fix: bool) -> Iterator[Finding]:
    try:
        if sweep.folder.owner:
            return
    except InputError as error:
        what = str(error)
    else:
        what = f"{sweep.folder.path} does not tell whose it is"
    known = {o.run_id for name in sweep.experiment.stages for o in sweep.journal.outcomes(name).values()}
    known |= {path.name for path in sweep.folder.path.iterdir()}  # of the runs that have files here
    runs = tracker.lookup.runs(tracker.experiment(sweep.name))
    here = str(sweep.folder.path), sweep.folder.path.as_uri()  # where a run that has no files yet would have them
    mine = [run for run in runs if run.run_id in known] or [run for run in runs if run.artifact_uri.startswith(here)]
    owners = Counter(run.tags.get("owner", "") for run in mine)
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
        close_open(sweep, records, "KILLED", "its process ended without closing it")


def _groups(sweep: Sweep, fix: bool) -> Iterator[Finding]:
    """Files of groups in training that cannot be read, or that nothing goes on from."""
    for path in atomic.unfinished(sweep.folder.path):
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


def _pictures(sweep: Sweep, fix: bool) -> Iterator[Finding]:
    """All other files that have checksums: pictures, evaluations, reports. Whatever made them makes them again."""
    for folder in sorted(path.parent for path in sweep.folder.path.glob(f"*/artifacts/**/{checksums.SUMS}")):
        try:
            sums = checksums.listed(folder)
        except InputError:
            sums = {path.name: "" for path in folder.iterdir() if path.is_file()}
        broken = [name for name, value in sums.items() if not _is(folder / name, value)]
        if broken and not set(broken) & {*TOLD, "model.npz", "summary.csv"}:
            where = folder.relative_to(sweep.folder.path)
            yield Finding(f"{where}: damaged: {', '.join(broken)}", "removed; the command that made them does it again")
            if fix:
                for name in broken:
                    (folder / name).unlink(missing_ok=True)
                left = {name: checksums.digest(folder / name) for name in sums.keys() - set(broken)}
                with atomic.replacing(folder / checksums.SUMS) as file:
                    file.write(checksums.as_list(left).encode())


def _registered(sweep: Sweep, records: Records, fix: bool) -> Iterator[Finding]:
    """The registered model: winners that are no versions of it, as it was refused or left out; and its champion, who
    may have been set from an older list, or by a process that was killed.
    """
    if (registry := records.registry) is None:
        return
    try:
        for stage, rows in ended_stages(sweep, records):
            winner = ranking.winner(rows)
            if winner and winner.accuracy is not None and not registry.has(winner.outcome.run_id):
                what = f"{winner.cell.name}, the winner of {stage.name}, is no version of model {registry.name}"
                yield Finding(what, "registered; with --register none it is not missed")
                if fix:
                    records.register(stage, rows)
        best, why = registry.due()
        if best is not None:
            yield Finding(why, f"version {best.number} is made champion")
            if fix:
                registry.crown()
    except RefusedError:
        return  # this store has no registry


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and checksums.digest(path) == digest


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
