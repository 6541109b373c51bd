"""What a stage's run says of itself in MLflow: its title, its description, and how it searched."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict

from core.evaluate.metrics import LargestClass
from core.tracking import tags
from sweep.experiment.space import Range, Values
from sweep.experiment.stage import Stage
from sweep.results import advice, ranking, tables
from sweep.search.cell import Cell

_SHOWN = 30  # rows of the table in a stage's description, which MLflow cuts at 8,000 characters


def title(stage: Stage, best: ranking.Row | None = None) -> str:
    """A stage's name in MLflow, where a list of runs may be all that is seen: once it has ended, with its winner."""
    if best is None or best.accuracy is None:
        return f"{stage.name} stage"
    winner = f"{best.label} {best.cell.setting}".rstrip()
    return f"{stage.name} stage: {winner}, {best.accuracy:.4f}"


def description(
    stage: Stage, rows: Sequence[ranking.Row], largest: LargestClass, warnings: Sequence[str], edges: Sequence[str]
) -> str:
    """What MLflow shows of a stage, in Markdown: what was searched, what won, how sure that is, and the table."""
    images, worth = largest.images, ""
    searched = "; ".join(f"**{key}** {choices(values)}" for key, values in stage.space.dimensions.items())
    lines = [f"Searched by {stage.sampler}: {searched}.", ""]
    if (best := ranking.winner(rows)) and best.accuracy is not None:
        low, high = advice.interval(best.accuracy, images)
        lines += [
            f"Winner: **{best.cell.name}**, validation accuracy **{best.accuracy:.4f}** "
            f"(95 %: {low:.4f} to {high:.4f}, by {images} images; {largest}).",
            "",
        ]
        worth = largest.warning(best.accuracy)
    said = [worth, *warnings, advice.certainty(stage, rows, images), advice.mattered(rows), *edges]
    lines += [f"- {line}" for line in said if line]
    return "\n".join([*lines, "", tables.to_markdown(rows[:_SHOWN])])


def choices(values: Values) -> str:
    """What a stage searches of one setting, as text."""
    return str(values) if isinstance(values, Range) else ", ".join(map(str, values))


def search_tags(stage: Stage) -> dict[str, str]:
    """How a stage searches, as tags."""
    told: dict[str, object] = {tags.SAMPLER: stage.sampler, tags.SEEDS: stage.seeds}
    told |= {tags.TRIALS: stage.trials} if stage.trials else {}
    told |= {tags.AT_ONCE: stage.at_once} if stage.adaptive else {}
    told |= {f"{tags.SPACE}{key}": values for key, values in stage.space.dimensions.items()}
    told |= {f"{tags.WHEN}{key}": condition for key, condition in stage.space.conditions.items()}
    told |= {f"{tags.PRUNER}{key}": value for key, value in asdict(stage.pruner).items()} if stage.pruner else {}
    told |= {f"{tags.BUDGET}{key}": value for key, value in asdict(stage.budget).items() if value is not None}
    return {key: str(value) for key, value in told.items()}


def plan_hash(cells: Sequence[Cell]) -> str:
    """What tells whether a stage's run is about these cells."""
    return hashlib.sha256("".join(sorted(cell.key for cell in cells)).encode()).hexdigest()[:16]
