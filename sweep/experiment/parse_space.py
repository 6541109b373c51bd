"""The space of an experiment file, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.errors import InputError
from sweep.experiment.checks import Value, check_keys, is_float, is_whole, known_settings, number, setting, typed
from sweep.experiment.sampler import SAMPLERS
from sweep.experiment.space import MOST_TRIALS, Condition, Range, Space, Values, exact
from sweep.experiment.synonyms import nearest

_DIMENSION = ("low", "high", "log", "step", "choices", "when")


def parse_space(where: str, table: Any, sampler: str) -> Space:
    """Read a stage's space. Raises InputError naming the key."""
    dimensions: dict[str, Values] = {}
    conditions: dict[str, Condition] = {}
    for key, value in known_settings(where, table).items():
        if isinstance(value, dict) and "when" in value:
            conditions[key] = _condition(f"{where}.{key}.when", value["when"], dimensions)
        dimensions[key] = _dimension(f"{where}.{key}", key, value, sampler)
    if not dimensions:
        raise InputError(f"{where} is missing: name the settings to search, like lr = [0.01, 0.1]")
    if SAMPLERS[sampler].ranges_only:
        _check_ranges(where, sampler, dimensions, conditions)
    return Space(dimensions, conditions)


def _check_ranges(
    where: str, sampler: str, dimensions: Mapping[str, Values], conditions: Mapping[str, Condition]
) -> None:
    unfit = [key for key, values in dimensions.items() if not isinstance(values, Range) or key in conditions]
    if unfit or len(dimensions) < 2:
        raise InputError(
            f"{where}: {sampler} searches two or more unconditional ranges"
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
    if not fits or step <= 0 or (exact(high) - exact(low)) % exact(step):
        raise InputError(f"{where} is {step!r}: it must be {kind} that divides high - low")


def _choices(where: str, key: str, values: list[Any]) -> tuple[Value, ...]:
    if not values:
        raise InputError(f"{where} is an empty list: give at least one value")
    choices = tuple(setting(where, key, choice) for choice in values)
    if len(set(choices)) < len(choices):
        raise InputError(f"{where} names a value twice: {values}")
    return choices
