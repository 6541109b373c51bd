"""The backends by name."""

from __future__ import annotations

import sys
from importlib import import_module

from core.backends.gpu.choose_device import choose_device as choose_gpu
from core.errors import InputError, reason
from core.ops import Ops

BACKENDS = ("auto", "reference", "cpu", "gpu")
PRECISIONS = ("float32", "tf32")


def load(name: str = "auto", precision: str = "float32") -> Ops:
    """The backend called name. "auto" is the fastest that has been proven on the hardware present.

    precision  "tf32": a GPU of compute capability 8.0 or newer rounds what it multiplies in 3x3 convolutions to 10 bits

    That is "cpu", since the GPU backend has not run on a GPU yet. Where Numba cannot be imported (it is often the last
    to support a new Python), "auto" is "reference", and a note on stderr says so.
    Raises InputError for an unknown name or precision, "cpu" without Numba, "gpu" without a usable GPU, or "tf32"
    elsewhere.
    """
    if precision not in PRECISIONS:
        raise InputError(f'precision is "{precision}": it must be one of {", ".join(PRECISIONS)}')
    if precision != "float32" and name != "gpu":
        raise InputError(f'precision is "{precision}", but the backend is "{name}": only "gpu" has it')
    if name not in BACKENDS:
        raise InputError(f'backend is "{name}": it must be one of {", ".join(BACKENDS)}')
    try:
        backend = import_module(f"{__package__}.{'cpu' if name == 'auto' else name}.backend")
        ops: Ops = backend.OPS if precision == "float32" else backend.with_precision(precision)
    except ImportError as error:
        if (error.name or "").startswith(__package__.partition(".")[0]):
            raise  # our own mistake
        if name != "auto":
            why = reason(error)
            raise InputError(f'backend is "{name}", but it cannot be loaded ({why}): use reference') from error
        print(f"the fast backend cannot be loaded ({reason(error)}): using reference, which is slow", file=sys.stderr)
        ops = import_module(f"{__package__}.reference.backend").OPS
    return ops


def choose_device(name: str, number: int) -> None:
    """Let this process, one of those that train side by side, compute on a device of its own.

    name    of the backend, which must not be loaded yet
    number  of the process, from 0; below the backend's max_processes
    """
    if name == "gpu":
        choose_gpu(number)
