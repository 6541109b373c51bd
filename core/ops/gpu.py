"""The reference operations on CuPy arrays: the only file that knows CuPy. Not yet run on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from core.errors import InputError
from core.ops import reference

try:
    import cupy
except ImportError as error:
    raise InputError(f'backend is "gpu", but CuPy cannot be imported ({error}): `make setup` installs it') from error


def _require_device() -> None:
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise InputError(f'backend is "gpu", but no GPU answers ({error}): use --backend reference') from error
    if count == 0:
        raise InputError('backend is "gpu", but there is no GPU: use --backend reference')


_require_device()


def map_trials(function: Callable[[slice], Any], trials: int) -> list[Any]:
    """function(all trials): a GPU is filled by them together."""
    return [function(slice(0, trials))]


OPS = replace(
    reference.OPS,
    name="gpu",
    device=cupy.cuda.runtime.getDeviceProperties(0)["name"].decode(),
    xp=cupy,
    to_host=cupy.asnumpy,
    concurrency=None,
    map_trials=map_trials,
)
