"""Means of accuracies, exact: those of equally many right answers are equal, in whatever order, of whatever seeds.

An accuracy is a count divided by a number of images, rounded. The sum of two of them depends on how each was rounded,
which may decide between settings that are equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache

_MOST_IMAGES = 10**7  # two different fractions of smaller denominators are further apart than any rounding


@lru_cache(2**16)
def share(accuracy: float) -> Fraction:
    """The count divided by the number of images that this is, rounded."""
    return Fraction(accuracy).limit_denominator(_MOST_IMAGES)


def mean(accuracies: Iterable[float]) -> float:
    """The mean of the counts, rounded once; of equal accuracies, themselves; nan if one is not finite."""
    values = list(accuracies)
    if len(set(values)) == 1:
        return values[0]
    return float(sum(map(share, values)) / len(values)) if all(map(math.isfinite, values)) else math.nan
