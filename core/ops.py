"""The contract between the network and its backends: one operation, one field.

core/backends/reference says what each operation means, shape by shape, and fills every field; a fast backend replaces
fields, whole, and is held to the reference by the same tests. Signatures are the reference's: a test compares them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import numpy as np

Array = Any  # numpy.ndarray, or cupy.ndarray on a GPU: what xp makes
Saved = Any  # for the gradient of the same backend, and for nobody else to read
Result = TypeVar("Result")


class Conv2d(Protocol):
    """x (T or 1, N, C, H, W), w (T, F, C, K, K), b (T, F) -> y (T, N, F, OH, OW), saved."""

    def __call__(self, x: Array, w: Array, b: Array, *, stride: int = ..., pad: int = ...) -> tuple[Array, Saved]: ...


class Conv2dGrad(Protocol):
    """dy -> dx (None unless needed), dw, db."""

    def __call__(self, dy: Array, saved: Saved, *, need_dx: bool = ...) -> tuple[Array | None, Array, Array]: ...


class BatchNorm(Protocol):
    """x (T, N, C, H, W), gamma and beta (T, C) -> y, the batch's mean and variance (T, C), saved."""

    def __call__(
        self, x: Array, gamma: Array, beta: Array, *, eps: float = ...
    ) -> tuple[Array, Array, Array, Saved]: ...


class BatchNormInference(Protocol):
    """x (T, N, C, H, W), gamma, beta, running mean and variance (T, C) -> y."""

    def __call__(
        self, x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, *, eps: float = ...
    ) -> Array: ...


class MaxPool(Protocol):
    """x (T, N, C, H, W) -> y (T, N, C, H // size, W // size), saved."""

    def __call__(self, x: Array, *, size: int = ...) -> tuple[Array, Saved]: ...


class Block(Protocol):
    """conv2d -> batch_norm (-> + shortcut) -> relu -> max_pool: y (T, N, F, PH, PW), mean, variance (T, F), saved."""

    def __call__(
        self,
        x: Array,
        w: Array,
        b: Array,
        gamma: Array,
        beta: Array,
        shortcut: Array | None = ...,
        *,
        pad: int = ...,
        pool: int = ...,
        eps: float = ...,
    ) -> tuple[Array, Array, Array, Saved]: ...


class BlockGrad(Protocol):
    """dy -> dx (None unless needed), dw, db, dgamma, dbeta, dshortcut (None without one; (T, ...) even if shared)."""

    def __call__(
        self, dy: Array, saved: Saved, *, need_dx: bool = ...
    ) -> tuple[Array | None, Array, Array, Array, Array, Array | None]: ...


class BlockInference(Protocol):
    """block with the running mean and variance (T, F): y alone."""

    def __call__(
        self,
        x: Array,
        w: Array,
        b: Array,
        gamma: Array,
        beta: Array,
        mean: Array,
        variance: Array,
        shortcut: Array | None = ...,
        *,
        pad: int = ...,
        pool: int = ...,
        eps: float = ...,
    ) -> Array: ...


class MapTrials(Protocol):
    """function(slice of the trial axis) for slices that together cover it; their results in that order."""

    def __call__(self, function: Callable[[slice], Result], trials: int) -> list[Result]: ...


Elementwise = Callable[[Array], tuple[Array, Saved]]  # x -> y, saved
Gradient = Callable[[Array, Saved], Array]  # dy, saved -> dx
Gradients = Callable[[Array, Saved], tuple[Array, Array, Array]]  # dy, saved -> dx and those of two parameters


@dataclass(frozen=True)
class Ops:
    """A backend.

    What holds for every operation, in every backend:
    Arrays are float32, made by xp, in logical shapes with the trial axis T first; their order in memory is the
    backend's business. An input that all trials share has T = 1 and broadcasts; its gradient is the sum over trials.
    Operations are pure, but for update, which changes in place what it says. A `_grad` takes what its operation saved,
    of the same backend; it may be asked more than once.
    A trial's results depend neither on T, on the other trials or its place among them, nor on the number of threads.
    NaN and infinities stay in their trial, and raise nothing. Shapes that mean nothing raise ValueError.
    Operations are called by one thread at a time, but for those inside map_trials.
    """

    name: str  # as --backend and the records have it; to decide by it is for core.backends alone
    device: str  # what computes, for the records
    xp: ModuleType  # numpy or cupy: makes and holds the arrays
    to_host: Callable[[Array], np.ndarray]  # a copy in the host's memory, or the array itself; waits for the device
    precision: str  # "float32", or "tf32": see core.backends.registry.load

    conv2d: Conv2d
    conv2d_grad: Conv2dGrad
    batch_norm: BatchNorm
    batch_norm_grad: Gradients
    batch_norm_inference: BatchNormInference
    relu: Elementwise
    relu_grad: Gradient
    max_pool: MaxPool
    max_pool_grad: Gradient
    mean_pool: Elementwise
    mean_pool_grad: Gradient
    dropout: Callable[[Array, Array, Array], tuple[Array, Saved]]  # x, u, rate -> y, saved
    dropout_grad: Gradient
    linear: Callable[[Array, Array, Array], tuple[Array, Saved]]  # x, w, b -> y, saved
    linear_grad: Gradients
    softmax_cross_entropy: Callable[[Array, Array], tuple[Array, Saved]]  # logits, labels -> loss (T, N), saved
    softmax_cross_entropy_grad: Gradient

    block: Block
    block_grad: BlockGrad
    block_inference: BlockInference
    head: Callable[..., tuple[Array, Array, Saved]]  # x, w, b, labels, rate, seed, step -> loss, correct (T, N), saved
    head_grad: Gradients
    head_inference: Callable[[Array, Array, Array], Array]  # x, w, b -> logits (T, N, L)

    augment: Callable[..., Array]  # of a batch's images, once a step: see core.training.augment
    update: Callable[..., Array]  # of parameters and optimiser's state, in place: see core.training.optimisers

    # A group of trials: the training loop asks for its step, and evaluation cuts its trials.
    map_trials: MapTrials  # one slice where the backend wants all trials at once, else one a trial, on all threads
    make_step: Callable[..., Callable[..., Array]]  # the whole training step: see core.training.step

    # Memory: asked before a group trains, to cut it into parts that fit, and for the plan.
    step_memory: Callable[..., int]  # architecture, trials, batch_size -> bytes at the peak of a training step
    free_memory: Callable[[], int]  # bytes that a group's arrays may still take

    # Processes that train side by side, a group each: asked when a sweep begins, and for the plan's times.
    device_count: int  # how many there are without being asked for: one for each device
    max_processes: Callable[[], int]  # the most that can be asked for
    process_resource: str  # what each of them needs one of, for messages: "threads" or "GPUs"
    processes_share_device: bool  # whether they divide one device's memory and speed; else each has its own
    measure_group_size: bool  # whether some of a group's trials can be faster than all: then a sweep measures it
