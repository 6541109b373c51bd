"""What a stage searches over: choices and ranges, some of them only under a condition."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from core.errors import InputError
from sweep.parsing import Value, check_keys, is_float, is_whole, known_settings, number, setting, typed
from sweep.synonyms import nearest

MOST_TRIALS = 100_000  # of a stage
_DIMENSION = ("low", "high", "log", "step", "choices", "when")


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
            return self.low <= value <= self.high and (_exact(value) - _exact(self.low)) % _exact(self.step) == 0
        return self.low <= value < self.high

    @property
    def count(self) -> int:
        """How many numbers there are in a range with a step."""
        return int((_exact(self.high) - _exact(self.low)) / _exact(self.step)) + 1

    def nearest(self, value: float) -> float:
        """Of low, low + step, ..., also beyond high, the number nearest to value: 0.3, not 0.1 + 2 * 0.1."""
        return self.at(round((_exact(value) - _exact(self.low)) / _exact(self.step)))

    def at(self, place: int) -> float:
        """low + place * step, rounded once."""
        return type(self.low)(_exact(self.low) + place * _exact(self.step))


def _exact(value: float) -> Fraction:
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


def parse(where: str, table: Any, sampler: str) -> Space:
    """Read a stage's space. Raises InputError naming the key."""
    dimensions: dict[str, Values] = {}
    conditions: dict[str, Condition] = {}
    for key, value in known_settings(where, table).items():
        if isinstance(value, dict) and "when" in value:
            conditions[key] = _condition(f"{where}.{key}.when", value["when"], dimensions)
        dimensions[key] = _dimension(f"{where}.{key}", key, value, sampler)
    if not dimensions:
        raise InputError(f"{where} is missing: name the settings to search, like lr = [0.01, 0.1]")
    if sampler == "cmaes":
        _check_cmaes(where, dimensions, conditions)
    return Space(dimensions, conditions)


def _check_cmaes(where: str, dimensions: Mapping[str, Values], conditions: Mapping[str, Condition]) -> None:
    unfit = [key for key, values in dimensions.items() if not isinstance(values, Range) or key in conditions]
    if unfit or len(dimensions) < 2:
        raise InputError(
            f"{where}: cmaes searches two or more unconditional ranges"
            + (f", which {', '.join(unfit)} is not: use tpe" if unfit else "; this is one: use tpe")
        )


def _condition(where: str, table: Any, dimensions: Mapping[str, Values]) -> Condition:
    typed(where, table, dict, 'a table like { optimiser = "adam" }')
    if not table:
        raise InputError(f'{where} is empty: name a setting and its value, like {{ optimiser = "adam" }}')
    condition: dict[str, tuple[Value, ...]] = {}
    for parent, allowed in table.items():
        if parent not in dimensions:
            raise InputError(f"{where} names {parent}, which is not searched further up{nearest(parent, dimensions)}")
        choices = dimensions[parent]
        if isinstance(choices, Range):
            raise InputError(f"{where} names {parent}, which is a range: a condition needs a list of values")
        condition[parent] = tuple(allowed) if isinstance(allowed, list) else (allowed,)
        for value in condition[parent]:
            if value not in choices:
                raise InputError(f"{where}: {parent} = {value!r} never comes up; its values are {list(choices)}")
    return condition


def _dimension(where: str, key: str, value: Any, sampler: str) -> Values:
    if isinstance(value, dict) and "choices" in value:
        check_keys(where, value, ("choices", "when"))
        value = value["choices"]
    if isinstance(value, list):
        return _choices(where, key, value)
    if not isinstance(value, dict):
        raise InputError(f"{where} is {value!r}: it must be a list of values or {{ low = ..., high = ... }}")
    check_keys(where, value, _DIMENSION)
    if sampler != "grid":
        return _range(where, key, value)
    if "step" not in value:
        raise InputError(f"{where} is a range, but a grid needs a list of values, or a range with a step")
    steps = _range(where, key, value)
    if steps.count > MOST_TRIALS:
        raise InputError(f"{where} has more than {MOST_TRIALS} values: a stage may have no more trials")
    return tuple(steps.at(place) for place in range(steps.count))


def _range(where: str, key: str, value: dict[str, Any]) -> Range:
    low, high = (number(f"{where}.{name}", value.get(name)) for name in ("low", "high"))
    log = bool(typed(f"{where}.log", value.get("log", False), bool, "true or false"))
    if not low < high:
        raise InputError(f"{where}: low is {low:g} and high is {high:g}; low must be below high")
    if log and low <= 0:
        raise InputError(f"{where}: low is {low:g}; a logarithmic range needs one above 0")
    if not (is_whole(key) or is_float(key)):
        raise InputError(f"{where} is a range, but {key} does not take numbers in between: give a list of values")
    step = value.get("step", 1 if is_whole(key) else 0)
    if is_float(key) and "step" in value:
        step = number(f"{where}.step", step)
    if is_whole(key):
        for edge in (low, high):
            setting(where, key, int(edge) if edge.is_integer() else edge)
        low, high = int(low), int(high)
    if is_whole(key) or "step" in value:
        _check_step(f"{where}.step", step, low, high, whole=is_whole(key))
    if log and (step > 1 if is_whole(key) else "step" in value):
        raise InputError(f"{where}: log and step cannot both be given")
    found = Range(low, high, log, step)
    for end in found.ends:
        setting(where, key, end)
    return found


def _check_step(where: str, step: Any, low: float, high: float, *, whole: bool) -> None:
    kind = "a whole number" if whole else "a number above 0"
    fits = isinstance(step, int) and not isinstance(step, bool) if whole else True
    if not fits or step <= 0 or (_exact(high) - _exact(low)) % _exact(step):
        raise InputError(f"{where} is {step!r}: it must be {kind} that divides high - low")


def _choices(where: str, key: str, values: list[Any]) -> tuple[Value, ...]:
    if not values:
        raise InputError(f"{where} is an empty list: give at least one value")
    choices = tuple(setting(where, key, choice) for choice in values)
    if len(set(choices)) < len(choices):
        raise InputError(f"{where} names a value twice: {values}")
    return choices
