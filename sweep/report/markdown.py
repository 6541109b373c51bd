"""The report as Markdown: the same as the page, without pictures."""

from __future__ import annotations

from sweep.report.content import Report
from sweep.report.sections.table import SECTIONS


def to_markdown(report: Report) -> str:
    """What is best, then the sections."""
    lines = [f"# {report.title} on {report.data}", ""]
    if best := report.best:
        lines += [f"Best: **{best.winner}**, validation accuracy {best.accuracy}.", ""]
        lines += [f"Test accuracy {best.test}." if best.test else report.to_test, ""]
        lines += [*(f"- {warning}" for warning in report.warnings), *([""] if report.warnings else [])]
    for section in SECTIONS:
        lines += section.to_markdown(report)
    return "\n".join(lines) + "\n"
