"""The contract between the network and its backends: one operation, one field.

reference.py says what each operation means and fills every field; a fast backend replaces fields,
whole, and is held to the reference by the same tests. Logical shapes start with the trial axis T
(see reference.py for each operation's shapes); the order in memory is the backend's business.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

from core.errors import InputError, reason

Operation = Callable[..., Any]
BACKENDS = ("auto", "reference", "cpu", "gpu")
PRECISIONS = ("float32", "tf32")


@dataclass(frozen=True)
class Ops:
    """A backend. Signatures are those of core.ops.reference; a test compares them."""

    name: str
    device: str  # what computes, for the records
    xp: ModuleType  # numpy or cupy: makes and holds the arrays
    to_host: Operation  # array -> numpy.ndarray
    devices: int  # that groups can train on at the same time, each from a process of its own
    precision: str  # "float32", or "tf32": see load
    concurrency: int | None  # most trials that compute at the same time, a thread each; None: all of a group

    conv2d: Operation
    conv2d_grad: Operation
    batch_norm: Operation
    batch_norm_grad: Operation
    batch_norm_inference: Operation
    relu: Operation
    relu_grad: Operation
    max_pool: Operation
    max_pool_grad: Operation
    mean_pool: Operation
    mean_pool_grad: Operation
    dropout: Operation
    dropout_grad: Operation
    linear: Operation
    linear_grad: Operation
    softmax_cross_entropy: Operation
    softmax_cross_entropy_grad: Operation

    block: Operation
    block_grad: Operation
    block_inference: Operation
    head: Operation
    head_grad: Operation
    head_inference: Operation

    augment: Operation  # see core.augment
    update: Operation  # see core.optim

    free_memory: Operation  # () -> bytes that a group's arrays may still take
    map_trials: Operation  # cuts the trial axis for the parts below; one slice where the backend wants all at once
    make_step: Operation  # the whole training step, for a backend that fuses across blocks: see core.step


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
        backend = import_module(f".{'cpu' if name == 'auto' else name}", __package__)
        ops: Ops = backend.OPS if precision == "float32" else backend.with_precision(precision)
    except ImportError as error:
        if (error.name or "").startswith(__package__.partition(".")[0]):
            raise  # our own mistake
        if name != "auto":
            why = reason(error)
            raise InputError(f'backend is "{name}", but it cannot be loaded ({why}): use reference') from error
        print(f"the fast backend cannot be loaded ({reason(error)}): using reference, which is slow", file=sys.stderr)
        ops = import_module(".reference", __package__).OPS
    return ops
