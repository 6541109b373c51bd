"""A section for each stage: how it searched, its trials, what they tell, its pictures."""

from __future__ import annotations

from sweep.report.content import Report
from sweep.report.markdown_table import markdown_table
from sweep.report.stage_part import StagePart
from sweep.results.tables import format_value

TEMPLATE = "sections/stages.html"


def links(report: Report) -> list[tuple[str, str]]:
    """One for each stage."""
    return [(stage.name, stage.name) for stage in report.stages]


def to_markdown(report: Report) -> list[str]:
    """All stages, one after another."""
    return [line for stage in report.stages for line in _stage(stage)]


def _stage(stage: StagePart) -> list[str]:
    searched = "; ".join(f"{key} {values}" for key, values in stage.searched.items())
    lines = [f"## {stage.name}", "", f"Searched by {stage.sampler}: {searched}.", ""]
    if stage.fixed:
        lines += [f"From the winner of the stage before: {stage.fixed}.", ""]
    if stage.missing:
        lines += [stage.missing, ""]
    lines += [*(f"- {line}" for line in stage.conclusions), ""]
    if stage.trials:
        rows = [[format_value(trial[column], column) for column in stage.columns] for trial in stage.trials]
        lines += markdown_table(stage.columns, rows)
    return lines + [f"- {name} {status}: {reason}" for name, status, reason in stage.troubles]
