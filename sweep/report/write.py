"""The report as a page of HTML, as Markdown and as CSV."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from core import figures
from core.errors import InputError
from core.figures import runs
from core.tracking import RunInfo, Tracker
from sweep.report.content import Report, StagePart

CAPTIONS = {
    "curves": "Validation accuracy by epoch of all trials; the winner's is bold.",
    "by-value": "Best validation accuracy by the value searched: bars are fixed points, dots random draws.",
    "main-effects": "Best validation accuracy by each setting: every trial, and the mean of each level.",
    "heat-maps": "Best validation accuracy by two settings at a time, a panel for each value of the third.",
    "surface": "Best validation accuracy over two settings in three dimensions, a colour for each value of the third.",
    "parallel": "Every trial as a line through its settings to its accuracy; the winner's is bold.",
}
WINNERS = {
    "confusion": "The winner's confusion matrix on the validation images.",
    "mistakes": "The winner's most confident mistakes on the validation images.",
    "filters-conv1": "The winner's first filters.",
}


@dataclass(frozen=True)
class Picture:
    """An image within the page: a data URI, and what it shows."""

    source: str
    caption: str


def pictures(tracker: Tracker, stage: StagePart) -> list[Picture]:
    """A stage's, drawn anew as SVG, and some of its winner's as MLflow has them."""
    if not stage.run_id or not stage.winner_run:
        return []
    drawn = runs.of_stage(tracker, tracker.find(stage.run_id))
    found = [picture(figures.as_svg(figure), "svg+xml", CAPTIONS[name]) for name, figure in drawn.items()]
    winner = tracker.find(stage.winner_run)
    for name, caption in WINNERS.items():
        if png := _artifact(tracker, winner, f"figures/{name}.png"):
            found.append(picture(png, "png", caption))
    return found


def picture(content: bytes, kind: str, caption: str) -> Picture:
    """An image of type image/kind."""
    return Picture(f"data:image/{kind};base64,{base64.b64encode(content).decode()}", caption)


def _artifact(tracker: Tracker, run: RunInfo, name: str) -> bytes | None:
    try:
        return tracker.artifact(run, name).read_bytes()
    except InputError:
        return None


def to_html(report: Report, drawn: Mapping[str, Sequence[Picture]]) -> str:
    """A page that needs nothing but itself.

    drawn  each stage's pictures
    """
    return render("sweep.html", report=report, pictures=drawn, shown=_shown)


def render(template: str, **content: Any) -> str:
    """A page from one of the templates beside this file. All text is escaped."""
    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["code"] = _code
    css, script = (Markup((folder / f"page.{kind}").read_text(encoding="utf-8")) for kind in ("css", "js"))
    return environment.get_template(template).render(css=css, script=script, **content)


def _code(text: str) -> Markup:
    """Escaped, with what stands between backticks as code."""
    return Markup(re.sub("`(.*?)`", r"<code>\1</code>", str(escape(text))))


def _shown(value: Any, column: str) -> str:
    if value is None:
        return "-"
    if column == "run_id":
        return str(value)[:8]
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def to_markdown(report: Report) -> str:
    """The same without pictures."""
    lines = [f"# {report.title} on {report.data}", ""]
    if best := report.best:
        lines += [f"Best: **{best.winner}**, validation accuracy {best.accuracy}.", ""]
        test = f"Test accuracy {best.test}." if best.test else "Not tested yet: `python -m core.evaluate --run-id "
        lines += [test if best.test else f"{test}{best.winner_run}`.", ""]
    for stage in report.stages:
        lines += [f"## {stage.name}", ""]
        lines += [f"Searched by {stage.sampler}: " + "; ".join(f"{k} {v}" for k, v in stage.searched.items()) + ".", ""]
        if stage.fixed:
            lines += [f"From the winner of the stage before: {stage.fixed}.", ""]
        if stage.missing:
            lines += [stage.missing, ""]
        lines += [*(f"- {line}" for line in stage.said), ""]
        if stage.trials:
            lines += _table(stage.columns, [[_shown(t[c], c) for c in stage.columns] for t in stage.trials])
        lines += [f"- {name} {status}: {reason}" for name, status, reason in stage.troubles]
    for comparison in report.comparisons:
        lines += [f"## {comparison.title}", "", *_table(comparison.header, comparison.rows)]
    lines += ["## How to repeat it", "", *(f"    {command}" for command in report.commands), ""]
    lines += [f"- {key}: {value}" for key, value in {"data's SHA-256": report.sha256, **report.environment}.items()]
    return "\n".join(lines) + "\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    every = [header, ["---"] * len(header), *rows]
    return [*("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in every), ""]


def to_csv(report: Report) -> str:
    """All trials of all stages; a setting that a stage did not search is empty there."""
    columns = dict.fromkeys(key for stage in report.stages for trial in stage.trials for key in trial)
    out = io.StringIO()
    writer = csv.DictWriter(out, ["stage", *columns], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"stage": stage.name, **trial} for stage in report.stages for trial in stage.trials)
    return out.getvalue()
