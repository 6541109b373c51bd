"""The trials of a group on the cores of a CPU."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from core.project import available_cores


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(available_cores())


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def map_trials(function: Callable[[slice], Any], trials: int) -> list[Any]:
    """function(slice of the trial axis) for slices that together cover it, one trial each, on the cores there are.

    Trials never meet, so cutting their axis changes no result, and a single trial's arrays stay in cache. The linear
    algebra library gets one thread: more are slow on a convolution's long thin products, and could change rounding.
    """

    def quietly(part: slice) -> Any:
        with np.errstate(all="ignore"):  # a trial that overflows is found at the epoch's end, by its loss
            return function(part)

    with _blas().limit(limits=1):
        return list(_threads().map(quietly, [slice(t, t + 1) for t in range(trials)]))
