"""A section on how to repeat it all: commands, data, what computed it, the experiment's file."""

from __future__ import annotations

from sweep.report.content import Report

TEMPLATE = "sections/repeat.html"


def links(report: Report) -> list[tuple[str, str]]:
    """The one."""
    return [("again", "how to repeat it")]


def to_markdown(report: Report) -> list[str]:
    """Without the file."""
    lines = ["## How to repeat it", "", *(f"    {command}" for command in report.commands), ""]
    environment = {"data's SHA-256": report.sha256, **report.environment}
    return lines + [f"- {key}: {value}" for key, value in environment.items()]
