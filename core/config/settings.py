"""What a trial is: Settings for one; for a group its Architecture, shared, and its Hyperparameters, arrays (T,)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from core.config.architecture import parse_filters, parse_pool
from core.errors import InputError

MOST_DROPOUT = 1 - 2.0**-24  # the largest float32 below 1: of a rate nearer to 1, 1 - rate would be 0 in float32
INITIALS = ("he", "xavier", "normal")
GRADIENTS = ("mean", "sum")
SCHEDULES = ("constant", "geometric", "step", "exponential", "cosine", "one-cycle")
OPTIMISERS = ("sgd", "adam", "adamw")
AUGMENTATIONS = ("flip", "crop", "rotate", "brightness", "contrast", "saturation", "noise", "cutout")


@dataclass(frozen=True)
class Settings:
    """Everything that decides one trial's result, besides the data. Raises InputError on a value out of range."""

    filters: str = "32x32"
    lr: float = 0.01
    reg: float = 0.005
    dropout: float = 0.5
    seed: int = 0
    epochs: int = 20
    patience: int = 5
    batch_size: int = 128
    initial: str = "he"
    gradient: str = "mean"
    clip: float = 5.0
    clip_global: float = 0.0
    schedule: str = "geometric"
    decay: float = 0.995
    step_factor: float = 0.5
    step_epochs: int = 5
    exp_rate: float = 0.05
    lr_min: float = 0.0
    warmup: float = 0.0
    cycle_rise: float = 0.3
    cycle_start: float = 25.0
    cycle_end: float = 1e4
    optimiser: str = "sgd"
    momentum: float = 0.0
    nesterov: bool = False
    beta1: float = 0.9
    beta2: float = 0.999
    adam_eps: float = 1e-8
    pool: str = "auto"
    residual: bool = False
    global_pool: bool = False
    flip: float = 0.0
    crop: int = 0
    rotate: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    noise: float = 0.0
    cutout: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            check_setting(field.name, getattr(self, field.name))

    def effective(self) -> dict[str, Any]:
        """The settings that the result depends on: without those of a schedule or an optimiser that is not used."""
        idle = self.idle()
        return {name: value for name, value in vars(self).items() if name not in idle}

    def idle(self) -> dict[str, str]:
        """The settings that do nothing beside the others, and which one's value is why: {"momentum": "optimiser"}."""
        return {
            name: other
            for name, needed in _ONLY.items()
            for other, values in needed.items()
            if getattr(self, other) not in values
        }


_NUMBER, _WHOLE, _TEXT, _SWITCH = (int, float), (int,), (str,), (bool,)
# The text settings that have one of a few values.
CHOICES: dict[str, Sequence[str]] = {
    "initial": INITIALS,
    "gradient": GRADIENTS,
    "schedule": SCHEDULES,
    "optimiser": OPTIMISERS,
}


def _one_of(choices: Sequence[str]) -> tuple[tuple[type, ...], Callable[[Any], bool], str]:
    return _TEXT, lambda value: value in choices, "one of " + ", ".join(choices)


