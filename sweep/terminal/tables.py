"""Tables on stdout."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from core.errors import printable
from core.text import print_table
from sweep.results.tables import format_value
from sweep.search.cost import GroupCost


def print_rows(title: str, rows: Sequence[dict[str, Any]], spare: Sequence[str] = ()) -> None:
    """A table of rows by column on stdout: for people on a terminal, the first in bold; elsewhere with all digits.

    spare  columns to leave out, in this order, of a terminal that is too narrow
    """
    header = list(rows[0])
    words = [index for index, name in enumerate(header) if all(isinstance(row[name], str | None) for row in rows)]
    if sys.stdout.isatty():
        lines = [[format_value(value, column) for column, value in row.items()] for row in rows]
    else:
        lines = [["" if value is None else printable(value) for value in row.values()] for row in rows]
    print_table(header, lines, title=title, left=words, bold=0, spare=spare)


def readable(costs: Sequence[GroupCost]) -> list[dict[str, Any]]:
    """The groups' costs in units for people; how many there are of each, where several are alike."""
    alike = Counter(costs)
    return [
        {
            "network": cost.network,
            "trials": cost.trials,
            "steps an epoch": cost.steps,
            "memory": f"{cost.memory / 2**20:.0f} MiB",
            "time at most": duration(cost.seconds),
            **({"groups": count} if len(alike) < len(costs) else {}),
        }
        for cost, count in alike.items()
    ]


def duration(seconds: float) -> str:
    """Like "45 s", "12 min" or "3 h 20 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
