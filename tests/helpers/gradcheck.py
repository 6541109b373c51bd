"""Slopes by central differences: what a gradient has to agree with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def slope(loss: Callable[[np.ndarray], Any], x: np.ndarray, direction: np.ndarray, step: float = 1e-6) -> Any:
    """Change of loss, a number or one a trial, per step from x along direction.

    Its error is of order step**2 and rounding / step.
    """
    return (loss(x + step * direction) - loss(x - step * direction)) / (2 * step)


def random_direction(shape: tuple[int, ...], trial: int) -> np.ndarray:
    """Standard normal in one trial's entries, 0 in all others: one trial's error cannot hide behind another's."""
    direction = np.zeros(shape)
    direction[trial] = np.random.default_rng(trial).standard_normal(shape[1:])
    return direction
