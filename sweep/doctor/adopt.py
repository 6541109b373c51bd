"""Trials whose files are whole and say how they ended, though Optuna's journal does not know of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from core.errors import InputError
from core.tracking import tags
from sweep.doctor.finding import Finding
from sweep.doctor.stage_records import StageRecords
from sweep.experiment.checks import Value
from sweep.experiment.stage import Stage
from sweep.records.journal import Wave
from sweep.records.study import Study
from sweep.records.trial_files import CONFIG, TrialFiles, read_trial
from sweep.search import grouping
from sweep.stages.state import StageState


def check_unknown(known: StageRecords, unknown: dict[str, TrialFiles]) -> Iterator[Finding]:
    """Trials that have ended and are not in the journal.

    unknown  takes those whose files are whole, by key: adopt mends them, all at once
    """
    for run in known.runs.values():
        ended = run.status == "FINISHED" or run.tags.get(tags.OUTCOME) == "failed"
        if not ended or run.tags[tags.KEY] in known.outcomes:
            continue
        folder = known.artifacts(run.run_id)
        try:
            trial = known.read(folder, run.tags[tags.KEY])
        except InputError as error:
            what = f"{error}, nor has Optuna's journal a record of {run.name}"
            yield Finding(what, "its trial is opened again", partial(known.records.tracker.delete, run.run_id))
            continue
        if known.cell(trial):
            unknown[trial.config["key"]] = trial
            yield Finding(f"Optuna's journal has no record of {run.name}", "taken from its files")
    for trial in _without_run(known, unknown.keys() | known.outcomes.keys()):
        unknown[trial.config["key"]] = trial
        yield Finding(f"neither Optuna's journal nor MLflow has {trial.config['trial']}", "taken from its files")


def _without_run(known: StageRecords, others: Collection[str]) -> Iterator[TrialFiles]:
    """The trials of which there is nothing but files, but for those of these keys; of each the newest."""
    paths, keys = known.sweep.folder.path.glob(f"{'[0-9a-f]' * 32}/artifacts/{CONFIG}"), set(others)
    for path in sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True):
        run_id = path.parent.parent.name
        if run_id in known.runs or f'"stage": "{known.stage.name}"' not in path.read_text(errors="replace"):
            continue
        try:
            trial = read_trial(path.parent)
        except InputError:
            continue  # nothing counts on it
        key = trial.config["key"]
        if trial.config["stage"] != known.stage.name or key in keys or not known.cell(trial):
            continue
        if not known.records.tracker.lookup.deleted(run_id):
            keys.add(key)
            yield replace(trial, outcome=replace(trial.outcome, run_id=run_id))


def adopt(known: StageRecords, trials: Mapping[str, TrialFiles]) -> StageRecords:
    """Write these trials, by key, into the journal, with the histories that their files tell."""
    if not trials:
        return known
    sweep, stage = known.sweep, known.stage
    settings = known.settings(sorted(trials.values(), key=lambda trial: _number(stage, trial)))
    state = StageState.of(sweep, stage, inherited=known.inherited)
    study = state.study(sweep)
    if stage.adaptive:
        _propose_again(known, state.identity, study, settings)
    failed = {key for key, trial in trials.items() if trial.outcome.status == "failed"}
    attempts = [*grouping.by_setting(known.plan(settings, ())), *grouping.by_setting(known.plan(settings, failed))]
    for same in {tuple(cell.key for cell in same): same for same in attempts}.values():
        outcomes = {cell.key: trials[cell.key].outcome for cell in same if cell.key in trials}
        (trial,) = study.enqueue([same[0].point])
        study.describe(trial, same[0].setting, [cell.key for cell in same], outcomes)
        histories = [trials[key].history for key in outcomes]
        study.report_curves(trial, [[metrics["val_accuracy"] for metrics in history] for history in histories])
        study.end(trial)
    sweep.journal.close_abandoned()  # those of which a seed is missing
    return known.with_outcomes(trials)


def _propose_again(known: StageRecords, identity: str, study: Study, settings: Sequence[dict[str, Value]]) -> None:
    """Note as proposed what of these settings is no point, and was not proposed as far as the journal knows."""
    stage, points = known.stage, known.stage.every_point
    tried, _ = known.sweep.journal.proposals(stage, identity)
    lost = [setting for setting in settings if setting not in tried]
    others, proposed = [s for s in lost if s in points], [s for s in lost if s not in points]
    for start in range(0, len(proposed), stage.at_once):
        wave = proposed[start : start + stage.at_once]
        study.record(Wave([] if start else others, wave, wave))


def _number(stage: Stage, trial: TrialFiles) -> int:
    """Of the trial's setting in the stage; see Cell.label."""
    found = re.match(r"-(\d+)", str(trial.config["trial"]).removeprefix(stage.name))
    return int(found[1]) if found else 0
