"""The trials of a stage in order of merit, as rows for people and for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.plan import Cell
from sweep.study import Outcome


@dataclass(frozen=True)
class Row:
    """One trial that has ended, and how."""

    cell: Cell
    outcome: Outcome


def ranked(cells: Sequence[Cell], outcomes: Mapping[str, Outcome]) -> list[Row]:
    """The cells that have ended, best first: by validation accuracy at the best epoch, then by the loss of that
    epoch, then in the plan's order; failed trials last.
    """

    def merit(row: Row) -> tuple[bool, float, float, int]:
        outcome = row.outcome
        accuracy, loss = outcome.best_val_accuracy or 0.0, outcome.best_val_loss or 0.0
        return outcome.status != "finished", -accuracy, loss, row.cell.index

    return sorted((Row(cell, outcomes[cell.key]) for cell in cells if cell.key in outcomes), key=merit)


def winner(rows: Sequence[Row]) -> Row | None:
    """The first of the ranked rows, if its trial finished."""
    return rows[0] if rows and rows[0].outcome.status == "finished" else None


def table(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The ranked rows' columns."""
    return [
        {
            "rank": rank,
            "trial": row.cell.label,
            **row.cell.searched,
            "best_val_accuracy": row.outcome.best_val_accuracy,
            "best_val_loss": row.outcome.best_val_loss,
            "best_epoch": row.outcome.best_epoch,
            "epochs": row.outcome.epochs,
            "status": row.outcome.status,
            "run_id": row.outcome.run_id,
        }
        for rank, row in enumerate(rows, start=1)
    ]


def short(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The ranked rows for a terminal of 80 columns; eight digits of a run's id are enough to name it."""
    return [
        {
            "#": rank,
            "trial": row.cell.label,
            **row.cell.searched,
            "accuracy": row.outcome.best_val_accuracy,
            "loss": row.outcome.best_val_loss,
            "epoch": f"{row.outcome.best_epoch}/{row.outcome.epochs}",
            "status": row.outcome.status,
            "run": row.outcome.run_id[:8],
        }
        for rank, row in enumerate(rows, start=1)
    ]


def to_csv(rows: Sequence[Row]) -> str:
    """The ranked rows as CSV with a header."""
    lines = table(rows)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def to_markdown(rows: Sequence[Row]) -> str:
    """The ranked rows as a Markdown table."""
    lines = table(rows)
    cells = [list(lines[0]), ["---"] * len(lines[0]), *([_text(v) for v in line.values()] for line in lines)]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
