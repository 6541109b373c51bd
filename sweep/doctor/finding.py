"""What doctor finds, and how that is mended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    what    is wrong, and where
    mended  what --fix does about it
    mend    does it; None: it is mended with others, or by what comes after
    """

    what: str
    mended: str
    mend: Callable[[], object] | None = None


def applied(findings: Iterable[Finding]) -> Iterator[Finding]:
    """The same findings, each mended once the next is asked for: those that follow are what is wrong then."""
    for finding in findings:
        yield finding
        if finding.mend:
            finding.mend()
