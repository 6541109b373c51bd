"""How kernels become machine code: once for this machine's processor and these sources, then from a folder on disk.

Every kernel states its signature, so that importing its file compiles it or finds it compiled. All of that happens
under compiling() of cache.py, which lets one process at a time into the folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

# How often a thread of GNU's OpenMP looks for new work before it sleeps. The default, a few milliseconds' worth, makes
# everything many times slower as soon as another program wants the cores; not at all, and small kernels wait to wake.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")

import numba
from numba.core import config
from numba.core.registry import cpu_target

from core.backends.cpu.kernels import cache

# Sums may be taken in another order and products added without rounding between; NaN and infinities keep their meaning.
_FASTMATH = {"contract", "nsz", "reassoc", "arcp"}


def _has(feature: str) -> bool:
    """Whether the processor that Numba compiles for has this feature."""
    *_, features = cpu_target.target_context.codegen().magic_tuple()
    return f"+{feature}" in features.split(",")


# Numbers in a vector register, and rows of a matrix product held in registers at a time (beside two vectors a row):
# 16 registers are too few for eight rows.
LANES = 16 if _has("avx512f") else 8 if _has("avx") else 4
THREADS: int = config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]  # at most; core.machine.threads may ask for fewer
ROWS = 8 if _has("avx512f") or _has("neon") else 6


def kernel(signature: str, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function for arguments of exactly these types."""

    def compiled(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(nogil=True, error_model="numpy", fastmath=_FASTMATH, **options)(function)
        cache.kept(dispatcher, signature)
        return dispatcher

    return compiled


def parallel(signature: str) -> Callable[[Callable[..., Any]], Any]:
    """The same, with its loops over prange shared out among the threads."""
    return kernel(signature, parallel=True)
