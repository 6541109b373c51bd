"""What the page tells of a stage, gathered from its records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from core.errors import InputError
from core.evaluate.metrics import LargestClass
from core.tracking.entities import RunInfo
from sweep.experiment.stage import Stage
from sweep.records.runs import ExperimentRuns
from sweep.records.stage_text import choices
from sweep.report.stage_part import Accuracy, StagePart
from sweep.results import advice, ranking, tables
from sweep.stages.state import StageState
from sweep.stages.sweep import Sweep

_FIRST = ("rank", "trial", "best_val_accuracy", "spread")  # columns, which a narrow screen shows


def gather_stage(
    sweep: Sweep, stage: Stage, runs: Mapping[str, RunInfo], trials: Mapping[str, str], records: ExperimentRuns
) -> StagePart:
    """One stage.

    runs    of this folder in MLflow, by id
    trials  those of trials, by the id that Optuna's journal has of them
    """
    searched = {key: choices(values) for key, values in stage.space.dimensions.items()}
    command = sweep.hints.quoted(sweep.hints.run(stage.name))
    try:
        state = StageState.of(sweep, stage, runs=trials)
    except InputError as error:
        return StagePart(stage.name, stage.sampler, searched, {}, missing=f"Not run yet: {error}")
    if not state.rows:
        missing = f"Not run yet: {command} does."
        return StagePart(stage.name, stage.sampler, searched, state.inherited, missing=missing)
    own = records.stage(stage, state.inherited)
    part = _ranked(sweep, state, searched, own.run_id if own else "")
    return _with_winner(part, sweep, state.rows, runs)


def _ranked(sweep: Sweep, state: StageState, searched: Mapping[str, str], run_id: str) -> StagePart:
    """What the trials tell, but for the winner."""
    stage, rows = state.stage, state.rows
    outcomes = [outcome for row in rows for outcome in row.outcomes]
    trained = [row.cell.point for row in rows]
    idle = set.intersection(*({*row.cell.settings.idle()} for row in rows))  # in all trials
    lines = tables.table(rows)
    return StagePart(
        stage.name,
        stage.sampler,
        searched,
        {key: value for key, value in state.inherited.items() if key not in idle},
        run_id=run_id,
        columns=_columns(lines, searched),
        trials=lines,
        troubles=_troubles(rows),
        conclusions=_conclusions(sweep, stage, rows),
        counts=Counter(outcome.status for outcome in outcomes),
        epochs=sum(outcome.epochs for outcome in outcomes),
        seconds=sum(outcome.seconds for outcome in outcomes),
        points=[name for name, points in stage.points.items() if all(point in trained for point in points)],
    )


def _with_winner(part: StagePart, sweep: Sweep, rows: Sequence[ranking.Row], runs: Mapping[str, RunInfo]) -> StagePart:
    best = ranking.winner(rows)
    if best is None:
        return replace(part, missing="No trial finished: the reasons are below.")
    return replace(
        part,
        winner=best.cell.name,
        winner_run=best.outcome.run_id,
        accuracy=None if best.accuracy is None else Accuracy(best.accuracy, sweep.largest),
        test=_tested(sweep, runs.get(best.outcome.run_id)),
    )


def _columns(lines: Sequence[Mapping[str, object]], searched: Mapping[str, str]) -> list[str]:
    """Of the table: those of a setting where its values differ; the run's id last."""
    differing = [
        key for key in lines[0] if key != "run_id" and (key not in searched or len({r[key] for r in lines}) > 1)
    ]
    return [*sorted(differing, key=lambda key: key not in _FIRST), "run_id"]


def _conclusions(sweep: Sweep, stage: Stage, rows: Sequence[ranking.Row]) -> list[str]:
    """Sentences on certainty, what the accuracy is worth, what mattered, and the edges."""
    best = ranking.winner(rows)
    worth = sweep.largest.warning(best.accuracy) if best and best.accuracy is not None else ""
    certainty = advice.certainty(stage, rows, sweep.data.validation_images)
    lines = [certainty, worth, advice.mattered(rows), *advice.edges(stage, rows, sweep.data)]
    return [line for line in lines if line]


def _tested(sweep: Sweep, run: RunInfo | None) -> Accuracy | None:
    if run is None or sweep.data.y_test is None or "test_accuracy" not in run.metrics:
        return None
    return Accuracy(run.metrics["test_accuracy"], LargestClass.of(sweep.data.y_test, sweep.data.classes, "test"))


def _troubles(rows: Sequence[ranking.Row]) -> list[tuple[str, str, str]]:
    return [
        (cell.label, outcome.status, outcome.reason)
        for row in rows
        for cell, outcome in zip(row.cells, row.outcomes, strict=True)
        if outcome.status != "finished"
    ]
