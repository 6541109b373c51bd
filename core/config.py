"""What a trial is: Settings for one; for a group its Architecture, shared, and its Hyperparameters, arrays (T,)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from core.errors import InputError
from core.schedules import SCHEDULES

KERNEL, PAD, POOL = 3, 2, 2  # convolution width, its zero padding, pooling window and stride (report 3.1 and 8.1)
EPSILON = 1e-5  # added to the variance by batch normalisation
MOMENTUM = 0.9  # running = MOMENTUM * running + (1 - MOMENTUM) * batch
MOST_DROPOUT = 1 - 2.0**-24  # the largest float32 below 1: of a rate nearer to 1, 1 - rate would be 0 in float32
RESIDUAL_PAD = 1  # of a residual block's convolutions: its input is added, so its size must not change
INITIALS = ("he", "xavier", "normal")
GRADIENTS = ("mean", "sum")
OPTIMISERS = ("sgd", "adam", "adamw")
AUGMENTATIONS = ("flip", "crop", "rotate", "brightness", "contrast", "saturation", "noise", "cutout")


@dataclass(frozen=True)
class Layer:
    """One convolution and what follows it: conv -> batch norm (-> add the shortcut) -> ReLU (-> max pool).

    number    from 1: the layer's arrays are w1, b1, gamma1, ...
    channels  (C) it reads
    filters   (F) it makes
    pad       zero padding on each side
    pool      window and stride of the pooling; 1: none
    block     of the network that it belongs to, from 1
    source    channels of its block's input
    shortcut  what it adds before its ReLU: "" nothing, "identity" its block's input, "projection" that after a 1x1
              convolution with the array p<number>
    ends_block  whether it is the last one of its block
    """

    number: int
    channels: int
    filters: int
    pad: int
    pool: int
    block: int
    source: int
    shortcut: str = ""
    ends_block: bool = True


@dataclass(frozen=True)
class Architecture:
    """The shapes that all trials of a group share.

    input_shape  (C, H, W) of an image
    filters      output channels of each block
    classes      outputs of the linear layer
    pool         whether each block ends with max pooling; (): as in the report, wherever there is something to pool
    residual     a block is not one padded convolution, as in the report, but two of unchanged size, and its input is
                 added before the last ReLU (He et al. 2016, equations 1 and 2)
    global_pool  the linear layer reads each channel's mean over the image (Lin et al. 2014), not every pixel

    Raises InputError if a block is left without a pixel, or pool does not fit filters.
    """

    input_shape: tuple[int, int, int]
    filters: tuple[int, ...]
    classes: int
    pool: tuple[bool, ...] = ()
    residual: bool = False
    global_pool: bool = False

    def __post_init__(self) -> None:
        if self.pool and len(self.pool) != len(self.filters):
            raise InputError(f"pool speaks of {len(self.pool)} blocks, but there are {len(self.filters)}")
        for block, (_, height, width) in zip((0, *(layer.block for layer in self.layers)), self.shapes, strict=True):
            if min(height, width) < 1:
                raise InputError(
                    f"images of {self.input_shape[1]}x{self.input_shape[2]} pixels leave none after block {block} of "
                    f"{len(self.filters)}: use fewer blocks, less pooling or larger images"
                )

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The convolutions in their order."""
        layers: list[Layer] = []
        source, *size = self.input_shape
        pad = RESIDUAL_PAD if self.residual else PAD
        for block, filters in enumerate(self.filters, start=1):
            channels, shortcut = source, ""
            if self.residual:
                layers.append(Layer(len(layers) + 1, source, filters, pad, 1, block, source, ends_block=False))
                channels, shortcut = filters, "identity" if source == filters else "projection"
            size = [length + 2 * pad - KERNEL + 1 for length in size]
            pools = self.pool[block - 1] if self.pool else min(size) >= POOL
            pool = POOL if pools else 1
            layers.append(Layer(len(layers) + 1, channels, filters, pad, pool, block, source, shortcut))
            size = [length // pool for length in size]
            source = filters
        return tuple(layers)

    @cached_property
    def conv_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(C, H, W) of each layer before its pooling."""
        shapes = []
        _, height, width = self.input_shape
        for layer in self.layers:
            height, width = (size + 2 * layer.pad - KERNEL + 1 for size in (height, width))
            shapes.append((layer.filters, height, width))
            height, width = height // layer.pool, width // layer.pool
        return tuple(shapes)

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """(C, H, W) of the input and after each layer."""
        after = zip(self.layers, self.conv_shapes, strict=True)
        return [
            self.input_shape,
            *((c, height // layer.pool, width // layer.pool) for layer, (c, height, width) in after),
        ]

    @property
    def features(self) -> int:
        """Inputs of the linear layer."""
        return self.filters[-1] if self.global_pool else math.prod(self.shapes[-1])


def parse_filters(text: str) -> tuple[int, ...]:
    """ "32x64" -> (32, 64): the output channels of each block."""
    if not re.fullmatch(r"[1-9][0-9]{0,4}(x[1-9][0-9]{0,4})*", text):
        raise InputError(f'filters is "{text}": write the output channels of each block, like "32x64"')
    return tuple(int(part) for part in text.split("x"))


def parse_pool(text: str) -> tuple[bool, ...]:
    """ "yes/no" -> (True, False): whether each block pools; "auto" -> (): wherever it can."""
    if text == "auto":
        return ()
    parts = text.split("/")
    if not set(parts) <= {"yes", "no"}:
        raise InputError(f'pool is "{text}": write "auto", or yes or no for each block, like "yes/no"')
    return tuple(part == "yes" for part in parts)


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
    "schedule": tuple(SCHEDULES),
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
    "schedule": _one_of(tuple(SCHEDULES)),
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


@dataclass(frozen=True)
class Hyperparameters:
    """The settings of a group's trials that a training step reads: arrays of shape (T,), one entry a trial."""

    reg: np.ndarray
    dropout: np.ndarray  # at most MOST_DROPOUT
    seed: np.ndarray
    sums: np.ndarray  # True: the gradient is summed over the batch, as in the published code; False: averaged
    clip: np.ndarray  # infinity: no clipping
    clip_global: np.ndarray
    momentum: np.ndarray
    nesterov: np.ndarray
    beta1: np.ndarray
    beta2: np.ndarray
    adam_eps: np.ndarray
    augmentation: np.ndarray  # (T, 8): a column for each of AUGMENTATIONS

    @classmethod
    def of(cls, trials: Sequence[Settings]) -> Hyperparameters:
        """The trials' settings as arrays, in the trials' order."""

        def numbers(name: str) -> np.ndarray:
            return np.array([getattr(trial, name) for trial in trials], np.float64)

        return cls(
            reg=numbers("reg"),
            dropout=np.minimum(numbers("dropout"), MOST_DROPOUT),
            seed=np.array([trial.seed for trial in trials], np.uint64),
            sums=np.array([trial.gradient == "sum" for trial in trials]),
            clip=np.array([trial.clip or math.inf for trial in trials], np.float64),
            clip_global=np.array([trial.clip_global or math.inf for trial in trials], np.float64),
            momentum=numbers("momentum"),
            nesterov=np.array([trial.nesterov for trial in trials]),
            beta1=numbers("beta1"),
            beta2=numbers("beta2"),
            adam_eps=numbers("adam_eps"),
            augmentation=np.stack([numbers(name) for name in AUGMENTATIONS], axis=1),
        )

    def take(self, part: slice) -> Hyperparameters:
        """Those of the trials in part."""
        return Hyperparameters(**{field.name: getattr(self, field.name)[part] for field in fields(self)})
