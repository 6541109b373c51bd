"""The operations as launches of the kernels: the reference's in float32. Other types and rare shapes go there.

Activations lie as (T, N, H, W, C), C rounded up to a multiple of 8 and the padding zero; callers see views
(T, N, C, H, W). What an operation saves is its gradient's function, and what that needs. A Device runs the kernels: a
GPU, or, to check them, a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np

from core.backends.gpu import convolution, first_block, later_block, tiles, update
from core.backends.gpu import head as linear
from core.backends.gpu.device import BlockGradient, Device, channels_first, channels_last, contiguous, for_each
from core.backends.gpu.memory import step_memory
from core.backends.gpu.recorded_step import RecordedStep
from core.backends.reference import backend, fused, plain
from core.config.architecture import EPSILON, PAD, POOL, Architecture
from core.config.hyperparameters import Hyperparameters
from core.network.parameters import Model
from core.ops import Ops
from core.random import Array
from core.training import optimisers
from core.training.augment import augment_by, shifted
from core.training.step import Step, make_step


def make_ops(on: Device, precision: str = "float32", **fields: Any) -> Ops:
    """The reference with the operations that have kernels of their own, for arrays of that device.

    precision  "float32", or "tf32": the 3x3 convolutions' operands, but for the first layer's, are rounded to 10 bits
    fields     of Ops, as the device has them
    """
    conv, block, head = _Convolution(on), _Block(on, tensor=precision == "tf32"), _Head(on)
    training = _Training(on)
    return replace(
        backend.OPS,
        name="gpu",
        precision=precision,
        conv2d=conv.conv2d,
        conv2d_grad=conv.conv2d_grad,
        block=block.block,
        block_grad=block.block_grad,
        block_inference=block.block_inference,
        head=head.head,
        head_grad=head.head_grad,
        head_inference=head.head_inference,
        augment=training.augment,
        update=training.update,
        make_step=training.make_step,
        map_trials=all_at_once,
        step_memory=step_memory,
        process_resource="GPUs",
        processes_share_device=False,
        **fields,
    )


def all_at_once(function: Callable[[slice], Any], trials: int) -> list[Any]:
    """function(all trials): a GPU is filled by them together."""
    return [function(slice(0, trials))]


def _of_type(*arrays: Array) -> bool:
    return all(values.dtype == np.float32 for values in arrays)


class _Convolution:
    """A convolution by itself."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def conv2d(self, x: Array, w: Array, b: Array, *, stride: int = 1, pad: int = PAD) -> tuple[Array, Any]:
        fits = stride == 1 and w.shape[-1] in (1, 3) and pad < w.shape[-1] and _of_type(x, w)
        shape = tiles.Convolution.of(x.shape[1:], w.shape[1], w.shape[-1], pad)
        cuts = tiles.cuts(shape) if fits else None
        if cuts is None:
            y, saved = plain.conv2d(x, w, b, stride=stride, pad=pad)
            return y, (plain.conv2d_grad, saved)
        pixels = channels_last(self._device, x)
        bias = self._device.xp.zeros((len(w), shape.filters), np.float32)
        bias[:, : w.shape[1]] = b
        z, _ = convolution.convolve(self._device, cuts.forward, pixels, w, bias)
        return channels_first(z, w.shape[1]), (self._conv2d_grad, (cuts, pixels, w))

    def conv2d_grad(self, dy: Array, saved: Any, *, need_dx: bool = True) -> tuple[Array | None, Array, Array]:
        gradient, kept = saved
        results: tuple[Array | None, Array, Array] = gradient(dy, kept, need_dx=need_dx)
        return results

    def _conv2d_grad(self, dy: Array, saved: Any, *, need_dx: bool) -> tuple[Array | None, Array, Array]:
        cuts, pixels, w = saved
        return convolution.plain_gradient(self._device, cuts, dy, pixels, w, need_dx=need_dx)


