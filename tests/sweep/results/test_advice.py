"""What is said of a stage's results: certainty, what mattered, the edges of what was searched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from core.config.settings import Settings
from core.data import pixels
from core.data.dataset import Dataset
from sweep.experiment.space import Range, Space
from sweep.experiment.stage import Stage
from sweep.results import advice
from sweep.results.ranking import Row, ranked
from sweep.search.cell import Cell
from sweep.search.outcome import Outcome


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


def test_nothing_is_claimed_where_nothing_can_be(images: Dataset) -> None:
    assert "No trial finished" in advice.certainty(stage(), rows(({"lr": 0.1}, None)), 100)
    assert "only one setting" in advice.certainty(stage(), rows(({"lr": 0.1}, 0.5)), 100)
    assert advice.mattered(rows(({"lr": 0.1}, 0.5), ({"lr": 0.2}, 0.6))) == ""
    assert advice.mattered(rows(*(({"lr": lr, "reg": 0.1}, 0.5) for lr in (0.1, 0.2, 0.3, 0.4)))) == ""
    assert advice.edges(stage(lr=(0.1, 0.2)), rows(({"lr": 0.1}, None)), images) == []
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


def test_what_did_not_finish_says_nothing_of_what_mattered() -> None:
    points = [({"lr": lr, "reg": reg}, 0.5 + lr + reg / 10) for lr in (0.1, 0.2) for reg in (0.1, 0.2)]
    said = advice.mattered(rows(*points))
    assert said.startswith("lr mattered most")
    assert "(mean 0.7150 at 0.2, 0.6150 at 0.1)" in said
    cells = [row.cell for row in rows(*points, *[({"lr": 0.2, "reg": 0.1}, 0.3), ({"lr": 0.2, "reg": 0.2}, 0.2)])]
    for status in ("pruned", "failed"):
        outcomes = {
            cell.key: Outcome(status if cell.index > 4 else "finished", cell.key, accuracy, 0.5, 1, 3)
            for cell in cells
            for accuracy in [([a for _, a in points] + [0.3, 0.2])[cell.index - 1]]
        }
        assert advice.mattered(ranked(cells, outcomes)) == said
    assert advice.mattered(rows(*points, status="cut")) == said  # by the budget, at the same epoch
    assert advice.mattered(rows(*points, status="pruned")) == ""


def test_a_range_is_judged_by_its_thirds() -> None:
    found = rows(*(({"dropout": x}, 0.9 - x) for x in np.linspace(0, 0.89, 30).tolist()))
    assert advice.mattered(found).startswith("dropout explains 89% of the differences")
    (effect,) = advice.effects(found)
    assert effect.share == pytest.approx(8 / 9, abs=0.01)  # of a uniform variable's variance, between its thirds
    assert [name.split(" to ")[0] for name in effect.means] == ["0", "0.307", "0.614"]


@pytest.fixture(scope="module")
def images() -> Dataset:
    """80 training images of 1x8x6 pixels."""
    x, y = np.zeros((100, 1, 8, 6), np.uint8), np.arange(100) % 3
    return Dataset(
        "made up", "", x, y, None, None, classes=("a", "b", "c"), pixels=pixels.PixelRange(1 / 255), sha256=""
    )


def edges(images: Dataset, dimensions: dict[str, Any], winner: dict[str, Any], **fixed: Any) -> list[str]:
    """What is advised where the only other setting is worse."""
    cells = [Cell("grid", n, each, Settings(**fixed | each), str(n)) for n, each in enumerate((winner, {}), start=1)]
    outcomes = {cell.key: Outcome("finished", cell.key, 1 - cell.index / 10, 0.5, 1, 3) for cell in cells}
    return advice.edges(stage(**dimensions), ranked(cells, outcomes), images)


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
def test_the_edge_of_what_was_searched_is_told(images: Dataset, dimension: Any, value: float, said: str | None) -> None:
    found = edges(images, {"lr": dimension}, {"lr": value})
    assert len(found) == (said is not None)
    assert said is None or found[0].startswith(said)


@pytest.mark.parametrize(
    ("key", "dimension", "value", "fixed", "advised"),
    [
        ("dropout", (0.0, 0.5), 0.0, {}, None),
        ("dropout", Range(0.0, 1.0), 0.99, {}, None),
        ("dropout", Range(0.0, 0.8), 0.79, {}, "0.9"),  # 1 is refused
        ("dropout", (0.5, 0.7, 0.9), 0.9, {}, "0.96"),  # 1.2 and 1 are refused
        ("dropout", Range(0.1, 0.5, step=0.1), 0.5, {}, "0.6"),
        ("cutout", Range(0, 6, step=2), 6, {}, None),  # images are 6 pixels wide
        ("cutout", Range(0, 4, step=2), 4, {}, "6"),
        ("cutout", (2, 5), 5, {}, "6"),  # 12 and 8 are refused
        ("crop", (1, 2, 6), 6, {}, None),
        ("crop", Range(0, 4, step=4), 4, {}, None),
        ("crop", Range(0, 2, step=2), 2, {}, "4"),
        ("crop", Range(1, 3, step=1), 1, {}, "0"),
        ("batch_size", (64, 128), 64, {}, "32"),
        ("batch_size", (16, 32), 32, {}, "64"),
        ("batch_size", (64, 128), 128, {}, None),  # one batch has all 80 training images
        ("patience", (3, 5), 5, {"epochs": 5}, None),
        ("patience", (3, 5), 5, {"epochs": 9}, "8"),
        ("epochs", Range(2, 32, log=True, step=1), 32, {}, "96"),
        ("lr", Range(0.001, 0.1, log=True), 0.0999, {}, "0.3"),
        ("nesterov", (False, True), True, {"momentum": 0.9}, None),
        ("momentum", (0.5, 0.9), 0.9, {"optimiser": "adam"}, None),
    ],
)
def test_what_is_advised_can_be_trained_and_is_new(
    images: Dataset, key: str, dimension: Any, value: Any, fixed: dict[str, Any], advised: str | None
) -> None:
    found = edges(images, {key: dimension}, {key: value}, **fixed)
    assert [line.partition("try ")[2] for line in found] == ([f"{advised} as well."] if advised else [])


def test_no_value_is_advised_of_what_makes_no_difference(images: Dataset) -> None:
    grid = [({"lr": lr, "reg": reg}, lr + reg / 1000) for lr in (0.1, 0.2, 0.3) for reg in (0.1, 0.2)]
    (only,) = advice.edges(stage(lr=(0.1, 0.2, 0.3), reg=(0.1, 0.2)), rows(*grid), images)
    assert only.startswith("lr 0.3 is the largest")
