"""A sweep on a terminal while it trains: bars, the time left, and the curves of a group as they grow."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Sequence
from statistics import fmean

from rich import live
from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from core.train import EpochReport
from sweep.display import Best, Display, Work, duration, heading, in_lines, named
from sweep.plan import Cell, group_name

CURVES, POINTS, NAME = 6, 30, 36  # trials of a group whose curves are shown, the last epochs of each, letters of a name
BLOCKS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"


class Live(Display):
    """Moves in place; what notes say stays above it."""

    tells_time = True

    def __init__(self, console: Console) -> None:
        self._console, self._best = console, Best()
        self._live: live.Live | None = None
        self._trials = self._epochs = TaskID(0)

    def note(self, text: str) -> None:
        self._console.print(in_lines(text), highlight=False, markup=False, soft_wrap=True)

    def tell(self, said: Sequence[tuple[str, str]], commands: Sequence[tuple[str, str]]) -> None:
        self.note(named(said, commands, self._console.width))

    def warn(self, text: str) -> None:
        self.note(text)

    def begin(self, stage: str, trials: int, done: int, work: Work) -> None:
        """Two bars: trials, with the best so far, and epochs, with the time left."""
        self._best, self._work, self._started, self._took = Best(), work, time.monotonic(), 0.0
        self._curves: dict[str, list[float]] = {}
        self._shown = -1  # the group whose curves these are
        epochs = sum(cell.settings.epochs for cell in work.todo) + work.further
        self._usual = fmean(work.seconds.values()) if work.seconds else 1.0  # where nothing is known only ratios matter
        left = [(cell.settings.epochs - work.before.get(cell.key, 0), self._seconds(cell)) for cell in work.todo]
        self._left = sum(count * seconds for count, seconds in left) + work.further * self._usual
        self._progress = Progress(
            *(TextColumn("{task.description}"), BarColumn(bar_width=10), MofNCompleteColumn()),
            TextColumn("{task.fields[tells]}"),
            console=self._console,
        )
        self._trials = self._progress.add_task(f"{stage}: trials", total=trials, completed=done, tells="")
        self._epochs = self._progress.add_task("epochs", total=epochs, completed=sum(work.before.values()), tells="")
        self._live = live.Live(self._progress, console=self._console, refresh_per_second=4)
        self._live.start()

    def _seconds(self, cell: Cell) -> float:
        return self._work.seconds.get(group_name(cell.settings), self._usual)

    def group(self, number: int, groups: int | None, cells: Sequence[Cell]) -> None:
        title = textwrap.shorten(heading(number, groups, cells), 22, placeholder="\u2026")  # both bars fit 80 columns
        self._progress.update(self._epochs, description=f"{title}: epochs")

    def epoch(self, number: int, groups: int | None, cells: Sequence[Cell], report: EpochReport) -> None:
        # A trial that stops early takes its remaining epochs with it.
        skipped = sum(cells[place].settings.epochs - report.epoch for place in report.ended)
        self._progress.update(self._trials, advance=len(report.ended), tells=self._best.update(cells, report))
        self._progress.update(
            self._epochs, advance=len(report.metrics) + skipped, tells=self._pace(cells, report, skipped)
        )
        if number != self._shown:
            self._shown, self._curves = number, {}
        for place, metrics in report.metrics.items():
            self._curves.setdefault(cells[place].name, []).append(metrics["val_accuracy"])
        if self._live:
            self._live.update(Group(self._progress, curves(self._curves)))

    def _pace(self, cells: Sequence[Cell], report: EpochReport, skipped: int) -> str:
        """The time left, from how long what is done was expected to take and took; and images a second."""
        each = self._seconds(cells[0])
        self._took += len(report.metrics) * each
        self._left -= (len(report.metrics) + skipped) * each
        left = duration(max(0.0, self._left) * (time.monotonic() - self._started) / self._took)
        seconds = next(iter(report.metrics.values()))["epoch_seconds"]
        return f"{left} left, {len(report.metrics) * self._work.images / seconds:,.0f} images/s"

    def end(self) -> None:
        if self._live:
            self._live.update(self._progress)
            self._live.stop()
            self._live = None


def curves(accuracies: dict[str, list[float]]) -> Table:
    """The trials that are ahead in the last epoch, each with its validation accuracy as a line of small bars."""
    table = Table(box=None, padding=(0, 1, 0, 0), show_header=False)
    ahead = sorted(accuracies, key=lambda name: -accuracies[name][-1])[:CURVES]
    values = [value for name in ahead for value in accuracies[name][-POINTS:]]
    for name in ahead:
        line = sparkline(accuracies[name][-POINTS:], min(values), max(values))
        table.add_row(f"{accuracies[name][-1]:.4f}", textwrap.shorten(name, NAME, placeholder="\u2026"), line)
    if len(accuracies) > len(ahead):
        table.add_row("", f"and {len(accuracies) - len(ahead)} more", "")
    return table


def sparkline(values: Sequence[float], low: float, high: float) -> str:
    """A bar for each value, from the lowest at low to the highest at high."""
    steps = len(BLOCKS) - 1
    return "".join(BLOCKS[round(steps * (value - low) / ((high - low) or 1.0))] for value in values)
