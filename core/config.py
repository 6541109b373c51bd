"""What a trial is: Settings for one; for a group its Architecture, shared, and its Hyperparameters, arrays (T,)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from core.errors import InputError
from core.schedules import SCHEDULES

KERNEL, PAD, POOL = 3, 2, 2  # convolution width, its zero padding, pooling window and stride (report 3.1 and 8.1)
EPSILON = 1e-5  # added to the variance by batch normalisation
MOMENTUM = 0.9  # running = MOMENTUM * running + (1 - MOMENTUM) * batch
INITIALS = ("he", "xavier", "normal")
GRADIENTS = ("mean", "sum")


@dataclass(frozen=True)
class Architecture:
    """The shapes that all trials of a group share.

    input_shape  (C, H, W) of an image
    filters      output channels of each block; a block is conv -> batch norm -> ReLU -> max pool
    classes      outputs of the linear layer

    Raises InputError if a block is left without a pixel.
    """

    input_shape: tuple[int, int, int]
    filters: tuple[int, ...]
    classes: int

    def __post_init__(self) -> None:
        for number, (_, height, width) in enumerate(self.shapes):
            if min(height, width) < 1:
                raise InputError(
                    f"images of {self.input_shape[1]}x{self.input_shape[2]} pixels leave none after block {number} "
                    f"of {len(self.filters)}: use fewer blocks or larger images"
                )

    @property
    def conv_shapes(self) -> list[tuple[int, int, int]]:
        """(C, H, W) of each block before its pooling."""
        shapes = []
        _, height, width = self.input_shape
        for channels in self.filters:
            height, width = (size + 2 * PAD - KERNEL + 1 for size in (height, width))
            shapes.append((channels, height, width))
            height, width = height // POOL, width // POOL
        return shapes

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """(C, H, W) of the input and after each block."""
        return [self.input_shape, *((c, height // POOL, width // POOL) for c, height, width in self.conv_shapes)]

    @property
    def features(self) -> int:
        """Inputs of the linear layer."""
        return math.prod(self.shapes[-1])


def parse_filters(text: str) -> tuple[int, ...]:
    """ "32x64" -> (32, 64): the output channels of each block."""
    if not re.fullmatch(r"[1-9][0-9]{0,4}(x[1-9][0-9]{0,4})*", text):
        raise InputError(f'filters is "{text}": write the output channels of each block, like "32x64"')
    return tuple(int(part) for part in text.split("x"))


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

    def __post_init__(self) -> None:
        for field in fields(self):
            check_setting(field.name, getattr(self, field.name))


_NUMBER, _WHOLE, _TEXT = (int, float), (int,), (str,)


def _one_of(choices: Sequence[str]) -> tuple[tuple[type, ...], Callable[[Any], bool], str]:
    return _TEXT, lambda value: value in choices, "one of " + ", ".join(choices)


_RULES: dict[str, tuple[tuple[type, ...], Callable[[Any], bool], str]] = {
    "filters": (_TEXT, lambda value: bool(parse_filters(value)), 'text like "32x64"'),
    "lr": (_NUMBER, lambda value: 0 < value < math.inf, "a number above 0"),
    "reg": (_NUMBER, lambda value: 0 <= value < math.inf, "a number not below 0"),
    "dropout": (_NUMBER, lambda value: 0 <= value < 1, "a number in [0, 1)"),
    "seed": (_WHOLE, lambda value: 0 <= value < 2**63, "a whole number from 0 to 2**63 - 1"),
    "epochs": (_WHOLE, lambda value: 1 <= value <= 10**6, "a whole number from 1 to 1000000"),
    "patience": (_WHOLE, lambda value: value >= 1, "a whole number of at least 1"),
    "batch_size": (_WHOLE, lambda value: value >= 2, "a whole number of at least 2"),
    "initial": _one_of(INITIALS),
    "gradient": _one_of(GRADIENTS),
    "clip": (_NUMBER, lambda value: 0 <= value < math.inf, "a number not below 0 (0: no clipping)"),
    "clip_global": (_NUMBER, lambda value: 0 <= value < math.inf, "a number not below 0 (0: no clipping)"),
    "schedule": _one_of(tuple(SCHEDULES)),
    "decay": (_NUMBER, lambda value: 0 < value <= 1, "a number in (0, 1]"),
    "step_factor": (_NUMBER, lambda value: 0 < value <= 1, "a number in (0, 1]"),
    "step_epochs": (_WHOLE, lambda value: value >= 1, "a whole number of at least 1"),
    "exp_rate": (_NUMBER, lambda value: 0 <= value < math.inf, "a number not below 0"),
    "lr_min": (_NUMBER, lambda value: 0 <= value < math.inf, "a number not below 0"),
}


def check_setting(name: str, value: object) -> None:
    """Raise InputError unless value is allowed for the setting called name."""
    types, allowed, expected = _RULES[name]
    if isinstance(value, bool) or not isinstance(value, types) or not allowed(value):
        raise InputError(f"{name} is {value!r}: it must be {expected}")


@dataclass(frozen=True)
class Hyperparameters:
    """The settings of a group's trials that a training step reads: arrays of shape (T,), one entry a trial."""

    reg: np.ndarray
    dropout: np.ndarray
    seed: np.ndarray
    sums: np.ndarray  # True: the gradient is summed over the batch, as in the published code; False: averaged
    clip: np.ndarray  # infinity: no clipping
    clip_global: np.ndarray

    @classmethod
    def of(cls, trials: Sequence[Settings]) -> Hyperparameters:
        """The trials' settings as arrays, in the trials' order."""
        return cls(
            reg=np.array([trial.reg for trial in trials], np.float64),
            dropout=np.array([trial.dropout for trial in trials], np.float64),
            seed=np.array([trial.seed for trial in trials], np.uint64),
            sums=np.array([trial.gradient == "sum" for trial in trials]),
            clip=np.array([trial.clip or math.inf for trial in trials], np.float64),
            clip_global=np.array([trial.clip_global or math.inf for trial in trials], np.float64),
        )

    def take(self, part: slice) -> Hyperparameters:
        """Those of the trials in part."""
        return Hyperparameters(**{field.name: getattr(self, field.name)[part] for field in fields(self)})
