"""The settings of a stage in order of merit, as rows for people and for programs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from sweep.search import grouping
from sweep.search.cell import Cell
from sweep.search.means import mean, share
from sweep.search.outcome import Outcome

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
    def std(self) -> float | None:
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
    for setting in grouping.by_setting(cells):
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
