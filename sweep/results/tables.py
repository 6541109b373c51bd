"""Rankings as tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from core.errors import printable
from core.text import as_text
from sweep.results.ranking import Row
from sweep.search.cell import Cell


def _replicated(rows: Sequence[Row]) -> bool:
    return any(cell.replicate for row in rows for cell in row.cells)


def searched(cells: Sequence[Cell]) -> list[str]:
    """What any of the cells searched, in order; a conditional setting has no value in some."""
    return list(dict.fromkeys(key for cell in cells for key in cell.searched))


def table(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The ranked rows' columns. Of several seeds, accuracy and loss are means, epochs and run those of the best."""
    keys, replicated = searched([row.cell for row in rows]), _replicated(rows)
    return [
        {
            "rank": rank,
            "trial": row.label,
            **{key: row.cell.searched.get(key) for key in keys},
            "best_val_accuracy": row.accuracy,
            **({"spread": row.std, "seeds": len(row.cells)} if replicated else {}),
            "best_val_loss": row.loss,
            "best_epoch": row.outcome.best_epoch,
            "epochs": row.outcome.epochs,
            "status": row.status,
            "run_id": row.outcome.run_id,
        }
        for rank, row in enumerate(rows, start=1)
    ]


def short(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The ranked rows for a terminal of 80 columns; eight digits of a run's id are enough to name it."""
    keys, replicated = searched([row.cell for row in rows]), _replicated(rows)
    return [
        {
            "#": rank,
            "trial": row.label,
            **{key: _rounded(row.cell.searched.get(key), 3) for key in keys},
            "accuracy": row.accuracy,
            **({"±": _rounded(row.std, 2)} if replicated else {}),
            "loss": row.loss,
            "epoch": f"{row.outcome.best_epoch}/{row.outcome.epochs}",
            "status": row.status,
            "run": row.outcome.run_id[:8],
        }
        for rank, row in enumerate(rows, start=1)
    ]


def _rounded(value: Any, digits: int) -> Any:
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def format_value(value: Any, column: str = "") -> str:
    """A value of a table for people, shorter than it is in CSV and JSON."""
    if value is not None and column == "run_id":
        return str(value)[:8]
    return printable(as_text(value, ".4f" if "accuracy" in column else "#.4g" if "loss" in column else ".4g"))


def to_csv(rows: Sequence[Row]) -> str:
    """The ranked rows as CSV with a header."""
    lines = table(rows)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]) if lines else ["rank", "trial"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def to_markdown(rows: Sequence[Row]) -> str:
    """The ranked rows as a Markdown table."""
    lines = table(rows)
    cells = [list(lines[0]), ["---"] * len(lines[0]), *(map(_cell, line.values()) for line in lines)]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def _cell(value: Any) -> str:
    """In Markdown, a bool is written as it is in CSV."""
    return str(value) if isinstance(value, bool) else as_text(value)
