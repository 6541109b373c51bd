"""What a run says at its end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from core.evaluate.metrics import LargestClass, class_warnings
from sweep.records import views
from sweep.results import advice, ranking, tables
from sweep.results.ranking import Row
from sweep.search import group_size
from sweep.stages.run import StageResult
from sweep.stages.sweep import Sweep
from sweep.terminal.tables import duration, print_rows


def as_json(sweep: Sweep, result: StageResult) -> dict[str, Any]:
    """A stage's result for programs."""
    rows = tables.table(result.rows)
    best = ranking.winner(result.rows)
    warning = sweep.largest.warning(best.accuracy) if best and best.accuracy is not None else ""
    return {
        "stage": result.stage,
        "run_id": result.run_id,
        "trained": result.trained,
        "largest_class": sweep.largest.as_json(),
        "warnings": [*([warning] if warning else []), *class_warnings(sweep.data, sweep.experiment.seed)],
        "winner": rows[0] if best else None,
        "trials": rows,
    }


def show_results(sweep: Sweep, result: StageResult, stages: Sequence[str], quiet: bool) -> None:
    """Say what came out of a stage and what can be done next.

    stages  those that this command runs
    """
    total = len(result.rows)
    replicated = any(len(row.cells) > 1 for row in result.rows)
    kind = f"settings ({sum(len(row.cells) for row in result.rows)} trials)" if replicated else "trials"
    if result.trained == 0:
        sweep.display.note(f"{result.stage}: nothing to train, all {total} {kind} were done before")
    if not quiet:
        rows = tables.short(result.rows) if sys.stdout.isatty() else tables.table(result.rows)
        searched = tables.searched([row.cell for row in result.rows])
        spare = ("loss", "epoch", "status", "run", *reversed(searched))
        print_rows(f"{result.stage}: {total} {kind}, best first", rows, spare)
    best = ranking.winner(result.rows)
    lines: list[tuple[str, str]] = []
    if best is None:
        sweep.display.warn(f"{result.stage}: none of its {total} trials finished; their runs in MLflow say why")
    else:
        stage = sweep.experiment.stages[result.stage]
        if best.accuracy is not None and (warning := sweep.largest.warning(best.accuracy)):
            sweep.display.warn(f"{result.stage}: {warning}")
        lines += [("winner", f"{best.cell.name}, validation accuracy {_accuracy(best, sweep.largest)}")]
        lines += [("sure?", advice.certainty(stage, result.rows, sweep.data.validation_images))]
        lines += [("fused", saved)] if (saved := _saved(sweep, result)) else []
        lines += [("why", mattered)] if (mattered := advice.mattered(result.rows)) else []
        lines += [("edge", edge) for edge in advice.edges(stage, result.rows, sweep.data)]
    lines += [("store", sweep.hints.without_store)] if sweep.hints.without_store else []
    sweep.display.tell(lines, _next(sweep, result, stages))


def _next(sweep: Sweep, result: StageResult, stages: Sequence[str]) -> list[tuple[str, str]]:
    """Commands and links, each with what it is for."""
    best, told = ranking.winner(result.rows), sweep.hints
    lines: list[tuple[str, str]] = []
    if best:
        if sweep.data.x_test is not None:
            lines.append(("test it", told.evaluate(best.outcome.run_id)))
        lines.append(("see it", told.figures(best.outcome.run_id)))
        lines.append(("see all", told.figures(result.run_id)))
    lines.append(("read it", told.report()))
    if not told.server:
        lines.append(("browse", told.ui()))
    view = views.key(result.stage, result.run_id)
    for name, charts in (("trials", False), ("curves", True)):
        lines.append((name, views.link(told.page, result.experiment_id, view, charts)))
    if best:
        following = (name for name, stage in sweep.experiment.stages.items() if stage.after == result.stage)
        lines += [("go on", told.run(name)) for name in following if name not in stages]
    return lines


def _saved(sweep: Sweep, result: StageResult) -> str:
    """What training the trials together has saved; "" where nothing was trained together, or that is not sure."""
    keys = {cell.key for row in result.rows for cell in row.cells}
    if {cell.key for group in result.groups for cell in group} != keys:
        return ""  # an earlier call trained some, in groups that are not known; or some started again
    measured = group_size.fusion(sweep.ops, sweep.data, result.groups)
    if not measured or measured[0] <= 1 <= measured[2]:
        return ""
    low, times, high = measured
    seconds = sum(outcome.seconds for row in result.rows for outcome in row.outcomes)
    together, alone = duration(seconds), duration(seconds * times)
    spread = f"{times:.2f} times as long; {low:.2f} to {high:.2f} in half of {group_size.ROUNDS} measurements"
    return f"{together} of training together; one trial at a time about {alone} ({spread})"


def _accuracy(row: Row, largest: LargestClass) -> str:
    seeds = "" if row.std is None else f"mean of {len(row.cells)} seeds, standard deviation {row.std:.4f}; "
    return f"{row.accuracy:.4f} ({seeds}{largest})"
