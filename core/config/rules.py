"""Which values a setting may have."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    """What a value must be.

    types     it has one of these
    allows    whether one of these types is allowed; may raise InputError itself
    expected  what it must be, for a sentence
    choices   all there are, of text that has few
    """

    types: tuple[type, ...]
    allows: Callable[[Any], bool]
    expected: str
    choices: tuple[str, ...] = ()

    def admits(self, value: object) -> bool:
        """Whether the value is allowed. A bool is no number, although Python has it so."""
        typed = isinstance(value, self.types) and isinstance(value, bool) == (bool in self.types)
        return typed and self.allows(value)


def number(allows: Callable[[float], bool], expected: str) -> Rule:
    """A whole number or another."""
    return Rule((int, float), allows, expected)


def whole(low: int, high: float = math.inf, expected: str = "") -> Rule:
    """A whole number from low to high."""
    return Rule((int,), lambda value: low <= value <= high, expected or f"a whole number from {low} to {high}")


def text(allows: Callable[[str], bool], expected: str) -> Rule:
    """Text of some form."""
    return Rule((str,), allows, expected)


def one_of(*choices: str) -> Rule:
    """One of these words."""
    return Rule((str,), lambda value: value in choices, "one of " + ", ".join(choices), choices)


YES_OR_NO = Rule((bool,), lambda value: True, "true or false")
POSITIVE = number(lambda value: 0 < value < math.inf, "a number above 0")
NOT_NEGATIVE = number(lambda value: 0 <= value < math.inf, "a number not below 0")
BELOW_ONE = number(lambda value: 0 <= value < 1, "a number in [0, 1)")
UP_TO_ONE = number(lambda value: 0 <= value <= 1, "a number in [0, 1]")
FACTOR = number(lambda value: 0 < value <= 1, "a number in (0, 1]")
AT_LEAST_ONE = number(lambda value: 1 <= value < math.inf, "a number of at least 1")
NORM = number(lambda value: 0 <= value < math.inf, "a number not below 0 (0: no clipping)")
PIXELS = whole(0, expected="a whole number of pixels, not below 0")
COUNT = whole(1, 10**9)
