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
from rich.text import Text

from core.training.progress import EpochReport
from sweep.search.cell import Cell
from sweep.search.grouping import group_name
from sweep.terminal.display import Display, Work, in_lines
from sweep.terminal.lines import Best, heading, labelled_lines
from sweep.terminal.tables import duration

CURVES, POINTS, NAME = 6, 30, 32  # trials of a group whose curves are shown, the last epochs of each, letters of a name
BLOCKS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
PICTURES = 6.0  # seconds that a stage's pictures take, until it is known


class Live(Display):
    """Moves in place; what notes say stays above it."""

    tells_time = True

    def __init__(self, console: Console) -> None:
        self._console, self._best = console, Best()
        self._live: live.Live | None = None
        self._trials = self._epochs = TaskID(0)
        self._pictures = PICTURES
        self._drawing: float | None = None  # since when

    def note(self, text: str) -> None:
        self._console.print(in_lines(text), highlight=False, markup=False, soft_wrap=True)

    def tell(self, results: Sequence[tuple[str, str]], commands: Sequence[tuple[str, str]]) -> None:
        self.note(labelled_lines(results, commands, self._console.width))

    def warn(self, text: str) -> None:
        self.note(text)

    def begin(self, stage: str, trials: int, done: int, work: Work) -> None:
        """Two bars: trials, and the epochs of all of them, with the time left; below them the best trial so far."""
        self.end()  # retries begin a second time
        self._best, self._work, self._started, self._took = Best(work.known), work, time.monotonic(), 0.0
        self._curves: dict[int, dict[str, list[float]]] = {}  # of each group's trials
        self._group = ""
        self._usual = fmean(work.seconds.values()) if work.seconds else 1.0  # where nothing is known only ratios matter
        # By the cell's key: its epochs, those that are left, and the seconds of each as measured.
        self._all: dict[str, int] = {}
        self._left: dict[str, int] = {}
        self._each: dict[str, float] = {}
        self._further = work.further
        self._expect(work.todo)
        self._progress = Progress(
            *(TextColumn("{task.description}"), BarColumn(bar_width=10), MofNCompleteColumn()),
            TextColumn("{task.fields[tells]}"),
            console=self._console,
        )
        self._trials = self._progress.add_task(f"{stage}: trials", total=trials, completed=done, tells="")
        self._epochs = self._progress.add_task("epochs", total=1, tells="")
        self._move("")
        self._live = live.Live(self._screen(0), console=self._console, refresh_per_second=4)
        self._live.start()

    def _expect(self, cells: Sequence[Cell]) -> None:
        for cell in cells:
            self._all[cell.key] = cell.settings.epochs
            self._left[cell.key] = cell.settings.epochs - self._work.before.get(cell.key, 0)
            self._each[cell.key] = self._work.seconds.get(group_name(cell.settings), self._usual)

    def _move(self, tells: str) -> None:
        """Set the bar of epochs."""
        further = self._further * self._work.longest
        total, left = sum(self._all.values()) + further, sum(self._left.values()) + further
        self._progress.update(self._epochs, total=total, completed=total - left, tells=tells)

    def group(self, number: int, groups: int | None, cells: Sequence[Cell]) -> None:
        new = [cell for cell in cells if cell.key not in self._all] if groups is None else []  # else resumed ones ended
        self._further = max(0, self._further - len(new))
        self._expect(new)

    def epoch(self, number: int, groups: int | None, cells: Sequence[Cell], report: EpochReport) -> None:
        for place, metrics in report.metrics.items():
            cell = cells[place]
            self._took += self._each[cell.key]
            # A trial that stops early takes its remaining epochs with it.
            self._left[cell.key] = 0 if place in report.ended else cell.settings.epochs - report.epoch
            self._curves.setdefault(number, {}).setdefault(cell.name, []).append(metrics["val_accuracy"])
        self._best.update(cells, report)
        self._progress.update(self._trials, advance=len(report.ended))
        self._move(self._pace(report))
        last = max(cell.settings.epochs for cell in cells)
        self._group = f"{heading(number, groups, cells)}, epoch {report.epoch}/{last}; accuracy now, best:"
        if self._live:
            self._live.update(self._screen(number))

    def _pace(self, report: EpochReport) -> str:
        """The time left, from how long what is done was expected to take and took; and images a second."""
        left = sum(count * self._each[key] for key, count in self._left.items())
        left += self._further * self._work.longest * self._usual
        seconds = left * (time.monotonic() - self._started) / self._took + self._work.pictures * self._pictures
        took = next(iter(report.metrics.values()))["epoch_seconds"]
        images = len(report.metrics) * self._work.images / took
        return f"{duration(max(1.0, seconds))} left, {images:,.0f} images/s"

    def _screen(self, group: int | None) -> Group:
        """All there is to see, with the curves of this group."""
        rows: list[Progress | Text | Table] = [self._progress]
        if self._best.cell:
            text = f"best so far: {self._best.accuracy:.4f} {self._best.cell.name}"
            rows.append(Text(text, no_wrap=True, overflow="ellipsis"))
        if group in self._curves:
            rows += [Text(self._group, no_wrap=True, overflow="ellipsis"), curves(self._curves[group])]
        return Group(*rows)

    def trained(self) -> None:
        """Bars end full: what a sampler did not propose, or a budget had no room for, is not waited for any more."""
        if self._live:
            self._further, self._drawing = 0, time.monotonic()
            self._all = {key: epochs for key, epochs in self._all.items() if self._left[key] < epochs}
            self._left = dict.fromkeys(self._all, 0)
            self._progress.update(self._trials, total=self._progress.tasks[0].completed)
            about = f"drawing pictures: about {duration(self._pictures)}" if self._work.pictures else "writing records"
            self._move(about)
            self._live.update(self._screen(None))

    def end(self) -> None:
        if self._live:
            if self._drawing is not None:
                self._pictures = time.monotonic() - self._drawing if self._work.pictures else self._pictures
                self._drawing = None
                self._move("")
            self._live.update(self._screen(None))
            self._live.stop()
            self._live = None


def curves(accuracies: dict[str, list[float]]) -> Table:
    """The trials that are ahead in the last epoch: that accuracy, the highest, and a line of small bars."""
    table = Table(box=None, padding=(0, 1, 0, 0), show_header=False)
    ahead = sorted(accuracies, key=lambda name: -accuracies[name][-1])[:CURVES]
    values = [value for name in ahead for value in accuracies[name][-POINTS:]]
    for name in ahead:
        line, short = sparkline(accuracies[name][-POINTS:], min(values), max(values)), shortened(name)
        table.add_row(f"{accuracies[name][-1]:.4f}", f"{max(accuracies[name]):.4f}", short, line)
    if len(accuracies) > len(ahead):
        table.add_row("", "", f"and {len(accuracies) - len(ahead)} more", "")
    return table


def shortened(name: str) -> str:
    """A name cut to its column."""
    return textwrap.shorten(name, NAME, placeholder="\u2026")


def sparkline(values: Sequence[float], low: float, high: float) -> str:
    """A bar for each value, from the lowest at low to the highest at high."""
    steps = len(BLOCKS) - 1
    return "".join(BLOCKS[round(steps * (value - low) / ((high - low) or 1.0))] for value in values)
