"""Checks of what an experiment file says: each raises InputError with the place, the value and what would be right."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from core.config.settings import CHOICES, Settings, check_setting
from core.errors import InputError, reason
from sweep.experiment.synonyms import nearest

Value = str | int | float  # a bool is an int

SETTINGS = tuple(field.name for field in fields(Settings) if field.name != "seed")


def typed(where: str, value: Any, kind: type, expected: str) -> Any:
    """The value, if it is None or of this type."""
    if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
        raise InputError(f"{where} is {value!r}: it must be {expected}")
    return value


def whole(where: str, value: Any, low: int, high: int) -> int:
    """The value, if it is a whole number from low to high."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{where} is {value!r}: it must be a whole number from {low} to {high}")
    return value


def number(where: str, value: Any) -> float:
    """The value as a float, if it is a finite number."""
    try:
        result = float("nan" if isinstance(value, bool | str) else value)
    except (TypeError, OverflowError):
        result = math.nan
    if not math.isfinite(result):
        raise InputError(f"{where} is {value!r}: it must be a number")
    return result


def check_keys(where: str, table: Mapping[str, Any], allowed: Iterable[str]) -> None:
    """Refuse a table that has other keys than these."""
    for key in table:
        if key not in allowed:
            place = f"{where}.{key}" if where else key
            raise InputError(f"{place} is not a key{nearest(key, allowed)}; there are: {', '.join(allowed)}")


def setting(where: str, key: str, value: Any) -> Value:
    """The value checked, and made float if it is a whole number for a setting that is one."""
    try:
        check_setting(key, value)
        return float(value) if is_float(key) else value
    except (InputError, OverflowError) as error:
        hint = nearest(value, CHOICES.get(key, ())) if isinstance(value, str) else ""
        raise InputError(f"{where}: {reason(error)}{hint}") from None


def settings(where: str, table: Any) -> dict[str, Value]:
    """A table of settings, all checked."""
    return {key: setting(f"{where}.{key}", key, value) for key, value in known_settings(where, table).items()}


def known_settings(where: str, table: Any) -> dict[str, Any]:
    """A table whose keys are settings."""
    check_keys(where, typed(where, table, dict, "a table"), SETTINGS)
    return dict(table)


def is_float(key: str) -> bool:
    """Whether a setting takes any number in a range."""
    return isinstance(getattr(Settings, key), float)


def is_whole(key: str) -> bool:
    """Whether a setting takes whole numbers only."""
    return type(getattr(Settings, key)) is int
