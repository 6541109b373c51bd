"""Learning rates by step (report table 2, and more). A schedule is a function; a group's are one table (steps, T)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from core.config.settings import Settings

# Each takes, beside the trial, for each step its epoch (float64) and its number, from 0 through the whole training, and
# how many steps the training has.


def constant(trial: Settings, epoch: np.ndarray, step: np.ndarray, steps: int) -> np.ndarray:
    """lr"""
    return np.full(step.shape, trial.lr)


def geometric(trial: Settings, epoch: np.ndarray, step: np.ndarray, steps: int) -> np.ndarray:
    """lr * decay**epoch: the report's own, with decay 0.995."""
    return trial.lr * trial.decay**epoch


def step_decay(trial: Settings, epoch: np.ndarray, step: np.ndarray, steps: int) -> np.ndarray:
    """lr * step_factor**floor(epoch / step_epochs)"""
    return trial.lr * trial.step_factor ** (epoch // trial.step_epochs)


def exponential(trial: Settings, epoch: np.ndarray, step: np.ndarray, steps: int) -> np.ndarray:
    """lr * exp(-exp_rate * epoch)"""
    return trial.lr * np.exp(-trial.exp_rate * epoch)


def cosine(trial: Settings, epoch: np.ndarray, step: np.ndarray, steps: int) -> np.ndarray:
    """lr_min + (lr - lr_min) / 2 * (1 + cos(pi * epoch / epochs)) (Loshchilov & Hutter 2017).

    The report leaves out "- lr_min", without which the rate would start above lr.
    """
    return trial.lr_min + (trial.lr - trial.lr_min) / 2 * (1 + np.cos(math.pi * epoch / trial.epochs))


def one_cycle(trial: Settings, epoch: np.ndarray, step: np.ndarray, steps: int) -> np.ndarray:
    """From lr / cycle_start up to lr in the share cycle_rise of all steps, then down to lr / cycle_start / cycle_end.

    Both along half a cosine, step by step (Smith & Topin 2019).
    """
    first, last = trial.lr / trial.cycle_start, trial.lr / trial.cycle_start / trial.cycle_end
    top = trial.cycle_rise * steps - 1  # the step that has the largest rate; the last one is steps - 1
    up = (1 - np.cos(math.pi * np.clip(step / top, 0, 1))) / 2 if top > 0 else np.ones(step.shape)
    down = (1 - np.cos(math.pi * np.clip((step - top) / (steps - 1 - top), 0, 1))) / 2
    return np.where(step <= top, first + (trial.lr - first) * up, trial.lr + (last - trial.lr) * down)


SCHEDULES: dict[str, Callable[[Settings, np.ndarray, np.ndarray, int], np.ndarray]] = {
    "constant": constant,
    "geometric": geometric,
    "step": step_decay,
    "exponential": exponential,
    "cosine": cosine,
    "one-cycle": one_cycle,
}


def learning_rates(trials: Sequence[Settings], epoch: int, steps: int) -> np.ndarray:
    """Learning rate of each trial at each step of an epoch (from 0) that has so many steps: float64 (steps, T).

    While a trial warms up, the schedule's rate is multiplied by the share of its warm-up steps that are begun
    (Goyal et al. 2017).
    """
    step, epochs = np.arange(epoch * steps, (epoch + 1) * steps), np.full(steps, epoch, np.float64)
    columns = []
    for trial in trials:
        rate = SCHEDULES[trial.schedule](trial, epochs, step, trial.epochs * steps)
        warm = trial.warmup * steps
        columns.append(rate * (np.minimum(warm, step + 1) / warm) if warm else rate)
    return np.stack(columns, axis=1)
