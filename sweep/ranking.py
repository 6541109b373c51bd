"""The settings of a stage in order of merit, as rows for people and for programs."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from core.errors import printable
from sweep import plan
from sweep.means import mean, share
from sweep.plan import Cell
from sweep.study import Outcome

_WORST_FIRST = ("failed", "pruned", "cut", "finished")
_MERIT = {"finished": 0, "cut": 0, "pruned": 1, "failed": 2}


@dataclass(frozen=True)
class Row:
    """One setting, of whose cells (one for each seed) at least one has ended, and how they ended."""

    cells: tuple[Cell, ...]
    outcomes: tuple[Outcome, ...]

    @cached_property
    def _best(self) -> int:
        return max(range(len(self.cells)), key=lambda n: self.outcomes[n].best_val_accuracy or 0.0)

    @property
    def cell(self) -> Cell:
        """That of the best seed."""
        return self.cells[self._best]

    @property
    def outcome(self) -> Outcome:
        """That of the best seed."""
        return self.outcomes[self._best]

    @property
    def label(self) -> str:
        """The setting's, like "grid-07"."""
        return self.cell.label.partition(".")[0]

    @property
    def status(self) -> str:
        """The worst of the seeds'."""
        return min((outcome.status for outcome in self.outcomes), key=_WORST_FIRST.index)

    @property
    def accuracies(self) -> dict[int, float]:
        """Best validation accuracy by seed."""
        pairs = zip(self.cells, self.outcomes, strict=True)
        return {c.settings.seed: o.best_val_accuracy for c, o in pairs if o.best_val_accuracy is not None}

    @cached_property
    def accuracy(self) -> float | None:
        """Mean over the seeds of the best validation accuracy; None if no epoch of any was finite."""
        return mean(self.accuracies.values()) if self.accuracies else None

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds of the best validation accuracy; None of a single one."""
        return statistics.stdev(self.accuracies.values()) if len(self.accuracies) > 1 else None

    @property
    def loss(self) -> float | None:
        """Mean over the seeds of the validation loss at the best epoch."""
        losses = [o.best_val_loss for o in self.outcomes if o.best_val_loss is not None]
        return statistics.fmean(losses) if losses else None


def ranked(cells: Sequence[Cell], outcomes: Mapping[str, Outcome]) -> list[Row]:
    """The settings that have ended, best first: by mean validation accuracy at the best epoch, then by the loss of that
    epoch, then in the plan's order; pruned and failed ones last.
    """
    rows = []
    for setting in plan.by_setting(cells):
        if ended := [cell for cell in setting if cell.key in outcomes]:
            rows.append(Row(tuple(ended), tuple(outcomes[cell.key] for cell in ended)))

    def merit(row: Row) -> tuple[int, float, float, int]:
        return _MERIT[row.status], -(row.accuracy or 0.0), row.loss or 0.0, row.cell.index

    return sorted(rows, key=merit)


def winner(rows: Sequence[Row]) -> Row | None:
    """The first of the ranked rows, if its trials finished, or the budget cut them."""
    return rows[0] if rows and not _MERIT[rows[0].status] else None


@dataclass(frozen=True)
class Lead:
    """How far the winner is ahead of the runner-up, by the seeds both have: mean difference and its 95 % interval."""

    runner_up: str
    difference: float
    low: float
    high: float
    seeds: int

    def __str__(self) -> str:
        verdict = "beyond" if self.low > 0 else "within"
        return (
            f"ahead of {self.runner_up} by {self.difference:.4f} (95 %: {self.low:.4f} to {self.high:.4f}, "
            f"{self.seeds} seeds): {verdict} the noise of the seeds"
        )


def lead(rows: Sequence[Row]) -> Lead | None:
    """Winner against runner-up, paired by seed (Student's t); None unless both have two seeds or more.

    The two were chosen from many, so the interval is narrower than it should be.
    """
    if len(rows) < 2 or any(_MERIT[row.status] for row in rows[:2]):
        return None
    ours, theirs = rows[0].accuracies, rows[1].accuracies
    differences = [share(ours[seed]) - share(theirs[seed]) for seed in ours.keys() & theirs.keys()]
    if len(differences) < 2:
        return None
    from scipy.stats import t

    difference, count = float(statistics.mean(differences)), len(differences)
    half = float(t.ppf(0.975, count - 1)) * statistics.stdev(differences) / math.sqrt(count)
    return Lead(rows[1].label, difference, difference - half, difference + half, count)


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
            **({"spread": row.spread, "seeds": len(row.cells)} if replicated else {}),
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
            **({"±": _rounded(row.spread, 2)} if replicated else {}),
            "loss": row.loss,
            "epoch": f"{row.outcome.best_epoch}/{row.outcome.epochs}",
            "status": row.status,
            "run": row.outcome.run_id[:8],
        }
        for rank, row in enumerate(rows, start=1)
    ]


def _rounded(value: Any, digits: int) -> Any:
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def shown(value: Any, column: str = "") -> str:
    """A value of a table for people, shorter than it is in CSV and JSON."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if column == "run_id":
        return str(value)[:8]
    if isinstance(value, float):
        form = ".4f" if "accuracy" in column else "#.4g" if "loss" in column else ".4g"
        return format(value, form)
    return printable(value)


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
    cells = [list(lines[0]), ["---"] * len(lines[0]), *([_text(v) for v in line.values()] for line in lines)]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
