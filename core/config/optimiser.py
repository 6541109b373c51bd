"""How gradients move the parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass

from core.config.rules import BELOW_ONE, YES_OR_NO, number, one_of
from core.config.setting import Column, setting

OPTIMISERS = ("sgd", "adam", "adamw")

_SGD, _ADAM = {"optimiser": ("sgd",)}, {"optimiser": ("adam", "adamw")}


@dataclass(frozen=True)
class OptimiserSettings:
    """How gradients move the parameters. See core.config.settings."""

    optimiser: str = setting(
        "sgd",
        one_of(*OPTIMISERS),
        "`sgd`, `adam` or `adamw`",
        by_group=True,
        synonyms="optimizer optim opt solver updater",
    )
    momentum: float = setting(
        0.0, BELOW_ONE, "of SGD", column=Column(update=True), only=_SGD, synonyms="momentum_factor sgd_momentum mu"
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
        column=Column(update=True),
        only=_ADAM,
        synonyms="beta_1 b1 adam_beta1 betas",
    )
    beta2: float = setting(
        0.999,
        BELOW_ONE,
        "of Adam and AdamW: decay of its square's mean",
        column=Column(update=True),
        only=_ADAM,
        synonyms="beta_2 b2 adam_beta2 betas",
    )
    adam_eps: float = setting(
        1e-8,
        number(lambda value: 1e-12 <= value < math.inf, "a number of at least 1e-12"),
        "of Adam and AdamW: added to the root of that mean",
        column=Column(update=True),
        only=_ADAM,
        synonyms="eps epsilon adam_epsilon",
    )
