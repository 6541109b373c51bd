"""Tables on stdout."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from core.errors import printable
from sweep.results.tables import shown
from sweep.search.cost import GroupCost


def print_table(title: str, rows: Sequence[dict[str, Any]], spare: Sequence[str] = ()) -> None:
    """A table on stdout: drawn on a terminal, tab-separated elsewhere.

    spare  columns to leave out, in this order, of a terminal that is too narrow
    """
    if not sys.stdout.isatty():
        print("\t".join(rows[0]))
        for row in rows:
            print("\t".join("" if value is None else printable(value) for value in row.values()))
        return
    console, left_out = Console(), list(spare)
    table = _drawn(title, rows)
    while left_out and console.measure(table, options=console.options.update(width=10_000)).maximum > console.width:
        unwanted = left_out.pop(0)
        rows = [{column: value for column, value in row.items() if column != unwanted} for row in rows]
        table = _drawn(title, rows)
    console.print(table)


def _drawn(title: str, rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="bold underline")
    for column in rows[0]:
        words = all(isinstance(row[column], str | None) for row in rows)
        table.add_column(column, justify="left" if words else "right", no_wrap=True)
    for number, row in enumerate(rows):
        table.add_row(*(shown(value, column) for column, value in row.items()), style="bold" if number == 0 else "")
    return table


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
