"""Looks at all that is recorded of an experiment, and changes nothing: see sweep.doctor.mend for that.

What is true is what Optuna's journal and the trials' own files say, whose checksums tell whether they are as they were
written. MLflow shows it: a run of it that is lost or differs is made anew from them.
"""

from __future__ import annotations

from collections.abc import Iterator

from core.errors import InputError
from core.tracking import store
from core.tracking.tracker import Tracker
from sweep.doctor.database_check import check_database
from sweep.doctor.files import check_groups, check_journal, check_pictures
from sweep.doctor.finding import Finding
from sweep.doctor.runs_check import check_model, check_open, check_owner, has_experiment
from sweep.doctor.stage_check import check_stage
from sweep.doctor.stage_records import StageRecords
from sweep.stages.state import UnfinishedError
from sweep.stages.sweep import Sweep


def examine(sweep: Sweep, tracking_uri: str | None) -> Iterator[Finding]:
    """All that is wrong, as far as it is seen before anything is mended.

    Raises InputError where something that cannot be read keeps it from looking further, and where there is nothing
    to look at.
    """
    lost = list(check_database(store.tracking_uri(tracking_uri), sweep.folder.path.exists()))
    yield from lost
    if lost:
        return  # there is none to compare with
    require_begun(sweep)
    tracker = Tracker(tracking_uri)
    if not sweep.folder.holder():
        yield from check_journal(sweep.journal)
    while True:
        found, stopped, busy = list[Finding](), None, bool(sweep.folder.holder())
        try:
            for finding in _experiment(sweep, tracker, busy):
                found.append(finding)  # those before an error are wanted
        except InputError as error:
            stopped = error
        if busy or not sweep.folder.holder():
            break  # else a sweep has begun, and what it had not written yet seemed to be wrong
    yield from found
    if stopped:
        raise stopped


def require_begun(sweep: Sweep) -> None:
    """Raise InputError where there is nothing to look at."""
    if not sweep.folder.path.exists():
        name = sweep.experiment.name
        raise InputError(f"nothing of {name} was trained on {sweep.data.name}: there is no {sweep.folder.path}")


def _experiment(sweep: Sweep, tracker: Tracker, busy: bool) -> Iterator[Finding]:
    """Everything but the database and the journal, which must be readable.

    busy  a sweep is at work, which has not written all of its records yet
    """
    if not has_experiment(sweep, tracker):
        yield Finding(f"MLflow has no experiment {sweep.name}", "its runs are made anew from their files")
        return
    unsigned = list(check_owner(sweep, tracker))
    yield from unsigned
    if unsigned:
        return  # which runs are of this folder is not known
    records = sweep.records(tracker)
    if not busy:
        yield from check_open(records)
        yield from check_groups(sweep.folder)
    for stage in sweep.experiment.stages.values():
        try:
            yield from check_stage(StageRecords.of(sweep, records, stage), busy)
        except UnfinishedError as error:
            yield Finding(str(error), "it waits for that")
    if not busy:
        yield from check_pictures(sweep.folder)
        yield from check_model(sweep, records)
