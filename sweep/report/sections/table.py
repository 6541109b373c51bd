"""Which sections the page has, in their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sweep.report.content import Report
from sweep.report.sections import published, repeat, stages


class Section(Protocol):
    """A file beside this one, with a template of its name."""

    TEMPLATE: str  # knows report, pictures by stage, and shown, which makes a value of a table into text

    def links(self, report: Report) -> list[tuple[str, str]]:
        """Ids on the page that the section has, and what leads there is called; none where it is left out."""

    def to_markdown(self, report: Report) -> list[str]:
        """The same as lines of Markdown."""


SECTIONS: Sequence[Section] = (stages, published, repeat)
