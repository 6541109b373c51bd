"""The trials of a stage as pictures see them: what they searched, and on which axes that can be drawn."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from core.figures.style import short, thinned
from core.text import as_toml

FEW = 12  # a setting with at most so many values may have levels, else it is a range
ACCURACY = "best validation accuracy"
UNFINISHED = "did not finish"
DECADES = 100  # a range that spans more is drawn on a logarithmic axis
_LETTERS = 28  # below an axis: more are written aslant


@dataclass(frozen=True, eq=False)
class Trial:
    """A trial of a stage, as pictures need it.

    searched  its values of what the stage searched; of a conditional setting only where it has one: None is no value
    accuracy  the best on the validation data; None if no epoch was finite
    curve     validation accuracy by epoch, from 1
    fixed     its values were asked for, not drawn by a sampler
    finished  it was trained to its end, or to that of the budget, so it may win: it did not diverge, nor was it pruned
    """

    name: str
    searched: Mapping[str, Any]
    accuracy: float | None
    curve: Sequence[float]
    fixed: bool = False
    finished: bool = True

    def __post_init__(self) -> None:
        known = {key: value for key, value in self.searched.items() if value is not None}
        object.__setattr__(self, "searched", known)

    @property
    def height(self) -> float:
        """Its accuracy as a number to draw."""
        return math.nan if self.accuracy is None else self.accuracy


def winner(trials: Sequence[Trial]) -> Trial | None:
    """That of these ranked trials, as the ranking has it: the first, if it finished."""
    return trials[0] if trials and trials[0].finished and trials[0].accuracy is not None else None


def named(best: Trial) -> str:
    """The winner, in a legend."""
    return f"the best: {short(best.name)}"


def having(trials: Sequence[Trial], *keys: str) -> list[Trial]:
    """The trials that have values of all these settings."""
    return [trial for trial in trials if all(key in trial.searched for key in keys)]


def levels(trials: Sequence[Trial]) -> dict[str, list[Any]]:
    """What was searched, and the values that occur, numbers in their order; settings that never differ are left out."""
    found: dict[str, list[Any]] = {}
    for key in dict.fromkeys(key for trial in trials for key in trial.searched):
        values = list(dict.fromkeys(trial.searched[key] for trial in having(trials, key)))
        if len(values) > 1:
            found[key] = sorted(values, key=_order)
    return found


def _order(value: Any) -> tuple[Any, ...]:
    """Numbers by size, then texts by the numbers in them: 8x8 comes before 16x32."""
    if is_number(value):
        return (0, value)
    return (1, [int(number) for number in re.findall(r"\d+", str(value))], str(value))


def is_number(value: Any) -> bool:
    """Whether the value lies on an axis of numbers."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def label_of(value: Any) -> str:
    """A value as it is written beside an axis."""
    return short(as_toml(value, ".4g"))


def has_levels(trials: Sequence[Trial], key: str) -> bool:
    """Whether the setting's values are few, and stand for more than a trial each if they are numbers."""
    values = [trial.searched[key] for trial in having(trials, key)]
    few = len(set(values))
    return few <= FEW and (few < len(values) or not all(map(is_number, values)))


@dataclass(frozen=True)
class Plane:
    """Two settings to draw accuracy over, the trials that have both, and perhaps a third that these all have."""

    trials: Sequence[Trial]
    first: str
    second: str
    third: str | None

    def title(self, title: str, every: Sequence[Trial]) -> str:
        """The figure's, which tells where only a part of the trials is drawn."""
        if len(self.trials) == len(every):
            return title
        best = winner(every)
        outside = "" if best is None or best in self.trials else f"; the best, {best.name}, is not among them"
        return f"{title}\n{len(self.trials)} of them have {self.first} and {self.second}{outside}"


def plane(trials: Sequence[Trial], keys: Sequence[str], thirds: Sequence[str], most: int) -> Plane | None:
    """Over which two of these settings to draw, None if no two of them differ among the trials that have both.

    First come those that the winner has, then those that most trials have, then numbers, then the first.

    thirds  settings, one of which may be told apart by colours or panels
    most    values that it may have
    """
    best = winner(trials)
    numbers_first = sorted(keys, key=lambda key: not all(is_number(t.searched[key]) for t in having(trials, key)))
    found: list[tuple[tuple[bool, int], list[Trial], tuple[str, str]]] = []
    for pair in combinations(numbers_first, 2):
        part = having(trials, *pair)
        if all(len({trial.searched[key] for trial in part}) > 1 for key in pair):
            found.append(((best in part, len(part)), part, pair))
    if not found:
        return None
    _, part, (first, second) = max(found, key=lambda candidate: candidate[0])
    known = levels(part)
    fit = (key for key in thirds if key not in (first, second) and len(known.get(key, ())) in range(2, most + 1))
    third = next((key for key in fit if len(having(part, key)) == len(part)), None)
    return Plane(part, first, second, third)


class Scale:
    """Where the values of a setting lie on an axis: at equal distances if it has levels or texts, else by size."""

    def __init__(self, key: str, trials: Sequence[Trial]) -> None:
        self.key, self.values = key, levels(trials)[key]
        self.stepped = has_levels(trials, key) or not all(map(is_number, self.values))
        self.logarithmic = not self.stepped and self.values[0] > 0 and self.values[-1] > DECADES * self.values[0]
        self._place = {value: place for place, value in enumerate(self.values)}

    def places(self, values: Sequence[Any]) -> np.ndarray:
        """Where on the axis these values are; the logarithm where the axis is logarithmic."""
        if self.stepped:
            return np.array([self._place[value] for value in values])
        numbers = np.array(values, float)
        return np.log10(numbers) if self.logarithmic else numbers

    def shares(self, values: Sequence[Any]) -> np.ndarray:
        """How far up the axis these values are, from 0 to 1."""
        low, high = self.places([self.values[0], self.values[-1]])
        return np.array((self.places(values) - low) / (high - low))

    def marks(self) -> list[tuple[float, str]]:
        """Shares of the axis and what to write there."""
        if self.stepped:
            shown = [self.values[place] for place in thinned(len(self.values), FEW)]
            texts = [label_of(value) for value in shown]
        else:
            shown = [self.values[0], self.values[len(self.values) // 2], self.values[-1]]
            texts = [f"{value:.3g}" for value in shown]
        return list(zip(self.shares(shown).tolist(), texts, strict=True))

    def label(self, axes: Any, side: str) -> None:
        """Name the axis, and mark the values on it."""
        if self.stepped:
            places = thinned(len(self.values), FEW)
            texts = [label_of(self.values[place]) for place in places]
            aslant = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
            crowded = side == "x" and axes.name != "3d" and sum(map(len, texts)) > _LETTERS
            getattr(axes, f"set_{side}ticks")(places, texts, **(aslant if crowded else {}))
        elif self.logarithmic:
            low, high = np.log10([self.values[0], self.values[-1]])
            ticks = np.arange(np.ceil(low), np.floor(high) + 1)
            getattr(axes, f"set_{side}ticks")(ticks, [f"{10**tick:g}" for tick in ticks])
        getattr(axes, f"set_{side}label")(self.key)
