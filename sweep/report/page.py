"""The page: HTML that needs nothing but itself, from the templates beside this file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from sweep.report.content import Report
from sweep.report.pictures import Pictures
from sweep.report.sections.table import SECTIONS
from sweep.results.tables import format_value


def to_html(report: Report, drawn: Mapping[str, Pictures]) -> str:
    """A page that needs nothing but itself.

    drawn  each stage's pictures
    """
    links = [link for section in SECTIONS for link in section.links(report)]
    templates = [section.TEMPLATE for section in SECTIONS]
    return render(
        "sweep.html", report=report, pictures=drawn, format_value=format_value, links=links, sections=templates
    )


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
