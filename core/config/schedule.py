"""How the learning rate changes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from core.config.rules import AT_LEAST_ONE, COUNT, FACTOR, NOT_NEGATIVE, number, one_of
from core.config.setting import setting

SCHEDULES = ("constant", "geometric", "step", "exponential", "cosine", "one-cycle")

_GEOMETRIC, _STEP, _EXPONENTIAL = ({"schedule": (name,)} for name in ("geometric", "step", "exponential"))
_COSINE, _ONE_CYCLE = ({"schedule": (name,)} for name in ("cosine", "one-cycle"))


@dataclass(frozen=True)
class ScheduleSettings:
    """How the learning rate changes. See core.config.settings."""

    schedule: str = setting(
        "geometric",
        one_of(*SCHEDULES),
        "learning rate by epoch t: see below",
        synonyms="scheduler lr_schedule lr_scheduler learning_rate_schedule lr_policy",
    )
    decay: float = setting(
        0.995,
        FACTOR,
        "geometric: lr * decay^t",
        only=_GEOMETRIC,
        synonyms="gamma lr_decay decay_rate learning_rate_decay lr_gamma",
    )
    step_factor: float = setting(
        0.5,
        FACTOR,
        "step: lr * step_factor^floor(t / step_epochs)",
        only=_STEP,
        synonyms="factor lr_factor drop_factor",
    )
    step_epochs: int = setting(
        5, COUNT, "step: epochs of one rate", only=_STEP, synonyms="step_size lr_step_size decay_steps drop_every"
    )
    exp_rate: float = setting(
        0.05,
        NOT_NEGATIVE,
        "exponential: lr * e^(-exp_rate * t)",
        only=_EXPONENTIAL,
        synonyms="exp_decay exponential_rate",
    )
    lr_min: float = setting(
        0.0,
        NOT_NEGATIVE,
        "cosine: lr_min + (lr - lr_min)/2 * (1 + cos(pi t / epochs))",
        only=_COSINE,
        synonyms="eta_min min_lr final_lr",
    )
    warmup: float = setting(
        0.0,
        number(lambda value: 0 <= value < math.inf, "a number of epochs, not below 0"),
        "epochs over which the rate rises to the schedule's, step by step",
        synonyms="warmup_epochs warmup_steps num_warmup_steps warm_up",
    )
    cycle_rise: float = setting(
        0.3,
        number(lambda value: 0 < value < 1, "a number in (0, 1)"),
        "one-cycle: the share of all steps in which the rate rises to lr",
        only=_ONE_CYCLE,
        synonyms="pct_start",
    )
    cycle_start: float = setting(
        25.0, AT_LEAST_ONE, "one-cycle: from lr / cycle_start", only=_ONE_CYCLE, synonyms="div_factor"
    )
    cycle_end: float = setting(
        1e4, AT_LEAST_ONE, "one-cycle: to lr / cycle_start / cycle_end", only=_ONE_CYCLE, synonyms="final_div_factor"
    )
