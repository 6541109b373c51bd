"""Learning rates by epoch, against the formulas of the report's table 2 worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from core.config import Settings
from core.schedules import SCHEDULES, learning_rates

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


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedule_follows_its_formula(schedule: str) -> None:
    options, expected = EXPECTED[schedule]
    rates = learning_rates([Settings(**{"lr": 0.1, "epochs": 5, "schedule": schedule} | options)])
    np.testing.assert_allclose(rates[:, 0], expected, rtol=1e-13)


def test_the_default_is_the_reports_decay() -> None:
    rates = learning_rates([Settings(lr=0.01)])
    assert rates.shape == (20, 1)
    np.testing.assert_allclose(rates[[0, 1, 19], 0], [0.01, 0.00995, 0.01 * 0.995**19], rtol=1e-14)


def test_a_group_has_one_column_a_trial_and_the_longest_trials_epochs() -> None:
    trials = [Settings(epochs=2), Settings(epochs=6, schedule="cosine"), Settings(epochs=3, schedule="constant", lr=1)]
    rates = learning_rates(trials)
    assert rates.shape == (6, 3)
    for column, trial in zip(rates.T, trials, strict=True):
        np.testing.assert_array_equal(column[: trial.epochs], learning_rates([trial])[:, 0])
