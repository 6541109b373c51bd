"""What a sweep shows on the screen: progress and notes on stderr, results on stdout."""

from __future__ import annotations

import sys
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from core.errors import printable
from core.train import EpochReport
from sweep.estimate import GroupCost
from sweep.plan import Cell, group_name
from sweep.ranking import shown


@dataclass(frozen=True)
class Work:
    """What a stage has before it.

    todo      cells that will train
    further   trials that a sampler is still to propose
    longest   epochs that each of those has at most
    images    in an epoch of one trial
    seconds   of an epoch of one trial, by the group's name, as measured before; empty: all take the same
    before    epochs that were trained before of those that go on, by the cell's key
    known     the best of each trial that trained before and may win: its cell, accuracy and loss
    pictures  whether some are drawn when all have ended
    """

    todo: Sequence[Cell]
    further: int
    longest: int
    images: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    before: Mapping[str, int] = field(default_factory=dict)
    known: Sequence[tuple[Cell, float, float]] = ()
    pictures: bool = False


class Display:
    """Nothing but warnings: what --quiet shows, and the base of the others.

    tells_time  whether it wants to know beforehand how long epochs take
    """

    tells_time = False

    def warn(self, text: str) -> None:
        """Something the user should know even when asking for quiet."""
        print(in_lines(text), file=sys.stderr)

    def note(self, text: str) -> None:
        """A line about what goes on."""

    def tell(self, said: Sequence[tuple[str, str]], commands: Sequence[tuple[str, str]]) -> None:
        """What came out of a stage, and commands and links, which are never broken; each after its name."""

    def begin(self, stage: str, trials: int, done: int, work: Work) -> None:
        """A stage starts: so many trials, of which some are done."""

    def group(self, number: int, groups: int | None, cells: Sequence[Cell]) -> None:
        """A group starts training. groups: how many there are, if that is known."""

    def epoch(self, number: int, groups: int | None, cells: Sequence[Cell], report: EpochReport) -> None:
        """A group has finished an epoch; report goes by the cells' places."""

    def trained(self) -> None:
        """All trials of the stage have ended: what is left are its records and pictures."""

    def end(self) -> None:
        """The stage is over, or broken off."""


def in_lines(text: str) -> str:
    """The text with all control characters as escapes but for the ends of its lines."""
    return "\n".join(map(printable, text.split("\n")))


def named(said: Sequence[tuple[str, str]], commands: Sequence[tuple[str, str]] = (), width: int | None = None) -> str:
    """A line for each, after its name and a colon.

    width  of the terminal, within which what is said goes on in further lines
    """
    lines = [f"{name + ':':<9}{text}" for name, text in said]
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

    def tell(self, said: Sequence[tuple[str, str]], commands: Sequence[tuple[str, str]]) -> None:
        self.note(named(said, commands))

    def begin(self, stage: str, trials: int, done: int, work: Work) -> None:
        self._best = Best(work.known)

    def epoch(self, number: int, groups: int | None, cells: Sequence[Cell], report: EpochReport) -> None:
        new = self._best.update(cells, report)
        best = f", best {self._best.accuracy:.4f} {self._best.cell.label}" if new and self._best.cell else ""
        seconds = next(iter(report.metrics.values()))["epoch_seconds"]
        last = max(cell.settings.epochs for cell in cells)
        trials = f"{len(report.metrics)} trial{'s' if len(report.metrics) > 1 else ''}"
        self.note(f"{heading(number, groups, cells)} epoch {report.epoch}/{last}: {trials}, {seconds:.1f} s{best}")


def choose(quiet: bool) -> Display:
    """Quiet, bars and curves on a terminal, or lines."""
    if quiet:
        return Display()
    console = Console(stderr=True)
    if not console.is_terminal:
        return Lines()
    from sweep.live import Live

    return Live(console)


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
