"""The order of merit, and what its tables say."""

from __future__ import annotations

import csv
from typing import Any

import pytest

from core.config.settings import Settings
from sweep.experiment.space import Space
from sweep.experiment.stage import Stage
from sweep.records import stage_text
from sweep.results import ranking, tables
from sweep.search.cell import Cell
from sweep.search.outcome import Outcome


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


def test_where_nothing_searched_does_anything_a_name_is_the_label() -> None:
    idle = Cell("s", 1, {"momentum": 0.9}, Settings(optimiser="adam"), "")
    does = Cell("s", 1, {"momentum": 0.9}, Settings(optimiser="sgd"), "")
    assert (idle.name, does.name) == ("s-01", "s-01 momentum=0.9")
    stage, outcome = Stage("s", "grid", Space({}), {}), Outcome("finished", "r", 0.5, 0.9, 1, 1)
    titles = [stage_text.title(stage, ranking.Row((cell,), (outcome,))) for cell in (idle, does)]
    assert titles == ["s stage: s-01, 0.5000", "s stage: s-01 momentum=0.9, 0.5000"]


def test_without_a_finished_trial_there_is_no_winner() -> None:
    assert ranking.winner(ranking.ranked(CELLS[3:5], OUTCOMES)) is None
    assert ranking.winner([]) is None
    assert ranking.ranked(CELLS, {}) == []


def test_tables_tell_the_rows_as_they_are() -> None:
    rows = ranking.ranked(CELLS, OUTCOMES)
    lines = list(csv.DictReader(tables.to_csv(rows).splitlines()))
    assert [line["trial"] for line in lines] == ["grid-03", "grid-02", "grid-06", "grid-01", "grid-04", "grid-05"]
    assert (lines[0]["lr"], lines[0]["best_val_accuracy"], lines[0]["status"]) == ("0.3", "0.9", "finished")
    assert lines[5]["best_val_accuracy"] == ""
    markdown = tables.to_markdown(rows).splitlines()
    assert len(markdown) == 8
    assert {line.count("|") for line in markdown} == {11}
    assert "| - |" in markdown[7]
    assert tables.short(rows)[0] == {
        "#": 1, "trial": "grid-03", "lr": 0.3, "filters": "2", "accuracy": 0.9, "loss": 0.6, "epoch": "3/3",
        "status": "finished", "run": "r3",
    }  # fmt: skip


Setting = list[tuple[Cell, Outcome]]


def replicates(index: int, accuracies: list[float | None], *statuses: str) -> Setting:
    """A setting trained with several seeds: its cells, and how each ended."""
    endings = statuses or ("finished",) * len(accuracies)
    return [
        (
            Cell("grid", index, {"lr": index / 10}, Settings(seed=n), f"{index} {n}", n + 1),
            Outcome(status, f"r{index}.{n}", accuracy, 1.0 + n, 1, 3),
        )
        for n, (accuracy, status) in enumerate(zip(accuracies, endings, strict=True))
    ]


def rows_of(*settings: Setting) -> list[ranking.Row]:
    every = [pair for setting in settings for pair in setting]
    return ranking.ranked([cell for cell, _ in every], {cell.key: outcome for cell, outcome in every})


def test_several_seeds_count_by_their_mean_and_show_their_best() -> None:
    lucky, steady = replicates(1, [0.99, 0.5, 0.6]), replicates(2, [0.8, 0.9, 0.85])
    rows = rows_of(lucky, steady)
    assert [row.label for row in rows] == ["grid-02", "grid-01"]
    best = tables.table(rows)[0]
    assert best["best_val_accuracy"] == pytest.approx(0.85)
    assert best["spread"] == pytest.approx(0.05)
    assert (best["seeds"], best["run_id"], best["best_val_loss"]) == (3, "r2.1", 2.0)
    assert tables.short(rows)[0]["±"] == pytest.approx(0.05)
    assert "spread" not in tables.table(ranking.ranked(CELLS, OUTCOMES))[0]


def test_a_setting_is_as_its_worst_seed() -> None:
    finished, pruned = replicates(1, [0.2, 0.3]), replicates(2, [0.9, 0.9], "pruned", "finished")
    failed = replicates(3, [0.95, None], "pruned", "failed")
    assert [(row.label, row.status) for row in rows_of(failed, pruned, finished)] == [
        ("grid-01", "finished"),
        ("grid-02", "pruned"),
        ("grid-03", "failed"),
    ]
    assert ranking.winner(rows_of(pruned, failed)) is None


def test_the_lead_is_judged_seed_by_seed() -> None:
    # Differences 0.01, 0.02, 0.03: mean 0.02, standard error 0.01 / sqrt(3), t of 2 degrees of freedom 4.303
    lead = ranking.lead(rows_of(replicates(1, [0.71, 0.52, 0.93]), replicates(2, [0.70, 0.50, 0.90])))
    assert lead is not None
    assert (lead.runner_up, lead.seeds) == ("grid-02", 3)
    assert lead.difference == pytest.approx(0.02)
    assert lead.high - lead.difference == pytest.approx(4.302653 * 0.01 / 3**0.5, rel=1e-6)
    assert str(lead).endswith("3 seeds): within the noise of the seeds")
    clear = ranking.lead(rows_of(replicates(1, [0.81, 0.61, 0.71]), replicates(2, [0.70, 0.50, 0.61])))
    assert str(clear).endswith("beyond the noise of the seeds")


@pytest.mark.parametrize(
    "settings",
    [
        [replicates(1, [0.9, 0.8])],
        [replicates(1, [0.9]), replicates(2, [0.8])],
        [replicates(1, [0.9, 0.8]), replicates(2, [0.8])],
        [replicates(1, [0.9, 0.8]), replicates(2, [0.8, 0.7], "pruned", "pruned")],
    ],
)
def test_without_two_finished_settings_of_two_seeds_no_lead_is_told(settings: list[Setting]) -> None:
    assert ranking.lead(rows_of(*settings)) is None


def test_a_column_that_some_settings_lack_is_empty_there() -> None:
    cells = [
        Cell("s", 1, {"optimiser": "adam", "beta1": 0.9}, Settings(optimiser="adam", beta1=0.9), "a"),
        Cell("s", 2, {"optimiser": "sgd"}, Settings(), "b"),
    ]
    rows = ranking.ranked(cells, {"a": OUTCOMES["key 1"], "b": OUTCOMES["key 2"]})
    assert [row["beta1"] for row in tables.table(rows)] == [None, 0.9]
    assert "| sgd | - |" in tables.to_markdown(rows)


def test_what_does_nothing_in_a_trial_is_not_shown_of_it() -> None:
    points: list[dict[str, Any]] = [{"optimiser": name, "momentum": 0.9, "beta1": 0.8} for name in ("sgd", "adam")]
    cells = [Cell("s", n, point, Settings(**point), f"key {n}") for n, point in enumerate(points, start=1)]
    rows = ranking.ranked(cells, OUTCOMES)
    assert [row.cell.name for row in rows] == ["s-02 optimiser=adam beta1=0.8", "s-01 optimiser=sgd momentum=0.9"]
    lines = list(csv.DictReader(tables.to_csv(rows).splitlines()))
    assert [(line["momentum"], line["beta1"]) for line in lines] == [("", "0.8"), ("0.9", "")]
    assert [(row["momentum"], row["beta1"]) for row in tables.short(rows)] == [(None, 0.8), (0.9, None)]
