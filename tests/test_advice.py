"""What is said of a stage's results: certainty, what mattered, the edges of what was searched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from core.config import Settings
from sweep import advice
from sweep.experiment import Stage
from sweep.plan import Cell
from sweep.ranking import Row, ranked
from sweep.space import Range, Space
from sweep.study import Outcome


def stage(**dimensions: Any) -> Stage:
    return Stage("grid", "grid", Space(dimensions), {})


def rows(*settings: tuple[dict[str, Any], float | None], seeds: int = 1, status: str = "finished") -> list[Row]:
    """Ranked rows of these settings, each with its accuracy; further seeds are a thousandth better each."""
    cells, outcomes = [], {}
    for index, (searched, accuracy) in enumerate(settings, start=1):
        for seed in range(seeds):
            key = f"{index}.{seed}"
            cells.append(Cell("grid", index, searched, Settings(seed=seed), key, seed + 1 if seeds > 1 else 0))
            better = None if accuracy is None else accuracy + seed / 1000
            outcomes[key] = Outcome("failed" if accuracy is None else status, key, better, 0.5, 1, 3)
    return ranked(cells, outcomes)


def test_the_interval_is_wilsons() -> None:
    """Against the endpoints at which a normal test of the true share would just reject (the definition)."""
    for accuracy, images in ((0.5, 100), (0.9896, 288), (1.0, 50), (0.0, 50)):
        for end in advice.interval(accuracy, images):
            if 0 < end < 1:
                assert abs(accuracy - end) == pytest.approx(1.96 * np.sqrt(end * (1 - end) / images), rel=1e-9)
    low, high = advice.interval(0.9, 1000)
    assert low < 0.9 < high


def test_a_close_runner_up_makes_the_winner_unsure() -> None:
    found = rows(({"lr": 0.1}, 0.90), ({"lr": 0.2}, 0.89), ({"lr": 0.3}, 0.5), ({"lr": 0.4}, None))
    assert [row.cell.searched["lr"] for row in advice.rivals(found, 1000)] == [0.2]
    said = advice.certainty(stage(lr=(0.1, 0.2)), found, 1000)
    assert said.startswith("Not sure: 1 of 3 other settings is within the noise of 1000 validation images")
    assert "`seeds = 3`" in said
    assert "Ahead of all others" in advice.certainty(stage(), found, 100_000)
    assert advice.rivals(found, 100_000) == []


def test_several_seeds_are_judged_by_their_differences() -> None:
    found = rows(({"lr": 0.1}, 0.90), ({"lr": 0.2}, 0.80), seeds=3)
    assert "beyond the noise of the seeds" in advice.certainty(stage(), found, 100)


def test_nothing_is_claimed_where_nothing_can_be() -> None:
    assert "No trial finished" in advice.certainty(stage(), rows(({"lr": 0.1}, None)), 100)
    assert "only one setting" in advice.certainty(stage(), rows(({"lr": 0.1}, 0.5)), 100)
    assert advice.mattered(rows(({"lr": 0.1}, 0.5), ({"lr": 0.2}, 0.6))) == ""
    assert advice.mattered(rows(*(({"lr": lr, "reg": 0.1}, 0.5) for lr in (0.1, 0.2, 0.3, 0.4)))) == ""
    assert advice.edges(stage(lr=(0.1, 0.2)), rows(({"lr": 0.1}, None))) == []
    assert advice.rivals([], 100) == []


def test_what_mattered_is_the_share_of_the_variance() -> None:
    """accuracy = a(lr) + b(filters) on a full grid: the shares are those of the two sums of squares, and add up."""
    effect_of_lr, effect_of_filters = {0.01: 0.0, 0.1: 0.2}, {"8": 0.0, "16": 0.03, "32": 0.06}
    found = rows(
        *(
            ({"lr": lr, "filters": filters, "reg": 0.1}, 0.5 + a + b)
            for lr, a in effect_of_lr.items()
            for filters, b in effect_of_filters.items()
        )
    )
    effects = {effect.key: effect for effect in advice.effects(found)}
    assert list(effects) == ["lr", "filters"]
    variances = np.var([0.0, 0.2]), np.var([0.0, 0.03, 0.06])
    assert effects["lr"].share == pytest.approx(variances[0] / sum(variances))
    assert sum(effect.share for effect in effects.values()) == pytest.approx(1)
    assert effects["filters"].means == pytest.approx({"8": 0.6, "16": 0.63, "32": 0.66})
    said = advice.mattered(found)
    assert said.startswith(
        "lr mattered most: it explains 94% of the differences in accuracy (mean 0.7300 at 0.1, 0.5300"
    )
    assert said.endswith("; filters 6%.")


def test_a_range_is_judged_by_its_thirds() -> None:
    found = rows(*(({"dropout": x}, 0.9 - x) for x in np.linspace(0, 0.89, 30).tolist()))
    assert advice.mattered(found).startswith("dropout explains 89% of the differences")
    (effect,) = advice.effects(found)
    assert effect.share == pytest.approx(8 / 9, abs=0.01)  # of a uniform variable's variance, between its thirds
    assert [name.split(" to ")[0] for name in effect.means] == ["0", "0.307", "0.614"]


@pytest.mark.parametrize(
    ("dimension", "value", "said"),
    [
        ((0.01, 0.05, 0.1), 0.1, "lr 0.1 is the largest that was searched: try 0.2 as well."),
        ((0.01, 0.05, 0.1), 0.01, "lr 0.01 is the smallest that was searched: try 0.002 as well."),
        ((0.01, 0.05, 0.1), 0.05, None),
        ((0.1,), 0.1, None),
        (Range(0.001, 0.1, log=True), 0.095, "lr 0.095 is the upper end of the range that was searched: try 0.3"),
        (Range(0.001, 0.1, log=True), 0.0011, "lr 0.0011 is the lower end of the range that was searched: try 0.00033"),
        (Range(0.001, 0.1, log=True), 0.01, None),
    ],
)
def test_the_edge_of_what_was_searched_is_told(dimension: Any, value: float, said: str | None) -> None:
    found = advice.edges(stage(lr=dimension), rows(({"lr": value}, 0.9), ({"lr": 0.02}, 0.8)))
    assert len(found) == (said is not None)
    assert said is None or found[0].startswith(said)


def test_no_value_is_advised_that_would_be_refused_or_makes_no_difference() -> None:
    assert advice.edges(stage(dropout=(0.0, 0.5)), rows(({"dropout": 0.0}, 0.9))) == []
    assert advice.edges(stage(dropout=Range(0.0, 1.0)), rows(({"dropout": 0.99}, 0.9))) == []
    grid = [({"lr": lr, "reg": reg}, lr + reg / 1000) for lr in (0.1, 0.2, 0.3) for reg in (0.1, 0.2)]
    (only,) = advice.edges(stage(lr=(0.1, 0.2, 0.3), reg=(0.1, 0.2)), rows(*grid))
    assert only.startswith("lr 0.3 is the largest")
    whole = advice.edges(stage(batch_size=(64, 128)), rows(({"batch_size": 128}, 0.9)))
    assert whole == ["batch_size 128 is the largest that was searched: try 256 as well."]
    assert advice.edges(stage(nesterov=(False, True)), rows(({"nesterov": True}, 0.9))) == []
