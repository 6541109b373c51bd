"""How many threads compute, and the trials of a group on them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from core.errors import InputError
from core.machine.hardware import available_cores

_count = available_cores()


def use(asked_for: int | str | None) -> None:
    """Compute on so many threads; None: on all cores that this process may use.

    To be called before a backend is loaded, which may start threads of its own. The linear algebra library keeps to
    it too. Raises InputError unless it is a whole number from 1 to the cores there are.
    """
    global _count
    cores = available_cores()
    try:
        number = cores if asked_for is None else int(asked_for)
    except ValueError:
        number = 0
    if not 1 <= number <= cores:
        raise InputError(
            f"threads is {asked_for}: it must be a whole number from 1 to {cores}, the cores this process may use"
        )
    _count = number
    _blas().limit(limits=number, user_api="blas")


def count() -> int:
    """The threads to compute on: as many as were asked for, else all cores that this process may use."""
    return _count


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def map_trials(function: Callable[[slice], Any], trials: int) -> list[Any]:
    """function(slice of the trial axis) for slices that together cover it, one trial each, on count() threads.

    Trials never meet, so cutting their axis changes no result, and a single trial's arrays stay in cache. The linear
    algebra library gets one thread: more are slow on a convolution's long thin products, and could change rounding.
    """

    def quietly(part: slice) -> Any:
        with np.errstate(all="ignore"):  # a trial that overflows is found at the epoch's end, by its loss
            return function(part)

    with _blas().limit(limits=1):
        return list(_pool(count()).map(quietly, [slice(t, t + 1) for t in range(trials)]))
