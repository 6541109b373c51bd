"""What a trial is: its settings, each declared here, once, with all that is known of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from core.config.architecture import parse_filters, parse_pool
from core.config.rules import (
    AT_LEAST_ONE,
    BELOW_ONE,
    COUNT,
    FACTOR,
    NORM,
    NOT_NEGATIVE,
    PIXELS,
    POSITIVE,
    UP_TO_ONE,
    YES_OR_NO,
    number,
    one_of,
    text,
    whole,
)
from core.config.setting import Column, Setting, setting
from core.errors import InputError

MOST_DROPOUT = 1 - 2.0**-24  # the largest float32 below 1: of a rate nearer to 1, 1 - rate would be 0 in float32
INITIALS = ("he", "xavier", "normal")
SCHEDULES = ("constant", "geometric", "step", "exponential", "cosine", "one-cycle")
OPTIMISERS = ("sgd", "adam", "adamw")

_UPDATE, _AUGMENTATION = Column(update=True), Column(array="augmentation")
_CLIP = Column(entry=lambda value: value or math.inf, update=True)
_GEOMETRIC, _STEP, _EXPONENTIAL = ({"schedule": (name,)} for name in ("geometric", "step", "exponential"))
_COSINE, _ONE_CYCLE = ({"schedule": (name,)} for name in ("cosine", "one-cycle"))
_SGD, _ADAM = {"optimiser": ("sgd",)}, {"optimiser": ("adam", "adamw")}


@dataclass(frozen=True)
class Settings:
    """Everything that decides one trial's result, besides the data. Raises InputError on a value out of range."""

    filters: str = setting(
        "32x32",
        text(lambda value: bool(parse_filters(value)), 'text like "32x64"'),
        "output channels of each conv block",
        by_group=True,
        synonyms="channels out_channels n_filters num_filters conv_filters widths hidden_layer_sizes hidden_sizes"
        " layers architecture units",
    )
    lr: float = setting(
        0.01,
        POSITIVE,
        "learning rate of the first epoch",
        synonyms="learning_rate learning_rate_init init_lr initial_lr base_lr max_lr eta eta0 step_length",
    )
    reg: float = setting(
        0.005,
        number(lambda value: 0 <= value <= 1e12, "a number from 0 to 1e12"),  # its square is a float32
        "L2: the loss has reg/2 times the sum of squares of conv and linear weights",
        column=_UPDATE,
        synonyms="weight_decay wd l2 l2_reg l2_penalty alpha lambda regularization regularisation kernel_regularizer",
    )
    dropout: float = setting(
        0.5,
        BELOW_ONE,
        "share of features dropped before the linear layer, in [0, 1); 1 - 2^-24 at most",
        column=Column(entry=lambda value: min(value, MOST_DROPOUT)),
        synonyms="dropout_rate drop_rate drop p_dropout dropout_p dropout_prob",
    )
    seed: int = setting(
        0,
        whole(0, 2**63 - 1, "a whole number from 0 to 2**63 - 1"),
        "of its initial weights and its dropout",
        column=Column(np.uint64),
        synonyms="random_state random_seed",
    )
    epochs: int = setting(
        20,
        whole(1, 10**6),
        "at most so many",
        synonyms="n_epochs num_epochs max_epochs epochs_max nb_epoch n_epoch epoch max_iter num_train_epochs n_iter",
    )
    patience: int = setting(
        5,
        COUNT,
        "stop when validation accuracy was not above its best for so many epochs",
        synonyms="early_stopping early_stopping_patience early_stop early_stopping_rounds n_iter_no_change",
    )
    batch_size: int = setting(
        128,
        whole(2, 10**9),
        "images a step",
        by_group=True,
        synonyms="batch bs minibatch minibatch_size mini_batch mini_batch_size train_batch_size batchsize"
        " per_device_train_batch_size",
    )
    initial: str = setting(
        "he",
        one_of(*INITIALS),
        "initial weights: `he`, `xavier` or `normal` (standard deviation 0.01)",
        synonyms="init initializer initialiser initialization initialisation kernel_initializer weight_init",
    )
    gradient: str = setting(
        "mean",
        one_of("mean", "sum"),
        'over the batch; `"sum"` as in the report\'s published code',
        column=Column(bool, lambda value: value == "sum", array="sums"),
        synonyms="reduction loss_reduction",
    )
    clip: float = setting(
        5.0,
        NORM,
        "largest 2-norm of each weight and batch-norm gradient; 0: no clipping",
        column=_CLIP,
        synonyms="clipnorm clip_norm clipping",
    )
    clip_global: float = setting(
        0.0,
        NORM,
        "largest 2-norm of all gradients together; 0: no clipping",
        column=_CLIP,
        synonyms="global_clipnorm max_grad_norm max_norm grad_clip clip_grad_norm gradient_clip gradient_clip_val",
    )
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
    optimiser: str = setting(
        "sgd",
        one_of(*OPTIMISERS),
        "`sgd`, `adam` or `adamw`",
        by_group=True,
        synonyms="optimizer optim opt solver updater",
    )
    momentum: float = setting(
        0.0, BELOW_ONE, "of SGD", column=_UPDATE, only=_SGD, synonyms="momentum_factor sgd_momentum mu"
    )
    nesterov: bool = setting(
        False,
        YES_OR_NO,
        "of SGD: the step looks ahead along the velocity",
        column=Column(bool, update=True),
        only=_SGD,
        synonyms="use_nesterov nesterovs_momentum nesterov_momentum",
    )
    beta1: float = setting(
        0.9,
        BELOW_ONE,
        "of Adam and AdamW: decay of the gradient's mean",
        column=_UPDATE,
        only=_ADAM,
        synonyms="beta_1 b1 adam_beta1 betas",
    )
    beta2: float = setting(
        0.999,
        BELOW_ONE,
        "of Adam and AdamW: decay of its square's mean",
        column=_UPDATE,
        only=_ADAM,
        synonyms="beta_2 b2 adam_beta2 betas",
    )
    adam_eps: float = setting(
        1e-8,
        number(lambda value: 1e-12 <= value < math.inf, "a number of at least 1e-12"),
        "of Adam and AdamW: added to the root of that mean",
        column=_UPDATE,
        only=_ADAM,
        synonyms="eps epsilon adam_epsilon",
    )
    pool: str = setting(
        "auto",
        text(lambda value: parse_pool(value) is not None, 'text like "yes/no", or "auto"'),
        'whether each block ends with max pooling, such as `"yes/no/yes"`; `auto`: where the size allows',
        by_group=True,
        synonyms="pooling max_pool maxpool maxpooling",
    )
    residual: bool = setting(
        False,
        YES_OR_NO,
        "a block is two 3x3 convolutions, and its input is added before the last ReLU",
        by_group=True,
        synonyms="skip skip_connections resnet shortcut shortcuts",
    )
    global_pool: bool = setting(
        False,
        YES_OR_NO,
        "the linear layer reads each channel's mean over the image",
        by_group=True,
        synonyms="gap global_avg_pool global_average_pooling avg_pool global_pooling",
    )
    flip: float = setting(
        0.0,
        number(lambda value: 0 <= value <= 1, "a probability in [0, 1]"),
        "probability that a training image is mirrored left-right",
        column=_AUGMENTATION,
        synonyms="horizontal_flip hflip random_flip random_horizontal_flip mirror fliplr",
    )
    crop: int = setting(
        0,
        PIXELS,
        "pixels by which it may be shifted in each direction, zeros coming in",
        column=_AUGMENTATION,
        synonyms="random_crop shift translate padding pad width_shift_range height_shift_range",
    )
    rotate: float = setting(
        0.0,
        number(lambda value: 0 <= value <= 180, "a number of degrees in [0, 180]"),
        "degrees by which it may be turned either way",
        column=_AUGMENTATION,
        synonyms="rotation rotation_range random_rotation degrees",
    )
    brightness: float = setting(
        0.0,
        UP_TO_ONE,
        "pixels are multiplied by a factor from 1 - brightness to 1 + brightness",
        column=_AUGMENTATION,
        synonyms="brightness_range color_jitter colour_jitter",
    )
    contrast: float = setting(
        0.0, UP_TO_ONE, "so is the distance from the image's mean grey", column=_AUGMENTATION, synonyms="contrast_range"
    )
    saturation: float = setting(
        0.0,
        UP_TO_ONE,
        "so is each pixel's distance from its own grey",
        column=_AUGMENTATION,
        synonyms="saturation_range",
    )
    noise: float = setting(
        0.0,
        number(lambda value: 0 <= value <= 1e6, "a number from 0 to 1e6"),
        "standard deviation of normal noise, where pixels go from 0 to 1",
        column=_AUGMENTATION,
        synonyms="gaussian_noise noise_std stddev sigma",
    )
    cutout: int = setting(
        0,
        PIXELS,
        "side in pixels of a square set to zero",
        column=_AUGMENTATION,
        synonyms="random_erasing erasing coarse_dropout",
    )

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not _DEFAULTS[name]:
                check_setting(name, value)

    def effective(self) -> dict[str, Any]:
        """The settings that the result depends on, by which a stored trial is known.

        Without those of a schedule or an optimiser that is not used, and without later ones at their defaults.
        """
        idle = self.idle()
        left_out = idle.keys() | {name for name in _LATER if getattr(self, name) == _DEFAULTS[name]}
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def idle(self) -> dict[str, str]:
        """The settings that do nothing beside the others, and which one's value is why: {"momentum": "optimiser"}."""
        return {
            name: other
            for name, needed in _ONLY.items()
            for other, values in needed.items()
            if getattr(self, other) not in values
        }


DECLARED: dict[str, Setting] = {field.name: field.metadata["setting"] for field in fields(Settings)}
COLUMNS = {name: declared.column for name, declared in DECLARED.items() if declared.column}
AUGMENTATIONS = tuple(name for name, column in COLUMNS.items() if column is _AUGMENTATION)
BY_GROUP = tuple(name for name, declared in DECLARED.items() if declared.by_group)
_DEFAULTS = {field.name: field.default for field in fields(Settings)}
_RULES = {name: declared.rule for name, declared in DECLARED.items()}
_ONLY = {name: declared.only for name, declared in DECLARED.items() if declared.only}
_LATER = frozenset(name for name, declared in DECLARED.items() if declared.later)
CHOICES = {name: rule.choices for name, rule in _RULES.items() if rule.choices}


def check_setting(name: str, value: object) -> None:
    """Raise InputError unless value is allowed for the setting called name."""
    rule = _RULES[name]
    if not rule.admits(value):
        raise InputError(f"{name} is {value!r}: it must be {rule.expected}")
