"""Compares what Optuna's journal, the files of the trials and MLflow tell of one stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from core.errors import InputError
from core.storage import checksums
from core.tracking import tags
from core.tracking.entities import RunInfo
from core.tracking.errors import UnreachableError
from core.training.progress import METRICS
from sweep.doctor.adopt import check_unknown
from sweep.doctor.finding import Finding
from sweep.doctor.stage_records import StageRecords
from sweep.records.trial_files import TrialFiles
from sweep.records.trial_runs import best_metrics
from sweep.search.cell import Cell
from sweep.search.outcome import Outcome

Take = Callable[[StageRecords, Mapping[str, TrialFiles]], StageRecords]
_TIMED = "epoch_seconds"  # differs between the times that an epoch was trained


def check_stage(known: StageRecords, busy: bool, take: Take | None = None) -> Iterator[Finding]:
    """All that is wrong with one stage.

    busy  a sweep is at work, which has not written all of its records yet
    take  takes the trials that the journal lacks, by key, into it; None: nothing is mended
    """
    yield from _superseded(known)
    known = known.without(known.superseded())
    if not busy:
        unknown: dict[str, TrialFiles] = {}
        yield from check_unknown(known, unknown)
        known = take(known, unknown) if take else known
    yield from _trials(known, busy)
    yield from _own_run(known)


def _superseded(known: StageRecords) -> Iterator[Finding]:
    for former in known.superseded():
        what = f"{former.name} is there twice, since one was made anew"
        mend = partial(known.records.tracker.delete, former.run_id)
        yield Finding(what, f"{former.run_id[:8]} is removed", mend)


def _trials(known: StageRecords, busy: bool) -> Iterator[Finding]:
    """Each trial of the journal: its files, and whether MLflow shows what they tell."""
    tracker = known.records.tracker
    for key, outcome in known.outcomes.items():
        run = known.runs.get(outcome.run_id)
        if busy and run and run.status == "RUNNING":
            continue
        folder = known.artifacts(outcome.run_id)
        try:
            trial = known.read(folder, key)
        except InputError as error:
            if run is not None:  # else it is open anyway
                mended = f"its trial is opened again: the next run{known.points_flag(run)} trains it"
                yield Finding(str(error), mended, partial(tracker.delete, run.run_id))
            continue
        if run is None and tracker.lookup.deleted(outcome.run_id):
            continue  # somebody wants it trained again
        trouble = "is not in MLflow" if run is None else _difference(known, run, trial)
        if trouble and (cell := known.cell(trial)):
            what = f"run {outcome.run_id[:8]} ({trial.config['trial']}) {trouble}"
            yield Finding(what, "made anew from its files", partial(_rebuild, known, cell, trial, outcome, folder))


def _rebuild(known: StageRecords, cell: Cell, trial: TrialFiles, outcome: Outcome, folder: Path) -> None:
    parent, _ = known.records.stages.begin(known.stage, known.inherited, [], reopen=True)
    known.records.trials.rebuild(cell, parent, known.recorded(trial, outcome), trial.history, folder)


def _difference(known: StageRecords, run: RunInfo, trial: TrialFiles) -> str:
    """How MLflow's run differs from the files; "" if it does not."""
    params = {key: str(value) for key, value in trial.config["settings"].items()}
    wrong = [name for name, value in params.items() if run.params.get(name) != value]
    best = best_metrics(trial.outcome)
    wrong += [name for name, value in best.items() if run.metrics.get(name) != value]
    told = {tags.OUTCOME: trial.outcome.status, tags.KEY: trial.config["key"], tags.STAGE_NAME: known.stage.name}
    wrong += [name for name, value in told.items() if run.tags.get(name) != value]
    wrong += _different_epochs(known, run, trial)
    more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return f"differs in MLflow: {wrong[0]}{more}" if wrong else ""


def _different_epochs(known: StageRecords, run: RunInfo, trial: TrialFiles) -> list[str]:
    shown, wrong = known.records.tracker.lookup.metrics(run.run_id, METRICS), list[str]()
    for epoch, metrics in enumerate(trial.history, start=1):
        expected = {name: [value] for name, value in metrics.items() if math.isfinite(value)}
        found = {name: shown.pop((name, epoch), []) for name in expected}
        wrong += [
            f"{name} of epoch {epoch}"
            for name, values in expected.items()
            if (len(found[name]) != 1 if name == _TIMED else found[name] != values)
        ]
    return wrong + [f"{name} of epoch {epoch}, which there was not" for name, epoch in shown]


def _own_run(known: StageRecords) -> Iterator[Finding]:
    """The stage's own run and its table."""
    for run in known.records.runs.find(kind=tags.STAGE, stage=known.stage.name).values():
        try:
            known.records.tracker.artifacts.path(run, "summary.csv")
        except UnreachableError:
            raise
        except InputError as error:
            # The reason is set only on runs that were broken off.
            if run.status in ("FINISHED", "FAILED") and tags.REASON not in run.tags:
                yield Finding(str(error), "the next run writes it anew", partial(_reopen, known, run))


def _reopen(known: StageRecords, run: RunInfo) -> None:
    sums = known.sweep.folder.path / run.run_id / "artifacts" / checksums.SUMS
    sums.unlink(missing_ok=True)
    known.records.tracker.update(run.run_id, status="KILLED")
