"""What a stage searches over: choices and ranges, some of them only under a condition."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from sweep.experiment.checks import Value

MOST_TRIALS = 100_000  # of a stage


@dataclass(frozen=True)
class Range:
    """Numbers from low up to high.

    log   drawn evenly on a logarithmic scale
    step  0: any number, high itself left out; else low, low + step, ... up to and with high, as decimals have them
    """

    low: float
    high: float
    log: bool = False
    step: float = 0

    def __str__(self) -> str:
        scale = ", log" if self.log else ""
        steps = f", step {self.step:g}" if self.step and (self.step != 1 or isinstance(self.step, float)) else ""
        return f"{self.low:g} to {self.high:g}{scale}{steps}"

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest number in it."""
        return self.low, self.high if self.step else math.nextafter(self.high, self.low)

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if self.step:
            return self.low <= value <= self.high and (exact(value) - exact(self.low)) % exact(self.step) == 0
        return self.low <= value < self.high

    @property
    def count(self) -> int:
        """How many numbers there are in a range with a step."""
        return int((exact(self.high) - exact(self.low)) / exact(self.step)) + 1

    def nearest(self, value: float) -> float:
        """Of low, low + step, ..., also beyond high, the number nearest to value: 0.3, not 0.1 + 2 * 0.1."""
        return self.at(round((exact(value) - exact(self.low)) / exact(self.step)))

    def at(self, place: int) -> float:
        """low + place * step, rounded once."""
        return type(self.low)(exact(self.low) + place * exact(self.step))


def exact(value: float) -> Fraction:
    """The number as it is written."""
    return Fraction(str(value))


Values = tuple[Value, ...] | Range
Condition = Mapping[str, tuple[Value, ...]]


@dataclass(frozen=True)
class Space:
    """The settings that a stage searches over.

    dimensions  for each setting its choices, or a range
    conditions  for some of them, which values other settings (further up) must have for it to be searched at all;
                where they do not, the setting keeps its default
    """

    dimensions: dict[str, Values]
    conditions: dict[str, Condition] = field(default_factory=dict)

    def active(self, chosen: Mapping[str, Any]) -> Iterator[tuple[str, Values]]:
        """The dimensions to choose from, in order; chosen is filled by the caller as it goes."""
        for key, values in self.dimensions.items():
            if self._met(key, chosen):
                yield key, values

    def combinations(self) -> Iterator[dict[str, Value]]:
        """Every combination of choices, each once; a range stands with its two ends."""

        def extended(keys: Sequence[str], chosen: dict[str, Value]) -> Iterator[dict[str, Value]]:
            if not keys:
                yield chosen
            elif not self._met(keys[0], chosen):
                yield from extended(keys[1:], chosen)
            else:
                for value in _ends(self.dimensions[keys[0]]):
                    yield from extended(keys[1:], chosen | {keys[0]: value})

        return extended(list(self.dimensions), {})

    def corners(self) -> Iterator[dict[str, Value]]:
        """Combinations in which every choice, and both ends of every range, come up: as many as there may be checked.

        First each value with the others at their first, then all combinations, up to a thousand.
        """
        for varied, values in self.dimensions.items():
            for value in _ends(values):
                point: dict[str, Value] = {}
                for key, others in self.active(point):
                    point[key] = value if key == varied else _ends(others)[0]
                yield point
        yield from itertools.islice(self.combinations(), 1000)

    def tops(self) -> Iterator[dict[str, Value]]:
        """Combinations in which every choice comes up, as many as there may be looked at, each range at its end."""
        tops: dict[str, Values] = {key: v.ends[1:] if isinstance(v, Range) else v for key, v in self.dimensions.items()}
        return Space(tops, self.conditions).corners()

    def _met(self, key: str, chosen: Mapping[str, Any]) -> bool:
        return all(chosen.get(parent) in allowed for parent, allowed in self.conditions.get(key, {}).items())

    def contains(self, point: Mapping[str, Any]) -> bool:
        """Whether the point sets exactly the settings that are active with it, each to a value it may have."""
        active = dict(self.active(point))
        return active.keys() == point.keys() and all(point[key] in values for key, values in active.items())

    def without(self, keys: Mapping[str, Any]) -> Space:
        """The space in which these settings have these values."""
        dimensions: dict[str, Values] = {}
        conditions: dict[str, Condition] = {}
        for key, values in self.dimensions.items():
            when = self.conditions.get(key, {})
            met = all(keys[parent] in allowed for parent, allowed in when.items() if parent in keys)
            if key not in keys and met:
                dimensions[key] = values
                if rest := {parent: allowed for parent, allowed in when.items() if parent not in keys}:
                    conditions[key] = rest
        return Space(dimensions, conditions)


def _ends(values: Values) -> tuple[Value, ...]:
    return values.ends if isinstance(values, Range) else values
