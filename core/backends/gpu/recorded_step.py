"""The training step of a group (core.training.step): the batch is made, and all else done as it was recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from core.backends.gpu.device import BLOCK, Device, contiguous
from core.backends.gpu.update import settings_on, update
from core.config.architecture import Architecture
from core.config.hyperparameters import Hyperparameters
from core.config.settings import AUGMENTATIONS
from core.data.images import Images
from core.network import model as network
from core.network import parameters
from core.ops import Ops
from core.random import Array

_IN_GATHER = [AUGMENTATIONS.index(name) for name in ("flip", "crop")]  # done as the images are gathered


@dataclass(frozen=True)
class _Body:
    """What a step does with its batch. It knows nothing of recordings, so that none keeps itself alive.

    lr, step  the learning rates (T,) and the step's number, on the device
    totals      (3, T): what the step returns
    """

    device: Device
    ops: Ops
    architecture: Architecture
    trials: Hyperparameters
    settings: Array
    optimiser: str
    lr: Array
    step: Array
    totals: Array

    def run(self, model: parameters.Model, state: parameters.Model, x: Array, labels: Array) -> None:
        loss, correct, gradients, statistics = network.loss_and_gradients(
            self.ops, self.architecture, model, x, labels, self.trials, self.step
        )
        changes = gradients | statistics
        norm = update(self.device, model, changes, state, self.settings, self.lr, self.step, self.optimiser)
        count = len(self.lr)
        self.device.launch("totals", (count,), BLOCK, 8 * BLOCK, loss, correct, norm, self.totals, len(labels), count)


class RecordedStep:
    """A step of one group, as core.training.step has it. What a batch length needs is recorded when it first comes."""

    def __init__(
        self,
        device: Device,
        ops: Ops,
        architecture: Architecture,
        trials: Hyperparameters,
        optimiser: str,
        data_seed: int,
    ) -> None:
        xp, strength, count = device.xp, trials.augmentation, len(trials.seed)
        on_device = trials.replace(
            seed=xp.asarray(trials.seed, np.uint64),
            dropout=xp.asarray(trials.dropout, np.float32),
            sums=xp.asarray(trials.sums),
        )
        self._device, self._ops, self._seed = device, ops, data_seed
        self._body = _Body(
            *(device, ops, architecture, on_device, settings_on(device, trials), optimiser),
            *(xp.empty(count, np.float64), xp.empty(1, np.uint32), xp.empty((3, count), np.float64)),
        )
        self._strength = strength[:1] if (strength == strength[0]).all() else strength  # equal images: made once
        self._in_gather = not np.delete(strength, _IN_GATHER, axis=1).any()
        flip, crop = (self._strength[:, i] for i in _IN_GATHER)
        self._flip, self._crop = contiguous(device, flip, np.float64), contiguous(device, crop, np.int32)
        self._batches: dict[int, tuple[Array, Array]] = {}
        self._recorded: dict[int, Callable[[], None]] = {}
        self._owner: tuple[parameters.Model, parameters.Model] | None = None

    def __call__(
        self, model: parameters.Model, state: parameters.Model, images: Images, indices: Array, lr: Array, step: int
    ) -> Array:
        """See core.training.step.make_step."""
        if self._owner is None or self._owner[0] is not model or self._owner[1] is not state:
            self._owner, self._recorded = (model, state), {}  # what is recorded knows their arrays
        size = len(indices)
        self._gather(images, indices, lr, step)
        if size not in self._recorded:
            self._recorded[size] = self._device.record(partial(self._body.run, model, state, *self._batches[size]))
        self._recorded[size]()
        return self._body.totals

    def _gather(self, images: Images, indices: Array, lr: Array, step: int) -> None:
        """Put the batch, the learning rates and the step's number where the recorded work reads them."""
        device, size, shape = self._device, len(indices), images.pixels.shape[1:]
        body = self._body
        if size not in self._batches:
            x = device.xp.empty((len(self._strength), size, *shape), np.float32)
            self._batches[size] = x, device.xp.empty(size, np.int64)
        x, labels = self._batches[size]
        rates, order = contiguous(device, lr, np.float64), contiguous(device, indices, np.int64)
        device.launch(
            "set_step", (1,), BLOCK, 0,
            images.labels, order, labels, size, rates, body.lr, len(body.lr), np.uint32(step), body.step,
        )  # fmt: skip
        if self._in_gather:
            device.launch(
                "gather_bytes" if images.pixels.dtype == np.uint8 else "gather_floats", (size, len(x)), BLOCK, 0,
                images.pixels, order, float(images.scale), x, self._crop, self._flip,
                np.uint64(self._seed), np.uint32(step), *shape,
            )  # fmt: skip
        else:
            batch, _ = images.batch(indices)
            x[...] = self._ops.augment(batch, self._strength, self._seed, step)
