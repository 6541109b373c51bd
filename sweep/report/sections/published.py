"""A section that sets our figures beside published ones, where there are any of these trials."""

from __future__ import annotations

from sweep.report.content import Report
from sweep.report.markdown_table import markdown_table

TEMPLATE = "sections/published.html"


def links(report: Report) -> list[tuple[str, str]]:
    """None where there is nothing to compare."""
    return [("published", "published figures")] if report.comparisons else []


def to_markdown(report: Report) -> list[str]:
    """A table after another."""
    tables = [(table.title, markdown_table(table.header, table.rows)) for table in report.comparisons]
    return [line for title, lines in tables for line in (f"## {title}", "", *lines)]
