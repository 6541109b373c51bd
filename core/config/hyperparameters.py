"""The hyperparameters of a group: arrays (T,)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from core.config.settings import COLUMNS, Settings

if TYPE_CHECKING:
    from core.random import Array

_READ_BY_UPDATE = [column.array or name for name, column in COLUMNS.items() if column.update]


class Hyperparameters:
    """The settings of a group's trials that a training step reads: an array (T,) for each that has a column.

    An array is called as its setting. Others are:

    sums          True: the gradient is summed over the batch, as in the published code; False: averaged
    augmentation  (T, K): a column for each of AUGMENTATIONS

    dropout is at most MOST_DROPOUT; clip and clip_global are infinity where nothing is clipped.
    """

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        vars(self).update(arrays)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Array: ...

    @classmethod
    def of(cls, trials: Sequence[Settings]) -> Hyperparameters:
        """The trials' settings as arrays, in the trials' order."""
        arrays: dict[str, list[np.ndarray]] = {}
        for name, column in COLUMNS.items():
            values = [getattr(trial, name) for trial in trials]
            entries = map(column.entry, values) if column.entry else values
            arrays.setdefault(column.array or name, []).append(np.array([*entries], column.dtype))
        return cls(
            {name: np.stack(columns, axis=1) if len(columns) > 1 else columns[0] for name, columns in arrays.items()}
        )

    def take(self, part: slice) -> Hyperparameters:
        """Those of the trials in part."""
        return Hyperparameters({name: values[part] for name, values in vars(self).items()})

    def replace(self, **arrays: Array) -> Hyperparameters:
        """The same with other arrays of these names."""
        return Hyperparameters({**vars(self), **arrays})

    def with_update_on_device(self, xp: ModuleType) -> Hyperparameters:
        """The same, with the arrays that an update reads made by xp."""
        return self.replace(**{name: xp.asarray(getattr(self, name)) for name in _READ_BY_UPDATE})
