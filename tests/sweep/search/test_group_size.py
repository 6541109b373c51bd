"""How many trials train together, and what that saves: chosen by measured times, which the tests make up."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core import ops
from core.backends import registry as backends
from core.data import registry as datasets
from core.data.dataset import Dataset
from sweep.__main__ import main
from sweep.commands import run_summary
from sweep.experiment import file as experiments
from sweep.experiment.pruner import Pruner
from sweep.experiment.space import Space
from sweep.experiment.stage import Budget
from sweep.search import group_planner, group_size, plan
from sweep.search.cell import Cell
from sweep.search.group_size import ROUNDS, GroupSize, best_size, fastest_size, fusion, in_turn
from sweep.search.grouping import groups
from sweep.stages.run import StageResult
from sweep.stages.sweep import Sweep
from sweep.terminal.display import Display

PLENTY = 10**12
Clock = Callable[[int], float]  # seconds of a step of so many trials


@pytest.fixture
def small(project: Path) -> Dataset:
    return datasets.load("small.npz")


def group_of(small: Dataset, settings: int, seeds: int = 1, epochs: int = 10_000, filters: str = "3x4") -> list[Cell]:
    loaded = experiments.load("small", {"epochs": epochs})
    space = Space({"lr": tuple(0.01 * n for n in range(1, settings + 1)), "filters": (filters,)})
    stage = replace(loaded.stages["grid"], seeds=seeds, space=space)
    (group,) = groups(plan.cells(loaded, stage, {}, small, plan.settings(loaded, stage)))
    return group


def clocked(monkeypatch: pytest.MonkeyPatch, seconds: Clock) -> list[int]:
    """Let a step of T trials take seconds(T); returns the sizes that are measured."""
    measured: list[int] = []

    def actions(backend: ops.Ops, found: Dataset, cells: Sequence[Cell]) -> tuple[Any, Any]:
        measured.append(len(cells))
        return (lambda: seconds(len(cells))), None

    monkeypatch.setattr(group_size, "actions", actions)
    monkeypatch.setattr(group_size, "in_turn", lambda work: np.array([[step() for step in work]] * ROUNDS))
    return measured


def test_work_is_timed_in_turn_after_it_was_done_twice() -> None:
    done: list[str] = []
    found = in_turn([lambda: done.append("a"), lambda: done.append("b")])
    assert "".join(done) == "aabb" + "ab" * ROUNDS
    assert found.shape == (ROUNDS, 2)
    assert (found >= 0).all()


def test_a_smaller_group_is_chosen_where_it_is_faster_in_most_measurements() -> None:
    sizes, rounds = [8, 4, 2, 1], np.ones((ROUNDS, 1))
    place, reason = fastest_size(sizes, rounds * [1.2, 1.1, 1.0, 1.3])
    assert place == 2
    assert reason == (
        "8 trials train 2 at a time: together each would take 1.20 times as long here (1.20 to 1.20 in half of 10 "
        "measurements)"
    )
    assert fastest_size(sizes, rounds * [1.0, 1.1, 1.2, 1.3])[0] == 0
    assert fastest_size(sizes, rounds * [1.01, 1.0, 1.0, 1.0])[0] == 0  # not worth a change
    busy = rounds * [1.2, 1.2, 1.2, 1.2]
    busy[: ROUNDS // 2, 2] = 0.5  # faster in half of them alone
    place, reason = fastest_size(sizes, busy)
    assert place == 0
    busy[:, 3] = 1.1  # faster in all
    busy[: ROUNDS // 2 + 1, 2] = 0.5
    busy[ROUNDS // 2 + 1 :, 2] = 1.3
    assert fastest_size(sizes, busy)[0] == 3
    assert reason == "8 trials train together: no smaller group is faster here (measured: 4, 2, 1)"


def test_the_size_is_measured_in_halves(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two seeds a setting, which stay together. A trial is fastest in a group of about six here."""
    measured = clocked(monkeypatch, lambda trials: trials * (1 + 0.05 * abs(trials - 6)))
    assert best_size(backends.load("cpu"), small, group_of(small, 9, seeds=2), PLENTY) == GroupSize(
        3,
        "3x4, batch 16: 18 trials train 6 at a time: together each would take 1.60 times as long here (1.60 to 1.60 "
        "in half of 10 measurements)",
    )
    assert measured == [18, 10, 6, 4, 2]


