"""Mends what is found wrong in an experiment's records, each finding before what depends on it is looked at."""

from __future__ import annotations

from collections.abc import Iterator

from core.tracking import store
from core.tracking.tracker import Tracker
from sweep.doctor.adopt import adopt
from sweep.doctor.database_check import check_database
from sweep.doctor.examine import require_begun
from sweep.doctor.files import check_groups, check_journal, check_pictures
from sweep.doctor.finding import Finding, applied
from sweep.doctor.runs_check import check_model, check_open, check_owner, has_experiment
from sweep.doctor.stage_check import check_stage
from sweep.doctor.stage_records import StageRecords
from sweep.experiment.stage import Stage
from sweep.records.records import Records
from sweep.stages.end import end_again
from sweep.stages.reconcile import close_open
from sweep.stages.state import StageState, UnfinishedError
from sweep.stages.sweep import Sweep


def mend(sweep: Sweep, tracking_uri: str | None) -> Iterator[Finding]:
    """All that is wrong, each mended once the next is asked for, by whoever holds the experiment's folder.

    Raises InputError where something cannot be mended, and where there is nothing to look at.
    """
    found: Finding | None = None
    for found in applied(check_database(store.tracking_uri(tracking_uri), sweep.folder.path.exists())):
        yield found
    if found and not sweep.folder.path.exists():
        return
    require_begun(sweep)
    tracker = Tracker(tracking_uri)
    yield from applied(check_journal(sweep.journal))
    has_experiment(sweep, tracker)  # raises if it was deleted
    yield from applied(check_owner(sweep, tracker))
    records = sweep.records(tracker)
    yield from check_open(records)
    close_open(sweep, records, "KILLED", "its process ended without closing it")
    yield from applied(check_groups(sweep.folder))
    for stage in sweep.experiment.stages.values():
        try:
            yield from _stage(sweep, records, stage)
        except UnfinishedError as error:
            yield Finding(str(error), "it waits for that")
    yield from applied(check_pictures(sweep.folder))
    yield from applied(check_model(sweep, records))
    close_open(sweep, records, "KILLED", "mended: the next run of the stage ends it")


def _stage(sweep: Sweep, records: Records, stage: Stage) -> Iterator[Finding]:
    """One stage, which ends again if anything of it was mended."""
    known, found = StageRecords.of(sweep, records, stage), False
    for finding in applied(check_stage(known, busy=False, take=adopt)):
        found = True
        yield finding
    if found:
        state = StageState.of(sweep, stage, runs=records.runs.current_ids(), inherited=known.inherited)
        end_again(sweep, state, records)
