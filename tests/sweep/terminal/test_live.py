"""What a terminal shows while a sweep trains: the time left, and curves."""

from __future__ import annotations

import io
import re
import time
from typing import Any

import pytest
from rich.console import Console

from core.config.settings import Settings
from core.training.progress import EpochReport, TrialResult
from sweep.search.cell import Cell
from sweep.terminal.display import Work
from sweep.terminal.lines import Best, Lines
from sweep.terminal.live import BLOCKS, CURVES, Live, curves, sparkline


def cells(filters: str, count: int, first: int = 1) -> list[Cell]:
    settings = Settings(filters=filters, epochs=10)
    return [Cell("grid", n, {"lr": n / 10}, settings, f"{filters} {n}") for n in range(first, first + count)]


def report(epoch: int, places: range, ended: bool = False) -> EpochReport:
    metrics = {
        place: {"val_accuracy": epoch / 10 + place / 1000, "val_loss": 1.0, "epoch_seconds": 0.5} for place in places
    }
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


def shown_rows(terminal: Terminal) -> list[str]:
    """What the terminal shows below its notes."""
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(terminal.live._live.get_renderable())
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Any:
    found = Terminal(monkeypatch)
    yield found
    found.live.end()


def test_the_time_left_goes_by_what_each_groups_epochs_cost(terminal: Terminal) -> None:
    """4 trials whose epochs take 1 s as measured, then 2 of 3 s each; in truth all is twice as slow."""
    small, large = cells("2", 4), cells("8", 2, first=5)
    terminal.live.begin("grid", 6, 0, Work([*small, *large], 0, 0, 1000, {"2": 1.0, "8": 3.0}))
    terminal.live.group(1, 2, small)
    assert terminal.epoch(8, 1, 2, small, report(1, range(4))) == "3 min left, 8,000 images/s"  # 2 * (36 + 60) s
    assert terminal.epoch(8, 1, 2, small, report(2, range(4))).startswith("3 min left")
    said = terminal.epoch(8, 1, 2, small, report(3, range(4), ended=True))  # their other epochs are saved
    assert said.startswith("2 min left")
    terminal.live.group(2, 2, large)
    for epoch in range(1, 8):
        said = terminal.epoch(12, 2, 2, large, report(epoch, range(2)))
    assert said.startswith("36 s left")


def bar(terminal: Terminal, number: int) -> tuple[float, float | None]:
    """How much is done, of how much: of trials (0) or epochs (1)."""
    task = terminal.live._progress.tasks[number]
    return task.completed, task.total


def test_the_best_trial_stands_in_a_row_of_its_own_with_its_own_accuracy(terminal: Terminal) -> None:
    """Trial 2 was best in its first epoch, and one that trained before is not forgotten."""
    known = cells("2", 3)
    terminal.live.begin("grid", 3, 1, Work(known[:2], 0, 0, 1000, known=[(known[2], 0.15, 1.0)]))
    assert shown_rows(terminal)[2:] == ["best so far: 0.1500 grid-03 lr=0.3"]

    def epoch(number: int, *accuracies: float, loss: float = 1.0) -> list[str]:
        metrics = {n: {"val_accuracy": a, "val_loss": loss, "epoch_seconds": 1.0} for n, a in enumerate(accuracies)}
        terminal.epoch(1, 1, 1, known[:2], EpochReport(number, metrics, {}))
        return shown_rows(terminal)[2:]

    assert epoch(1, 0.1, 0.2)[0] == "best so far: 0.2000 grid-02 lr=0.2"
    assert epoch(2, 0.12, 0.11) == [
        "best so far: 0.2000 grid-02 lr=0.2",
        "group 1/1 2, epoch 2/10; accuracy now, best:",
        "0.1200 0.1200 grid-01 lr=0.1 \u2581\u2582",
        "0.1100 0.2000 grid-02 lr=0.2 \u2588\u2582",
    ]
    assert epoch(3, 0.1, 0.2, loss=0.1)[0] == "best so far: 0.2000 grid-02 lr=0.2"
    assert epoch(4, 0.2, 0.2, loss=0.5)[0] == "best so far: 0.2000 grid-01 lr=0.1"  # the winner's loss is lower


@pytest.mark.parametrize("status", ["failed", "pruned"])
def test_a_trial_that_ranks_last_is_the_best_no_more(status: str) -> None:
    known, best = cells("2", 2), Best()

    def epoch(number: int, accuracies: dict[int, float], ended: dict[int, TrialResult]) -> tuple[str, float]:
        metrics = {n: {"val_accuracy": a, "val_loss": 1.0} for n, a in accuracies.items()}
        assert best.update(known, EpochReport(number, metrics, ended))
        assert best.cell
        return best.cell.name, best.accuracy

    assert epoch(1, {0: 0.9, 1: 0.8}, {}) == (known[0].name, 0.9)
    assert epoch(2, {0: 0.95, 1: 0.7}, {0: TrialResult(status=status)}) == (known[1].name, 0.8)
    assert epoch(3, {1: 0.85}, {1: TrialResult()}) == (known[1].name, 0.85)
    assert best.update(known, EpochReport(4, {1: {"val_accuracy": 0.9}}, {1: TrialResult(status=status)}))
    assert best.cell is None


