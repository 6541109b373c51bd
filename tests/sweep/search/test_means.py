"""Means of accuracies: equal counts have equal means, and what goes by them."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from core.config.settings import Settings
from sweep.experiment.pruner import Pruner
from sweep.results import ranking
from sweep.search.cell import Cell
from sweep.search.means import mean
from sweep.search.outcome import Outcome
from sweep.search.pruners import to_prune

IMAGES = 288
COUNTS = (200, 200, 236), (200, 215, 221)  # whose accuracies, rounded, do not have the same sum


def test_the_mean_is_that_of_the_counts_rounded_once() -> None:
    few, more = ([count / IMAGES for count in counts] for counts in COUNTS)
    assert math.fsum(few) != math.fsum(more)
    assert mean(few) == mean(more) == mean(few[::-1]) == 636 / (3 * IMAGES)
    draw = random.Random(0)
    for images in (7, 288, 9999, 10_000, 1_000_000):
        counts = [draw.randrange(images + 1) for _ in range(5)]
        assert mean(count / images for count in counts) == sum(counts) / (5 * images)


def test_a_single_accuracy_is_its_own_mean_and_one_that_is_no_number_makes_none() -> None:
    assert mean([math.pi / 4]) == mean([math.pi / 4] * 3) == math.pi / 4
    assert math.isnan(mean([0.5, math.nan]))


@pytest.mark.parametrize("better", [0, 1])
def test_settings_of_equally_many_right_answers_are_ranked_by_their_loss(better: int) -> None:
    cells, outcomes = [], {}
    for index, counts in enumerate(COUNTS):
        for seed, count in enumerate(counts):
            key = f"{index}.{seed}"
            cells.append(Cell("s", index, {"lr": 0.1 + index}, Settings(seed=seed), key, seed + 1))
            outcomes[key] = Outcome("finished", key, count / IMAGES, 0.5 if index == better else 0.6, 1, 3)
    rows = ranking.ranked(cells, outcomes)
    assert rows[0].cell.index == better
    lead = ranking.lead(rows)
    assert lead is not None
    assert lead.difference == 0


def test_what_is_equal_to_the_median_of_the_others_means_is_not_pruned() -> None:
    """Three accuracies of the mean 0.3: of the rounded numbers the mean is larger."""
    others = {n: [0.1, 0.4, 0.4] for n in range(1, 5)}
    assert statistics.mean(others[1]) > 0.3
    assert to_prune(Pruner("median", 9), {0: [0.3, 0.3, 0.3], **others}, [0]) == set()
