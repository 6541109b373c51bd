"""The order of merit, and what its tables say."""

from __future__ import annotations

import csv

from core.config import Settings
from sweep import ranking
from sweep.plan import Cell
from sweep.study import Outcome


def cell(index: int) -> Cell:
    return Cell("grid", index, {"lr": index / 10, "filters": "2"}, Settings(), f"key {index}")


CELLS = [cell(index) for index in range(1, 7)]
OUTCOMES = {
    "key 1": Outcome("finished", "r1", 0.8, 0.9, 2, 3),
    "key 2": Outcome("finished", "r2", 0.9, 0.7, 2, 3),
    "key 3": Outcome("finished", "r3", 0.9, 0.6, 3, 3),
    "key 4": Outcome("failed", "r4", 0.99, 0.1, 1, 2),
    "key 5": Outcome("failed", "r5", None, None, 0, 1),
    "key 6": Outcome("finished", "r6", 0.9, 0.7, 1, 3),
}


def test_accuracy_then_loss_then_the_plans_order_and_failures_last() -> None:
    rows = ranking.ranked(CELLS, OUTCOMES)
    assert [row.outcome.run_id for row in rows] == ["r3", "r2", "r6", "r1", "r4", "r5"]
    best = ranking.winner(rows)
    assert best is not None
    assert best.outcome.run_id == "r3"


def test_without_a_finished_trial_there_is_no_winner() -> None:
    assert ranking.winner(ranking.ranked(CELLS[3:5], OUTCOMES)) is None
    assert ranking.winner([]) is None
    assert ranking.ranked(CELLS, {}) == []


def test_tables_tell_the_rows_as_they_are() -> None:
    rows = ranking.ranked(CELLS, OUTCOMES)
    lines = list(csv.DictReader(ranking.to_csv(rows).splitlines()))
    assert [line["trial"] for line in lines] == ["grid-03", "grid-02", "grid-06", "grid-01", "grid-04", "grid-05"]
    assert (lines[0]["lr"], lines[0]["best_val_accuracy"], lines[0]["status"]) == ("0.3", "0.9", "finished")
    assert lines[5]["best_val_accuracy"] == ""
    markdown = ranking.to_markdown(rows).splitlines()
    assert len(markdown) == 8
    assert {line.count("|") for line in markdown} == {11}
    assert "| - |" in markdown[7]
    assert ranking.short(rows)[0] == {
        "#": 1, "trial": "grid-03", "lr": 0.3, "filters": "2", "accuracy": 0.9, "loss": 0.6, "epoch": "3/3",
        "status": "finished", "run": "r3",
    }  # fmt: skip
