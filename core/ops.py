"""The contract between the network and its backends: one operation, one field.

reference.py says what each operation means and fills every field; a fast backend replaces fields,
whole, and is held to the reference by the same tests. Logical shapes start with the trial axis T
(see reference.py for each operation's shapes); the order in memory is the backend's business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

Operation = Callable[..., Any]


@dataclass(frozen=True)
class Ops:
    """A backend. Signatures are those of core.backends.reference.plain; a test compares them."""

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

    augment: Operation  # see core.training.augment
    update: Operation  # see core.training.optimisers

    free_memory: Operation  # () -> bytes that a group's arrays may still take
    map_trials: Operation  # cuts the trial axis for the parts below; one slice where the backend wants all at once
    make_step: Operation  # the whole training step, for a backend that fuses across blocks: see core.training.step
