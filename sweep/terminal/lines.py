"""One line an epoch, for logs and pipes."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence

from core.training.progress import EpochReport
from sweep.search.cell import Cell
from sweep.search.grouping import group_name
from sweep.terminal.display import Display, Work, in_lines


def labelled_lines(
    results: Sequence[tuple[str, str]], commands: Sequence[tuple[str, str]] = (), width: int | None = None
) -> str:
    """A line for each, after its name and a colon.

    width  of the terminal, within which a result goes on in further lines
    """
    lines = [f"{name + ':':<9}{text}" for name, text in results]
    if width:
        lines = [
            textwrap.fill(
                line, max(width, 40), subsequent_indent=" " * 9, break_long_words=False, break_on_hyphens=False
            )
            for line in lines
        ]
    return "\n".join([*lines, *(f"{name + ':':<9}{text}" for name, text in commands)])


def heading(number: int, groups: int | None, cells: Sequence[Cell]) -> str:
    """Like "group 2/3 32x32"."""
    return f"group {number}{f'/{groups}' if groups else ''} {group_name(cells[0].settings)}"


class Best:
    """The best trial so far, as a stage ranks them: by its highest accuracy, then by the loss at that epoch."""

    def __init__(self, known: Sequence[tuple[Cell, float, float]] = ()) -> None:
        self._highest: dict[str, tuple[Cell, float, float]] = {}  # and the loss then, by the cell's key
        for each in known:
            self._meet(*each)

    @property
    def cell(self) -> Cell | None:
        """None while there is none."""
        return self._first[0] if self._highest else None

    @property
    def accuracy(self) -> float:
        """Its highest; -1 while there is none."""
        return self._first[1] if self._highest else -1.0

    @property
    def _first(self) -> tuple[Cell, float, float]:
        return max(self._highest.values(), key=lambda each: (each[1], -each[2]))

    def update(self, cells: Sequence[Cell], report: EpochReport) -> bool:
        """Take in an epoch; whether there is a new best."""
        before = self.cell, self.accuracy
        for place, metrics in report.metrics.items():
            if place in report.ended and report.ended[place].status in ("failed", "pruned"):
                self._highest.pop(cells[place].key, None)  # it ranks last, however high it was before
            else:
                self._meet(cells[place], metrics["val_accuracy"], metrics["val_loss"])
        return (self.cell, self.accuracy) != before

    def _meet(self, cell: Cell, accuracy: float, loss: float) -> None:
        if cell.key not in self._highest or accuracy > self._highest[cell.key][1]:
            self._highest[cell.key] = cell, accuracy, loss


class Lines(Display):
    """One line an epoch, for logs and pipes; the best trial in those in which there is a new one."""

    def __init__(self) -> None:
        self._best = Best()

    def note(self, text: str) -> None:
        print(in_lines(text), file=sys.stderr, flush=True)

    def tell(self, results: Sequence[tuple[str, str]], commands: Sequence[tuple[str, str]]) -> None:
        self.note(labelled_lines(results, commands))

    def begin(self, stage: str, trials: int, done: int, work: Work) -> None:
        self._best = Best(work.known)

    def epoch(self, number: int, groups: int | None, cells: Sequence[Cell], report: EpochReport) -> None:
        new = self._best.update(cells, report)
        best = f", best {self._best.accuracy:.4f} {self._best.cell.label}" if new and self._best.cell else ""
        seconds = next(iter(report.metrics.values()))["epoch_seconds"]
        last = max(cell.settings.epochs for cell in cells)
        trials = f"{len(report.metrics)} trial{'s' if len(report.metrics) > 1 else ''}"
        self.note(f"{heading(number, groups, cells)} epoch {report.epoch}/{last}: {trials}, {seconds:.1f} s{best}")
