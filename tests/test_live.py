"""What a terminal shows while a sweep trains: the time left, and curves."""

from __future__ import annotations

import io
import re
import time
from typing import Any

import pytest
from rich.console import Console

from core.config import Settings
from core.train import EpochReport, TrialResult
from sweep.display import Work
from sweep.live import BLOCKS, CURVES, Live, curves, sparkline
from sweep.plan import Cell


def cells(filters: str, count: int, first: int = 1) -> list[Cell]:
    settings = Settings(filters=filters, epochs=10)
    return [Cell("grid", n, {"lr": n / 10}, settings, f"{filters} {n}") for n in range(first, first + count)]


def report(epoch: int, places: range, ended: bool = False) -> EpochReport:
    metrics = {place: {"val_accuracy": epoch / 10 + place / 1000, "epoch_seconds": 0.5} for place in places}
    return EpochReport(epoch, metrics, {place: TrialResult() for place in places} if ended else {})


class Terminal:
    """A live display on a terminal of 80 columns, and a clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        self.out = io.StringIO()
        self.live = Live(Console(file=self.out, force_terminal=True, width=80, height=40, color_system=None))

    def epoch(self, seconds: float, *arguments: Any) -> str:
        """An epoch that took so long; returns what the bar of epochs says."""
        self.now += seconds
        self.live.epoch(*arguments)
        text: str = self.live._progress.tasks[1].fields["tells"]
        return text


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Any:
    found = Terminal(monkeypatch)
    yield found
    found.live.end()


def test_the_time_left_goes_by_what_each_groups_epochs_cost(terminal: Terminal) -> None:
    """4 trials whose epochs take 1 s as measured, then 2 of 3 s each; in truth all is twice as slow."""
    small, large = cells("2", 4), cells("8", 2, first=5)
    terminal.live.begin("grid", 6, 0, Work([*small, *large], 0, 1000, {"2": 1.0, "8": 3.0}))
    terminal.live.group(1, 2, small)
    assert terminal.epoch(8, 1, 2, small, report(1, range(4))) == "3 min left, 8,000 images/s"  # 2 * (36 + 60) s
    assert terminal.epoch(8, 1, 2, small, report(2, range(4))).startswith("3 min left")
    said = terminal.epoch(8, 1, 2, small, report(3, range(4), ended=True))  # their other epochs are saved
    assert said.startswith("2 min left")
    terminal.live.group(2, 2, large)
    for epoch in range(1, 8):
        said = terminal.epoch(12, 2, 2, large, report(epoch, range(2)))
    assert said.startswith("36 s left")


def test_without_knowing_costs_all_epochs_count_alike(terminal: Terminal) -> None:
    """Two trials and 20 epochs that a sampler is still to fill: 40 in all."""
    known = cells("2", 2)
    terminal.live.begin("fine", 4, 0, Work(known, 20, 1000, {}))
    assert terminal.epoch(1, 1, None, known, report(1, range(2))).startswith("19 s left")
    assert terminal.live._progress.tasks[1].total == 40


def test_the_curves_are_those_of_the_group_that_trains(terminal: Terminal) -> None:
    first, second = cells("2", 8), cells("8", 2, first=9)
    terminal.live.begin("grid", 10, 0, Work([*first, *second], 0, 1000, {}))
    for epoch in (1, 2, 3):
        terminal.epoch(1, 1, 2, first, report(epoch, range(8)))
    terminal.live._live.refresh()  # as a thread does four times a second
    assert [len(line) for line in terminal.live._curves.values()] == [3] * 8
    terminal.epoch(1, 2, 2, second, report(1, range(2)))
    assert list(terminal.live._curves) == [cell.name for cell in second]
    terminal.live.end()
    shown = terminal.out.getvalue()
    assert "grid-08 lr=0.8" in shown
    assert "and 2 more" in shown
    assert BLOCKS[-1] in shown
    assert max(len(line) for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "\n").split("\n")) <= 80


def test_bars_go_from_the_lowest_to_the_highest() -> None:
    assert sparkline([0.0, 0.5, 1.0], 0, 1) == BLOCKS[0] + BLOCKS[4] + BLOCKS[7]
    assert sparkline([0.3, 0.3], 0.3, 0.3) == BLOCKS[0] * 2
    assert sparkline([], 0, 1) == ""


def test_the_trials_ahead_come_first() -> None:
    table = curves({f"grid-{n:02d}": [0.1, n / 10] for n in range(1, 10)})
    accuracies, names = (list(column.cells) for column in table.columns[:2])
    assert accuracies[:CURVES] == ["0.9000", "0.8000", "0.7000", "0.6000", "0.5000", "0.4000"]
    assert names == [f"grid-{n:02d}" for n in range(9, 3, -1)] + ["and 3 more"]
