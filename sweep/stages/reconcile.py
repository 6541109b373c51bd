"""What a process that ended has left, before a stage goes on: runs to close, groups that go on, what was lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.errors import InputError
from core.tracking import tags
from core.tracking.entities import RunInfo
from core.tracking.tracker import Tracker
from sweep.experiment.stage import Stage
from sweep.records.checkpoints import SavedGroup, find
from sweep.records.records import Records
from sweep.stages.state import StageState, repeated_trainings
from sweep.stages.sweep import Sweep


@dataclass(frozen=True, eq=False)
class Reconciled:
    """A stage that may go on.

    runs      of the trials, by the ids in the journal: see ExperimentRuns.current_ids
    saved     groups that were broken off, and go on
    run_id    the stage's own run
    complete  whether that run tells of all that the plan has
    """

    state: StageState
    runs: Mapping[str, str]
    saved: Sequence[SavedGroup]
    run_id: str
    complete: bool


def reconcile(sweep: Sweep, stage: Stage, records: Records, points: Sequence[str]) -> Reconciled:
    """Close what a dead process left, see what of the stage is done, and open its run.

    Raises InputError where the journal has lost records that the runs have.
    """
    every = records.runs.find()
    left_open = close_open(sweep, records, "KILLED", "its process ended without closing it", every)
    runs = records.runs.current_ids(every)
    _require_known(sweep, stage, runs, every)
    state = StageState.of(sweep, stage, points, runs)
    saved = find(sweep.folder.training, state.cells, state.todo, records.provenance.environment, sweep.display.note)
    going_on = {run_id for group in saved for run_id in group.run_ids}
    trials = set(runs.values()) - going_on
    for name in [name for run_id, name in left_open.items() if run_id in trials]:
        sweep.display.note(f"{name} was left open by a process that ended: marked KILLED")
    _tell_of_lost(sweep, state, records.tracker)
    tell_of_repeats(sweep, state)
    run_id, complete = records.stages.begin(stage, dict(state.inherited), state.cells, state.open)
    return Reconciled(state, runs, saved, run_id, complete)


def close_open(
    sweep: Sweep, records: Records, status: str, reason: str, runs: Mapping[str, RunInfo] | None = None
) -> dict[str, str]:
    """Close all that is open in this experiment, and return the names of the runs that were broken off, by id.

    runs  those of the experiment, where they are known

    A trial whose outcome Optuna has gets the status it ended with; others get this one, and are trained again.
    """
    sweep.journal.close_abandoned()
    runs = records.runs.find() if runs is None else runs
    now, stages = records.runs.current_ids(runs), sweep.experiment.stages
    ended = {o.run_id: o for stage in stages for o in sweep.journal.outcomes(stage, now).values()}
    broken_off = {}
    for run_id, run in runs.items():
        if run.status == "RUNNING" and run_id in ended:
            records.trials.close(run_id, ended[run_id])
        elif run.status == "RUNNING":
            records.trials.break_off(run_id, status, reason)
            broken_off[run_id] = run.name
    return broken_off


def _require_known(sweep: Sweep, stage: Stage, trials: Mapping[str, str], runs: Mapping[str, RunInfo]) -> None:
    """A trial's run is closed after the journal has its record, so one that the journal lacks was lost there."""
    done = sweep.journal.outcomes(stage.name, trials)
    mine = [
        run for run in runs.values() if (run.tags[tags.KIND], run.tags[tags.STAGE_NAME]) == (tags.TRIAL, stage.name)
    ]
    unknown = [run for run in mine if run.status == "FINISHED" and run.tags[tags.KEY] not in done]
    if unknown:
        raise InputError(
            f"{sweep.folder.journal} has lost the records of {len(unknown)} trials that are done: "
            f"{sweep.hints.quoted(sweep.hints.doctor('--fix'))} takes them from their files"
        )


def _tell_of_lost(sweep: Sweep, state: StageState, tracker: Tracker) -> None:
    """Say that trials are trained again whose runs this store has never seen."""
    stage, here = state.stage.name, state.outcomes
    every = sweep.journal.outcomes(stage)
    lost = [o for key, o in every.items() if key not in here and not tracker.lookup.deleted(o.run_id)]
    if lost:
        sweep.display.note(
            f"{stage}: {len(lost)} trials that were done are not in {tracker.store.name}: trained again; "
            f"{sweep.hints.quoted(sweep.hints.doctor('--fix'))} would bring them back instead"
        )


def tell_of_repeats(sweep: Sweep, state: StageState) -> None:
    """Say of settings that are the same training what was not said yet."""
    for line in repeated_trainings(sweep, state):
        sweep.note_once(line)
