"""Learning rates by epoch (report table 2). A schedule is a function; a group's schedules are one table (epochs, T)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from core.config import Settings


def constant(trial: Settings, epoch: np.ndarray) -> np.ndarray:
    """lr"""
    return np.full(epoch.shape, trial.lr)


def geometric(trial: Settings, epoch: np.ndarray) -> np.ndarray:
    """lr * decay**t: the report's own, with decay 0.995."""
    return trial.lr * trial.decay**epoch


def step(trial: Settings, epoch: np.ndarray) -> np.ndarray:
    """lr * step_factor**floor(t / step_epochs)"""
    return trial.lr * trial.step_factor ** (epoch // trial.step_epochs)


def exponential(trial: Settings, epoch: np.ndarray) -> np.ndarray:
    """lr * exp(-exp_rate * t)"""
    return trial.lr * np.exp(-trial.exp_rate * epoch)


def cosine(trial: Settings, epoch: np.ndarray) -> np.ndarray:
    """lr_min + (lr - lr_min) / 2 * (1 + cos(pi * t / epochs)) (Loshchilov & Hutter 2017).

    The report leaves out "- lr_min", without which the rate would start above lr.
    """
    return trial.lr_min + (trial.lr - trial.lr_min) / 2 * (1 + np.cos(math.pi * epoch / trial.epochs))


SCHEDULES: dict[str, Callable[[Settings, np.ndarray], np.ndarray]] = {
    "constant": constant,
    "geometric": geometric,
    "step": step,
    "exponential": exponential,
    "cosine": cosine,
}


def learning_rates(trials: Sequence[Settings]) -> np.ndarray:
    """Learning rate of each trial in each epoch, counted from 0: float64 (most epochs of any trial, T)."""
    epoch = np.arange(max(trial.epochs for trial in trials), dtype=np.float64)
    return np.stack([SCHEDULES[trial.schedule](trial, epoch) for trial in trials], axis=1)
