"""The labels of a user's file -> classes: which number stands for which, and what each is called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.errors import InputError

MOST_CLASSES = 10_000
_SHOWN = 3  # labels that are listed before the last one


@dataclass(frozen=True)
class Classes:
    """What a file's labels stand for.

    names   (L,) of the classes
    labels  (L,) the file's label of each class, ascending
    note    which label is which class, where that is not the label itself; "" else
    """

    names: tuple[str, ...]
    labels: np.ndarray
    note: str = ""

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """The file's labels (N,) as classes (N,) int64, from 0."""
        return np.searchsorted(self.labels, labels).astype(np.int64)


def classes_of(path: Path, labels: Sequence[np.ndarray], names: np.ndarray | None) -> Classes:
    """The classes of a file's labels, training and test labels each (N,) of at least 0.

    names  of the classes, as the file has them: the name of label i is names[i]; where labels begin with 1 and the
           last is len(names), names[i - 1]; where as many labels occur as there are names, theirs in ascending order.
           Without names, each label that occurs is a class, and is its name.

    Raises InputError if there are fewer than 2 classes, two are called alike, or the names do not fit the labels.
    """
    there = np.unique(np.concatenate(labels))
    if len(there) < 2:
        raise InputError(f"{path}: the labels make {len(there)} classes; there must be 2 to {MOST_CLASSES}")
    if names is None:
        called = tuple(map(str, there.tolist()))
        return Classes(called, there, _note(there, f"0 to {len(there) - 1}, each named after its label"))
    if names.ndim != 1 or names.dtype.kind != "U" or not len(there) <= len(names) <= MOST_CLASSES:
        kind = f"it is {names.dtype} {names.shape}"
        raise InputError(f"{path}: classes must be at least {len(there)} names as text; {kind}")
    if repeated := [name for name, number in Counter(names.tolist()).items() if number > 1]:
        raise InputError(f'{path}: two classes are called "{repeated[0]}": each must have a name of its own')
    called, count = tuple(map(str, names)), len(names)
    known = _labels_of_names(there, count)
    if known is None:
        raise InputError(
            f"{path}: classes has {count} names for the labels {_listed(there)}: give one for each of these "
            f"{len(there)} labels, or for every number from 0 to {there[-1]}"
        )
    return Classes(called, known, _note(known, f"{called[0]} to {called[-1]}, in the order of classes"))


def _labels_of_names(there: np.ndarray, count: int) -> np.ndarray | None:
    """The label (L,) that each of so many names is for; None where that cannot be told."""
    if there[-1] < count:
        return np.arange(count)
    if there[0] > 0 and there[-1] == count:
        return np.arange(1, count + 1)
    return there if len(there) == count else None


def _note(labels: np.ndarray, are: str) -> str:
    return "" if labels[-1] == len(labels) - 1 else f"labels {_listed(labels)} are classes {are}"


def _listed(labels: np.ndarray) -> str:
    """Like "1 to 10", or "0, 7, 14, ..., 63"."""
    first, last = labels[0], labels[-1]
    if last - first == len(labels) - 1:
        return f"{first} to {last}"
    shown = [str(label) for label in labels[:_SHOWN]] + ["..."] * (len(labels) > _SHOWN + 1)
    return ", ".join([*shown, str(last)] if len(labels) > _SHOWN else shown)
