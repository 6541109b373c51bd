"""What a sweep shows on the screen: progress and notes on stderr, results on stdout."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from core.train import EpochReport
from sweep.estimate import GroupCost
from sweep.plan import Cell, group_name


class Display:
    """Nothing but warnings: what --quiet shows, and the base of the others."""

    def warn(self, text: str) -> None:
        """Something the user should know even when asking for quiet."""
        print(text, file=sys.stderr)

    def note(self, text: str) -> None:
        """A line about what goes on."""

    def begin(self, stage: str, trials: int, done: int, trial_epochs: int) -> None:
        """A stage starts: so many trials, of which some are done; at most so many epochs remain over all trials."""

    def group(self, number: int, groups: int | None, cells: Sequence[Cell]) -> None:
        """A group starts training. groups: how many there are, if that is known."""

    def epoch(self, number: int, groups: int | None, cells: Sequence[Cell], report: EpochReport) -> None:
        """A group has finished an epoch; report goes by the cells' places."""

    def end(self) -> None:
        """The stage is over, or broken off."""


def _heading(number: int, groups: int | None, cells: Sequence[Cell]) -> str:
    return f"group {number}{f'/{groups}' if groups else ''} {group_name(cells[0].settings)}"


class _Best:
    """The best validation accuracy seen, and whose it is."""

    def __init__(self) -> None:
        self.accuracy, self.name = -1.0, ""

    def update(self, cells: Sequence[Cell], report: EpochReport) -> str:
        for place, metrics in report.metrics.items():
            failed = place in report.ended and report.ended[place].status == "failed"
            if metrics["val_accuracy"] > self.accuracy and not failed:
                self.accuracy, self.name = metrics["val_accuracy"], cells[place].label
        return f"best {self.accuracy:.4f} {self.name}" if self.name else ""


class Lines(Display):
    """One line an epoch, for logs and pipes."""

    def __init__(self) -> None:
        self._best = _Best()

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def begin(self, stage: str, trials: int, done: int, trial_epochs: int) -> None:
        self._best = _Best()

    def epoch(self, number: int, groups: int | None, cells: Sequence[Cell], report: EpochReport) -> None:
        best = self._best.update(cells, report)
        seconds = next(iter(report.metrics.values()))["epoch_seconds"]
        last = max(cell.settings.epochs for cell in cells)
        trials = f"{len(report.metrics)} trial{'s' if len(report.metrics) > 1 else ''}"
        self.note(f"{_heading(number, groups, cells)} epoch {report.epoch}/{last}: {trials}, {seconds:.1f} s, {best}")


class _TimeLeft(TimeRemainingColumn):
    """Of the epochs: trials end in bursts, from which no time can be told."""

    def render(self, task: Task) -> Text:
        return Text(f"{super().render(task)} left") if task.fields["timed"] else Text("")


class Live(Display):
    """Bars that move, for a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._best = _Best()
        self._progress: Progress | None = None
        self._trials = self._epochs = TaskID(0)

    def note(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        self.note(text)

    def begin(self, stage: str, trials: int, done: int, trial_epochs: int) -> None:
        """Two bars: trials, with the best so far, and epochs, with the time left."""
        self._best = _Best()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=14),
            MofNCompleteColumn(),
            _TimeLeft(compact=True),
            TextColumn("{task.fields[best]}"),
            console=self._console,
        )
        self._progress.start()
        self._trials = self._progress.add_task(f"{stage}: trials", total=trials, completed=done, best="", timed=False)
        self._epochs = self._progress.add_task("epochs", total=trial_epochs, best="", timed=True)

    def group(self, number: int, groups: int | None, cells: Sequence[Cell]) -> None:
        if self._progress:
            heading = textwrap.shorten(_heading(number, groups, cells), 30, placeholder="…")  # both bars fit 80 columns
            self._progress.update(self._epochs, description=f"{heading}: epochs")

    def epoch(self, number: int, groups: int | None, cells: Sequence[Cell], report: EpochReport) -> None:
        if self._progress:
            # A trial that stops early takes its remaining epochs with it.
            skipped = sum(cells[place].settings.epochs - report.epoch for place in report.ended)
            self._progress.update(self._epochs, advance=len(report.metrics) + skipped)
            self._progress.update(self._trials, advance=len(report.ended), best=self._best.update(cells, report))

    def end(self) -> None:
        if self._progress:
            self._progress.stop()
            self._progress = None


def choose(quiet: bool) -> Display:
    """Quiet, live bars on a terminal, or lines."""
    if quiet:
        return Display()
    console = Console(stderr=True)
    return Live(console) if console.is_terminal else Lines()


def print_table(title: str, rows: Sequence[dict[str, Any]], spare: Sequence[str] = ()) -> None:
    """A table on stdout: drawn on a terminal, tab-separated elsewhere.

    spare  columns to leave out, in this order, of a terminal that is too narrow
    """
    if not sys.stdout.isatty():
        print("\t".join(rows[0]))
        for row in rows:
            print("\t".join("" if value is None else str(value) for value in row.values()))
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
        table.add_row(*(_text(value) for value in row.values()), style="bold" if number == 0 else "")
    return table


def readable(cost: GroupCost) -> dict[str, Any]:
    """A group's cost in units for people."""
    return {
        "network": cost.network,
        "trials": cost.trials,
        "steps an epoch": cost.steps,
        "memory": f"{cost.memory / 2**20:.0f} MiB",
        "time at most": duration(cost.seconds),
    }


def duration(seconds: float) -> str:
    """Like "45 s", "12 min" or "3 h 20 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
