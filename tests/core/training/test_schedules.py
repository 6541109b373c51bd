"""Learning rates by step, against the formulas of the report's table 2, and more, worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from core.config import schedule
from core.config.settings import Settings
from core.training.schedules import SCHEDULES, learning_rates

STEPS = 2  # of an epoch
EXPECTED: dict[str, tuple[dict[str, Any], list[float]]] = {
    "constant": ({}, [0.1, 0.1, 0.1, 0.1, 0.1]),
    "geometric": ({"decay": 0.5}, [0.1, 0.05, 0.025, 0.0125, 0.00625]),
    "step": ({"step_factor": 0.1, "step_epochs": 2}, [0.1, 0.1, 0.01, 0.01, 0.001]),
    "exponential": (
        {"exp_rate": 0.6931471805599453},  # log 2
        [0.1, 0.05, 0.025, 0.0125, 0.00625],
    ),
    "cosine": ({"lr_min": 0.02, "epochs": 4}, [0.1, 0.088284271247461901, 0.06, 0.031715728752538099]),
}


def rates(trial: Settings, steps: int = STEPS) -> np.ndarray:
    """A trial's learning rate at every step of its training."""
    return np.concatenate([learning_rates([trial], epoch, steps)[:, 0] for epoch in range(trial.epochs)])


def test_every_schedule_is_tested() -> None:
    assert tuple(SCHEDULES) == schedule.SCHEDULES
    assert SCHEDULES.keys() == EXPECTED.keys() | {"one-cycle"}


@pytest.mark.parametrize("schedule", EXPECTED)
def test_schedule_follows_its_formula_epoch_by_epoch(schedule: str) -> None:
    options, expected = EXPECTED[schedule]
    trial = Settings(**{"lr": 0.1, "epochs": 5, "schedule": schedule} | options)
    np.testing.assert_allclose(rates(trial), np.repeat(expected, STEPS), rtol=1e-13)


def test_the_default_is_the_reports_decay() -> None:
    decayed = rates(Settings(lr=0.01), 1)
    assert decayed.shape == (20,)
    np.testing.assert_allclose(decayed[[0, 1, 19]], [0.01, 0.00995, 0.01 * 0.995**19], rtol=1e-14)


def test_one_cycle_rises_and_falls_along_half_cosines_step_by_step() -> None:
    """10 steps of which 0.5 rise: the largest rate at step 4, 0, 1/4, 1/2, 3/4 of the way up before it."""
    trial = Settings(lr=0.5, epochs=5, schedule="one-cycle", cycle_rise=0.5, cycle_start=5, cycle_end=10)
    half = math.sqrt(0.5) / 2  # a quarter of the way in time is 1/2 - half of the way
    up = [0.1 + 0.4 * part for part in (0, 0.5 - half, 0.5, 0.5 + half)]
    down = [0.5 - 0.49 * (1 - math.cos(math.pi * k / 5)) / 2 for k in range(6)]
    np.testing.assert_allclose(rates(trial), [*up, *down], rtol=1e-13)


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
@pytest.mark.parametrize("rise", [1e-9, 0.1, 0.3, 0.5, 0.9, 0.9999])
def test_one_cycle_ends_at_its_smallest_rate_and_stays_between(steps: int, rise: float) -> None:
    trial = Settings(lr=0.4, epochs=2, schedule="one-cycle", cycle_rise=rise, cycle_start=4, cycle_end=2)
    cycle = rates(trial, steps)
    assert cycle[-1] == pytest.approx(0.05)
    assert cycle.max() <= 0.4 * (1 + 1e-12)
    assert (np.diff(np.sign(np.diff(cycle))) <= 0).all()  # up, then down


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("warmup", "share"), [(2, [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1]), (0.5, [2 / 3, 1, 1])])
def test_warm_up_multiplies_by_the_share_of_steps_begun(schedule: str, warmup: float, share: list[float]) -> None:
    settings = {"lr": 0.3, "epochs": 4, "schedule": schedule, "lr_min": 0.1}
    factors = np.ones(12)
    factors[: len(share)] = share
    expected = rates(Settings(**settings), 3) * factors
    np.testing.assert_allclose(rates(Settings(**settings, warmup=warmup), 3), expected, rtol=1e-13)


def test_a_warm_up_longer_than_the_training_goes_on_rising() -> None:
    trial = Settings(lr=1.0, schedule="constant", epochs=2, warmup=4)
    np.testing.assert_allclose(rates(trial, 2), [1 / 8, 2 / 8, 3 / 8, 4 / 8], rtol=1e-14)


def test_a_warm_up_shorter_than_a_step_changes_nothing() -> None:
    for warmup in (0.0, 0.1, 1 / 3):
        np.testing.assert_array_equal(rates(Settings(warmup=warmup), 3), rates(Settings(), 3))


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_group_has_one_row_a_step_and_one_column_a_trial(epoch: int) -> None:
    trials = [
        *(Settings(epochs=2), Settings(epochs=6, schedule="cosine"), Settings(epochs=3, schedule="constant", lr=1)),
        *(Settings(epochs=4, schedule="one-cycle"), Settings(warmup=1.5)),
    ]
    table = learning_rates(trials, epoch, 3)
    assert (table.shape, table.dtype) == ((3, 5), np.float64)
    for column, trial in zip(table.T, trials, strict=True):
        np.testing.assert_array_equal(column, rates(trial, 3)[3 * epoch : 3 * epoch + 3])