def test_bars_end_full_however_many_trials_there_were(terminal: Terminal) -> None:
    """A group goes on after epoch 4, one trial of which had ended; then a sampler has three of four trials to propose,
    two of 2 epochs and one that a budget leaves no room for.
    """
    old, new = cells("2", 3), cells("2", 2, first=5)
    for cell in new:
        object.__setattr__(cell, "settings", Settings(filters="2", epochs=2))
    work = Work(old[:2], 4, 10, 1000, before={cell.key: 4 for cell in old[:2]}, pictures=True)
    terminal.live.begin("fine", 7, 1, work)
    assert [bar(terminal, 0), bar(terminal, 1)] == [(1, 7), (8, 60)]
    terminal.live.group(1, 2, old)
    terminal.epoch(1, 1, 2, old, report(5, range(2)))
    assert bar(terminal, 1) == (10, 60)
    said = terminal.epoch(1, 1, 2, old, report(6, range(2), ended=True))
    assert [bar(terminal, 0), bar(terminal, 1)] == [(3, 7), (20, 60)]
    assert said.startswith("26 s left")  # 40 epochs, two a second, and the pictures
    terminal.live.group(2, None, new)
    assert bar(terminal, 1) == (20, 60)
    said = terminal.epoch(1, 2, None, new, report(1, range(2)))
    assert bar(terminal, 1) == (22, 44)
    terminal.epoch(1, 2, None, new, report(2, range(2), ended=True))
    terminal.live.trained()
    assert [bar(terminal, 0), bar(terminal, 1)] == [(5, 5), (24, 24)]
    assert "drawing pictures: about 6 s" in shown_rows(terminal)[1]
    terminal.now += 12
    terminal.live.end()
    terminal.live.begin("next", 2, 0, Work(old[:2], 0, 0, 1000, pictures=True))
    assert terminal.epoch(1, 1, 1, old, report(9, range(2))).startswith("13 s left")  # pictures took 12


def test_there_is_time_left_while_it_trains(terminal: Terminal) -> None:
    """Retries begin once more, and leave one screen, which ends."""
    known = cells("2", 1)
    for _ in range(2):
        terminal.live.begin("grid", 1, 0, Work(known, 0, 0, 1000))
        first = terminal.live._live
        for epoch in range(1, 10):
            said = terminal.epoch(0.01, 1, 1, known, report(epoch, range(1)))
            assert said.startswith("1 s left")
    terminal.live.end()
    assert not first.is_started
    assert terminal.live._console._live_stack == []


def test_lines_tell_the_best_when_it_changes(capsys: pytest.CaptureFixture[str]) -> None:
    known, screen = cells("2", 2), Lines()
    screen.begin("grid", 2, 0, Work(known, 0, 0, 1000))
    for epoch in (1, 1, 2):
        screen.epoch(1, 1, known, report(epoch, range(2)))
    assert capsys.readouterr().err.splitlines() == [
        "group 1/1 2 epoch 1/10: 2 trials, 0.5 s, best 0.1010 grid-02",
        "group 1/1 2 epoch 1/10: 2 trials, 0.5 s",
        "group 1/1 2 epoch 2/10: 2 trials, 0.5 s, best 0.2010 grid-02",
    ]


def test_without_knowing_costs_all_epochs_count_alike(terminal: Terminal) -> None:
    """Two trials and 20 epochs that a sampler is still to fill: 40 in all."""
    known = cells("2", 2)
    terminal.live.begin("fine", 4, 0, Work(known, 2, 10, 1000))
    assert terminal.epoch(1, 1, None, known, report(1, range(2))).startswith("19 s left")
    assert terminal.live._progress.tasks[1].total == 40


def test_the_curves_are_those_of_the_group_that_trains(terminal: Terminal) -> None:
    first, second = cells("2", 8), cells("8", 2, first=9)
    terminal.live.begin("grid", 10, 0, Work([*first, *second], 0, 0, 1000))
    for epoch in (1, 2, 3):
        terminal.epoch(1, 1, 2, first, report(epoch, range(8)))
    terminal.live._live.refresh()  # as a thread does four times a second
    terminal.epoch(1, 2, 2, second, report(1, range(2)))
    assert shown_rows(terminal)[3:] == [
        "group 2/2 8, epoch 1/10; accuracy now, best:",
        "0.1010 0.1010 grid-10 lr=1   \u2588",
        "0.1000 0.1000 grid-09 lr=0.9 \u2581",
    ]
    terminal.epoch(1, 1, 2, first, report(4, range(8)))  # in processes of their own, groups take turns
    assert shown_rows(terminal)[4].endswith("\u2581\u2583\u2586\u2588")
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
    accuracies, _, names = (list(column.cells) for column in table.columns[:3])
    assert accuracies[:CURVES] == ["0.9000", "0.8000", "0.7000", "0.6000", "0.5000", "0.4000"]
    assert names == [f"grid-{n:02d}" for n in range(9, 3, -1)] + ["and 3 more"]
