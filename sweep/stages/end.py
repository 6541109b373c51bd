"""The end of a stage: what its run tells of its trials."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from sweep.experiment.stage import Stage
from sweep.records.records import Records
from sweep.results.augmented_samples import augmented_samples
from sweep.results.ranking import Row
from sweep.stages.state import StageState, UnfinishedError
from sweep.stages.sweep import Sweep


def end_stage(sweep: Sweep, state: StageState, records: Records, run_id: str) -> None:
    """Rank the trials, and write what the stage's run tells of them."""
    rows = state.rows
    if sweep.pictures and (samples := augmented_samples(sweep.ops, sweep.data, sweep.experiment.seed, rows)):
        records.pictures.augmented(run_id, samples)
    records.stages.end(run_id, state.stage, state.cells, rows)


def end_again(sweep: Sweep, state: StageState, records: Records) -> None:
    """Write what a stage tells of its trials anew, if all of them are done."""
    if not state.open:
        run_id, _ = records.stages.begin(state.stage, dict(state.inherited), state.cells, reopen=True)
        end_stage(sweep, state, records, run_id)


def ended_stages(sweep: Sweep, records: Records) -> Iterator[tuple[Stage, list[Row]]]:
    """The stages whose trials are all done, and which MLflow tells to have ended, with their rankings."""
    runs = records.runs.current_ids()
    for stage in sweep.experiment.stages.values():
        with suppress(UnfinishedError):
            state = StageState.of(sweep, stage, runs=runs)
            run = records.runs.stage(stage, state.inherited)
            if run and run.status == "FINISHED" and not state.open:
                yield stage, state.rows
