"""One training step of a whole group, composed of the plain parts; the yardstick for every faster one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from core import model as network
from core import optim
from core.batches import Images
from core.config import Architecture, Hyperparameters
from core.random import Array

if TYPE_CHECKING:
    from core.ops import Ops

Step = Callable[[network.Model, Images, Array, np.ndarray, int], tuple[Array, Array, Array]]


def make_step(ops: Ops, architecture: Architecture, trials: Hyperparameters, dtype: type = np.float32) -> Step:
    """A step for these trials. It may own buffers; make a new one when trials leave the group.

    step(model, images, chosen, lr, number)
        model   changed in place
        chosen  (N,) indices of the batch's images
        lr      (T,) on the host
        number  of the step, from 0 through the whole training

    returns, for each trial (T,), on the device: the batch's summed cross entropy, the number of images classified
    rightly, and the 2-norm of the gradient (with L2, before clipping).
    """
    xp = ops.xp
    reg, clip, clip_global = (xp.asarray(v, dtype=dtype) for v in (trials.reg, trials.clip, trials.clip_global))
    clips_global = bool(np.isfinite(trials.clip_global).any())

    def step(model: network.Model, images: Images, chosen: Array, lr: np.ndarray, number: int) -> tuple[Array, ...]:
        x, labels = images.batch(chosen, dtype)
        lr = xp.asarray(lr, dtype=dtype)

        def train(part: slice) -> tuple[Array, Array, Array]:
            views = {name: values[part] for name, values in model.items()}
            loss, correct, gradients, statistics = network.loss_and_gradients(
                ops, architecture, views, x, labels, trials.take(part), number
            )
            network.track_statistics(views, statistics)
            optim.add_l2(views, gradients, reg[part])
            norm = xp.sqrt(sum(optim.squared_norms(ops, gradients).values()))
            optim.clip_by_tensor(ops, gradients, clip[part])
            if clips_global:
                optim.clip_by_global_norm(ops, gradients, clip_global[part])
            optim.sgd(views, gradients, lr[part])
            return loss.sum(axis=1), correct.sum(axis=1), norm

        parts = ops.map_trials(train, len(lr))
        return tuple(xp.concatenate(values) for values in zip(*parts, strict=True))

    return step