class _Block:
    """The block: the one that reads images, and the later ones. tensor: these on tensor cores, where they fit."""

    def __init__(self, device: Device, *, tensor: bool) -> None:
        self._device, self._tensor = device, tensor

    def block(
        self,
        x: Array,
        w: Array,
        b: Array,
        gamma: Array,
        beta: Array,
        shortcut: Array | None = None,
        *,
        pad: int = PAD,
        pool: int = POOL,
        eps: float = EPSILON,
    ) -> tuple[Array, Array, Array, Any]:
        if pictures := self._pictures(x, w, shortcut, pad, pool):
            *results, kept = first_block.block(self._device, pictures, x, w, (b, gamma, beta), eps)
            return *results, (self._first_block_grad, (kept, (x, w, b, gamma, beta), pad, pool, eps))
        if cuts := self._cuts(x, w, pad, pool):
            *results, kept = later_block.block(self._device, cuts, x, w, (b, gamma, beta), shortcut, pool, eps)
            return *results, (self._later_block_grad, kept)
        *results, kept = fused.block(x, w, b, gamma, beta, shortcut, pad=pad, pool=pool, eps=eps)
        return *results, (fused.block_grad, kept)

    def block_grad(
        self, dy: Array, saved: Any, *, need_dx: bool = True
    ) -> tuple[Array | None, Array, Array, Array, Array, Array | None]:
        gradient, kept = saved
        results: BlockGradient = gradient(dy, kept, need_dx=need_dx)
        return results

    def block_inference(
        self,
        x: Array,
        w: Array,
        b: Array,
        gamma: Array,
        beta: Array,
        mean: Array,
        variance: Array,
        shortcut: Array | None = None,
        *,
        pad: int = PAD,
        pool: int = POOL,
        eps: float = EPSILON,
    ) -> Array:
        device, cuts = self._device, self._cuts(x, w, pad, pool)
        if cuts is None:
            return fused.block_inference(x, w, b, gamma, beta, mean, variance, shortcut, pad=pad, pool=pool, eps=eps)
        table = later_block.running_table(device, (b, gamma, beta, mean, variance), eps)
        if pictures := self._pictures(x, w, shortcut, pad, pool):
            y, _ = first_block.forward(device, pictures, contiguous(device, x), w, table)
        else:
            z, _ = convolution.convolve(device, cuts.forward, channels_last(device, x), w)
            y, _ = later_block.normalise(device, z, shortcut, table, pool)
        return channels_first(y, w.shape[1])

    def _first_block_grad(self, dy: Array, saved: Any, *, need_dx: bool) -> BlockGradient:
        kept, inputs, pad, pool, eps = saved
        if need_dx:  # pictures have no use for it: the textbook's way
            *_, again = fused.block(*inputs, pad=pad, pool=pool, eps=eps)
            return fused.block_grad(dy, again)
        return first_block.gradient(self._device, dy, kept)

    def _later_block_grad(self, dy: Array, saved: Any, *, need_dx: bool) -> BlockGradient:
        return later_block.block_gradient(self._device, dy, saved, need_dx=need_dx)

    def _cuts(self, x: Array, w: Array, pad: int, pool: int) -> tiles.Cuts | None:
        """How a block's convolution is cut, if the kernels can do it."""
        if not _of_type(x, w) or w.shape[-1] != 3 or pad > 2:
            return None
        shape = tiles.Convolution.of(x.shape[1:], w.shape[1], 3, pad)
        enough = shape.images * shape.rows * shape.columns > 1 and pool <= 3 and min(shape.rows, shape.columns) >= pool
        if not enough:
            return None
        return (tiles.cuts(shape, tensor=True) if self._tensor else None) or tiles.cuts(shape)

    def _pictures(self, x: Array, w: Array, shortcut: Array | None, pad: int, pool: int) -> tiles.Pictures | None:
        """The shape of a block that reads images as they come."""
        few = x.shape[2] <= tiles.FEW_CHANNELS and shortcut is None and self._cuts(x, w, pad, pool) is not None
        return tiles.pictures(x.shape, w.shape[1], pad, pool) if few else None


class _Head:
    """The head."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def head(
        self, x: Array, w: Array, b: Array, labels: Array, rate: Array, seed: np.ndarray, step: int
    ) -> tuple[Array, Array, Any]:
        if not _of_type(x, w) or w.shape[2] > linear.MOST_CLASSES:
            seeds, number = map(self._device.to_host, (seed, step))  # a recorded step has them on the device
            loss, correct, saved = fused.head(x, w, b, labels, rate, seeds, int(number.reshape(-1)[0]))
            return loss, correct, (fused.head_grad, saved)
        types = ((rate, np.float32), (seed, np.uint64), (step, np.uint32))
        draws = tuple(contiguous(self._device, values, dtype) for values, dtype in types)
        loss, correct, saved = linear.forward(self._device, x, w, b, labels, draws)
        return loss, correct, (self._head_grad, saved)

    def head_grad(self, dloss: Array, saved: Any) -> tuple[Array, Array, Array]:
        gradient, kept = saved
        results: tuple[Array, Array, Array] = gradient(dloss, kept)
        return results

    def head_inference(self, x: Array, w: Array, b: Array) -> Array:
        if not _of_type(x, w):
            return fused.head_inference(x, w, b)
        return linear.logits(self._device, x, w, b)[0]

    def _head_grad(self, dloss: Array, saved: Any) -> tuple[Array, Array, Array]:
        return linear.gradient(self._device, dloss, saved)


class _Training:
    """What a training step has besides: augmentation, the update, and the step as a whole."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def augment(self, x: Array, strength: np.ndarray, seed: int, step: int) -> Array:
        return augment_by(x, strength, seed, step, shift=shifted, uniform=self._uniform)

    def update(
        self,
        model: Model,
        gradients: Model,
        state: Model,
        trials: Hyperparameters,
        lr: Array,
        step: int,
        *,
        optimiser: str,
    ) -> Array:
        if not _of_type(*gradients.values()):
            return optimisers.update(model, gradients, state, trials, lr, step, optimiser=optimiser)
        device = self._device
        settings, rates = update.settings_on(device, trials), contiguous(device, lr, np.float64)
        number = contiguous(device, step, np.uint32)
        return update.update(device, model, gradients, state, settings, rates, number, optimiser)

    def make_step(
        self,
        ops: Ops,
        architecture: Architecture,
        trials: Hyperparameters,
        *,
        optimiser: str = "sgd",
        data_seed: int = 0,
        dtype: type = np.float32,
    ) -> Step:
        if dtype is not np.float32:
            return make_step(ops, architecture, trials, optimiser=optimiser, data_seed=data_seed, dtype=dtype)
        return RecordedStep(self._device, ops, architecture, trials, optimiser, data_seed)

    def _uniform(self, seed: Array, purpose: int, step: int, count: int) -> Array:
        """As core.random.uniform."""
        numbers, seeds = self._device.empty((len(seed), count)), contiguous(self._device, seed, np.uint64)
        number = np.uint32(purpose), np.uint32(step)
        for_each(self._device, "uniform", ceil(count / 4), len(seed), seeds, numbers, *number, count)
        return numbers
