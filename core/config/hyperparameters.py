"""The hyperparameters of a group: arrays (T,)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from core.config.settings import AUGMENTATIONS, MOST_DROPOUT, Settings


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