def test_the_size_is_not_measured_where_that_costs_too_much(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """9, 5, 3, 2 and 1 trials, 12 calls each: 240 steps of a trial, of 27 an epoch."""
    measured = clocked(monkeypatch, lambda trials: float(trials))
    fast = backends.load("cpu")
    assert best_size(fast, small, group_of(small, 9, epochs=888), PLENTY) is None
    assert best_size(fast, small, group_of(small, 1), PLENTY) is None
    assert best_size(fast, small, group_of(small, 9), 1000) is None
    assert best_size(replace(fast, measure_group_size=False), small, group_of(small, 9), PLENTY) is None
    assert measured == []
    assert best_size(fast, small, group_of(small, 9, epochs=889), PLENTY) is not None


def test_what_fusing_saves_is_trials_times_one_over_all(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group of T takes T + 3 seconds here, and so one trial 4."""
    measured = clocked(monkeypatch, lambda trials: trials + 3.0)
    backend, found = backends.load(), group_of(small, 5)
    assert fusion(backend, small, [found[:3], found[3:]]) == pytest.approx(((3 * 4 + 2 * 4) / (6 + 5),) * 3)
    assert measured == [3, 2, 1]
    other = group_of(small, 3, epochs=30_000, filters="2")  # trains three times as long
    expected = (3 * 4 + 3 * 3 * 4) / (6 + 3 * 6)
    assert fusion(backend, small, [found[:3], other]) == pytest.approx((expected,) * 3)
    assert fusion(backend, small, [found[:1], found[1:2]]) is None
    assert fusion(backend, small, [group_of(small, 5, epochs=5)]) is None  # 72 steps of a trial, of 75


@pytest.mark.parametrize(
    ("measured", "line"),
    [
        ((1.1, 1.25, 1.4), r"1 s of training.*about 1 s \(1.25 times as long; 1.10 to 1.40 in half of 10 measurements"),
        ((0.8, 0.9, 0.95), r"\(0.90 times as long"),
        ((0.9, 1.2, 1.4), ""),  # it may have cost time
        (None, ""),
    ],
)
def test_what_fusing_saved_is_said_where_it_is_sure(
    small: Dataset, monkeypatch: pytest.MonkeyPatch, measured: Any, line: str
) -> None:
    monkeypatch.setattr(group_size, "fusion", lambda *arguments: measured)
    group, sweep = group_of(small, 4), Sweep.of(experiments.load("small"), small, backends.load(), Display())
    row = type("Row", (), {"cells": group, "outcomes": [type("Outcome", (), {"seconds": 0.25})] * 4})
    result = StageResult("grid", "", [row], 4, "", [group[:2], group[2:]])  # type: ignore[list-item]
    said = run_summary._saved(sweep, result)
    assert re.search(line, said) if line else said == ""
    assert run_summary._saved(sweep, replace(result, groups=[group[:2]])) == ""  # an earlier call trained the others


WAVES = """
data = "small.npz"

[stages.fine]
sampler = "tpe"
trials = 6
at_once = 2
settings = { filters = "2", epochs = 1, batch_size = 16 }
space = { lr = { low = 0.001, high = 0.1, log = true } }
"""


def test_what_fusing_saved_is_measured_once_on_the_groups_that_trained(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Waves of two, where all six trials would fit into one group; the sweep that is done has nothing to measure."""
    sizes, asked = list[int](), list[list[int]]()
    monkeypatch.setattr(group_planner, "best_size", lambda backend, found, group, memory: sizes.append(len(group)))
    monkeypatch.setattr(group_size, "fusion", lambda backend, found, groups: asked.append([len(g) for g in groups]))
    (project / "experiments" / "waves.toml").write_text(WAVES)
    assert main(["run", "waves"]) == 0
    assert asked == [[2, 2, 2]]
    assert sizes == [2, 2, 2]
    assert main(["run", "waves"]) == 0
    assert "nothing to train" in capsys.readouterr().err
    assert (len(asked), len(sizes)) == (1, 3)


class Notes(Display):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def test_groups_are_cut_to_the_best_size_once_measured(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def measured(backend: ops.Ops, found: Dataset, group: Sequence[Cell], memory: int) -> GroupSize | None:
        asked.append(len(group))
        return GroupSize(2, "two by two") if len(group) > 2 else None

    monkeypatch.setattr(group_planner, "best_size", measured)
    screen, group = Notes(), group_of(small, 5)
    loaded = experiments.load("small")

    def sizes(cells: Sequence[Cell], processes: int = 1, **changes: Any) -> list[int]:
        stages = {"grid": replace(loaded.stages["grid"], **changes)}
        sweep = Sweep.of(replace(loaded, stages=stages), small, backends.load(), screen, processes=processes)
        first = [len(part) for part in sweep.planner.groups(cells)]
        assert [len(part) for part in sweep.planner.groups(cells)] == first
        return first

    assert sizes(group) == [1, 2, 2]
    assert screen.said == ["two by two"]
    assert asked == [5]
    assert sizes(group[:1]) == [1]
    assert asked == [5, 1, 1]  # not measured, so asked again
    asked.clear()
    assert sizes(group, pruner=Pruner("median", 3)) == [5]  # its trials are judged against each other
    assert sizes(group, budget=Budget(epochs=9)) == [5]  # and here they share what is left
    assert sizes(group, processes=2) == [2, 3]
    assert asked == []


def test_the_size_is_measured_again_for_a_larger_group(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups of three train as a whole; of larger ones two at a time are the fastest, where it can be measured."""
    asked, best = list[int](), GroupSize(3, "")

    def measured(backend: ops.Ops, found: Dataset, group: Sequence[Cell], memory: int) -> GroupSize | None:
        asked.append(len(group))
        return best if len(group) < 7 else None

    monkeypatch.setattr(group_planner, "best_size", measured)
    sweep, group = Sweep.of(experiments.load("small"), small, backends.load(), Display()), group_of(small, 7)

    def sizes(count: int) -> list[int]:
        return [len(part) for part in sweep.planner.groups(group[:count])]

    assert [sizes(3), sizes(2), sizes(7)] == [[3], [2], [7]]  # seven are not measured
    best = GroupSize(2, "")
    assert [sizes(6), sizes(3)] == [[2, 2, 2], [1, 2]]
    assert sizes(7) == [1, 2, 2, 2]  # what was the fastest of six stays so
    assert asked == [3, 7, 6, 7]


def test_trials_in_small_groups_come_out_as_in_large_ones(
    project: Path,
    trained: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together = json.loads((trained / "results.json").read_text())["stages"][0]["trials"]
    monkeypatch.setattr(group_planner, "best_size", lambda *arguments: GroupSize(1, "one at a time"))
    capsys.readouterr()
    assert main(["run", "small", "--stage", "grid", "--json"]) == 0
    said = capsys.readouterr()
    assert "one at a time" in said.err
    assert "group 4/4" in said.err
    alone = json.loads(said.out)["stages"][0]["trials"]
    assert [{**row, "run_id": ""} for row in alone] == [{**row, "run_id": ""} for row in together]