# Settings that matter only where another one has one of these values.
_ONLY: dict[str, dict[str, tuple[Any, ...]]] = {
    "decay": {"schedule": ("geometric",)},
    "step_factor": {"schedule": ("step",)},
    "step_epochs": {"schedule": ("step",)},
    "exp_rate": {"schedule": ("exponential",)},
    "lr_min": {"schedule": ("cosine",)},
    "cycle_rise": {"schedule": ("one-cycle",)},
    "cycle_start": {"schedule": ("one-cycle",)},
    "cycle_end": {"schedule": ("one-cycle",)},
    "momentum": {"optimiser": ("sgd",)},
    "nesterov": {"optimiser": ("sgd",)},
    "beta1": {"optimiser": ("adam", "adamw")},
    "beta2": {"optimiser": ("adam", "adamw")},
    "adam_eps": {"optimiser": ("adam", "adamw")},
}
_YES_OR_NO = (_SWITCH, lambda value: True, "true or false")
_RULES: dict[str, tuple[tuple[type, ...], Callable[[Any], bool], str]] = {
    "filters": (_TEXT, lambda value: bool(parse_filters(value)), 'text like "32x64"'),
    "lr": (_NUMBER, lambda value: 0 < value < math.inf, "a number above 0"),
    "reg": (_NUMBER, lambda value: 0 <= value <= 1e12, "a number from 0 to 1e12"),  # its square is a float32
    "dropout": (_NUMBER, lambda value: 0 <= value < 1, "a number in [0, 1)"),
    "seed": (_WHOLE, lambda value: 0 <= value < 2**63, "a whole number from 0 to 2**63 - 1"),
    "epochs": (_WHOLE, lambda value: 1 <= value <= 10**6, "a whole number from 1 to 1000000"),
    "patience": (_WHOLE, lambda value: 1 <= value <= 10**9, "a whole number from 1 to 1000000000"),
    "batch_size": (_WHOLE, lambda value: 2 <= value <= 10**9, "a whole number from 2 to 1000000000"),
    "initial": _one_of(INITIALS),
    "gradient": _one_of(GRADIENTS),
    "clip": (_NUMBER, lambda value: 0 <= value < math.inf, "a number not below 0 (0: no clipping)"),
    "clip_global": (_NUMBER, lambda value: 0 <= value < math.inf, "a number not below 0 (0: no clipping)"),
    "schedule": _one_of(SCHEDULES),
    "decay": (_NUMBER, lambda value: 0 < value <= 1, "a number in (0, 1]"),
    "step_factor": (_NUMBER, lambda value: 0 < value <= 1, "a number in (0, 1]"),
    "step_epochs": (_WHOLE, lambda value: 1 <= value <= 10**9, "a whole number from 1 to 1000000000"),
    "exp_rate": (_NUMBER, lambda value: 0 <= value < math.inf, "a number not below 0"),
    "lr_min": (_NUMBER, lambda value: 0 <= value < math.inf, "a number not below 0"),
    "warmup": (_NUMBER, lambda value: 0 <= value < math.inf, "a number of epochs, not below 0"),
    "cycle_rise": (_NUMBER, lambda value: 0 < value < 1, "a number in (0, 1)"),
    "cycle_start": (_NUMBER, lambda value: 1 <= value < math.inf, "a number of at least 1"),
    "cycle_end": (_NUMBER, lambda value: 1 <= value < math.inf, "a number of at least 1"),
    "optimiser": _one_of(OPTIMISERS),
    "momentum": (_NUMBER, lambda value: 0 <= value < 1, "a number in [0, 1)"),
    "nesterov": _YES_OR_NO,
    "beta1": (_NUMBER, lambda value: 0 <= value < 1, "a number in [0, 1)"),
    "beta2": (_NUMBER, lambda value: 0 <= value < 1, "a number in [0, 1)"),
    "adam_eps": (_NUMBER, lambda value: 1e-12 <= value < math.inf, "a number of at least 1e-12"),
    "pool": (_TEXT, lambda value: parse_pool(value) is not None, 'text like "yes/no", or "auto"'),
    "residual": _YES_OR_NO,
    "global_pool": _YES_OR_NO,
    "flip": (_NUMBER, lambda value: 0 <= value <= 1, "a probability in [0, 1]"),
    "crop": (_WHOLE, lambda value: value >= 0, "a whole number of pixels, not below 0"),
    "rotate": (_NUMBER, lambda value: 0 <= value <= 180, "a number of degrees in [0, 180]"),
    "brightness": (_NUMBER, lambda value: 0 <= value <= 1, "a number in [0, 1]"),
    "contrast": (_NUMBER, lambda value: 0 <= value <= 1, "a number in [0, 1]"),
    "saturation": (_NUMBER, lambda value: 0 <= value <= 1, "a number in [0, 1]"),
    "noise": (_NUMBER, lambda value: 0 <= value <= 1e6, "a number from 0 to 1e6"),
    "cutout": (_WHOLE, lambda value: value >= 0, "a whole number of pixels, not below 0"),
}


def check_setting(name: str, value: object) -> None:
    """Raise InputError unless value is allowed for the setting called name."""
    types, allowed, expected = _RULES[name]
    if isinstance(value, bool) != (types is _SWITCH) or not isinstance(value, types) or not allowed(value):
        raise InputError(f"{name} is {value!r}: it must be {expected}")
