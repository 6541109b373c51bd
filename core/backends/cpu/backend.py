"""The fast operations for a CPU: the reference's by Numba's kernels. float64 and rare shapes go to the reference.

What an operation saves is its gradient's function and what that needs. Kernels use all threads: one call at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numba
import numpy as np

from core.backends.cpu.block import block, block_grad, block_inference
from core.backends.cpu.convolution import conv2d, conv2d_grad
from core.backends.cpu.head import head, head_grad, head_inference
from core.backends.cpu.kernels.compiled import crop_flip, philox, update
from core.backends.cpu.kernels.jit import THREADS
from core.backends.cpu.memory import step_memory
from core.backends.reference import backend
from core.machine import threads
from core.random import Array
from core.training.augment import augment_by

numba.set_num_threads(min(threads.count(), THREADS))


def all_at_once(function: Callable[[slice], Any], trials: int) -> list[Any]:
    """function(all trials): the kernels themselves use the cores there are."""
    with np.errstate(all="ignore"):  # a trial that overflows is found at the epoch's end, by its loss
        return [function(slice(0, trials))]


def augment(x: Array, strength: np.ndarray, seed: int, step: int) -> Array:
    """core.training.augment.augment."""
    return augment_by(x, strength, seed, step, shift=crop_flip.shifted, uniform=philox.uniform)


OPS = replace(
    backend.OPS,
    name="cpu",
    conv2d=conv2d,
    conv2d_grad=conv2d_grad,
    block=block,
    block_grad=block_grad,
    block_inference=block_inference,
    head=head,
    head_grad=head_grad,
    head_inference=head_inference,
    augment=augment,
    update=update.update,
    map_trials=all_at_once,
    step_memory=step_memory,
    measure_group_size=True,
)
