"""One training step of a whole group, composed of the plain parts; the yardstick for every faster one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from core.config.architecture import Architecture
from core.config.hyperparameters import Hyperparameters
from core.data.images import Images
from core.network import model as network
from core.network import parameters
from core.random import Array

if TYPE_CHECKING:
    from core.ops import Ops

Step = Callable[[parameters.Model, parameters.Model, Images, Array, Array, int], Array]


def make_step(
    ops: Ops,
    architecture: Architecture,
    trials: Hyperparameters,
    *,
    optimiser: str = "sgd",
    data_seed: int = 0,
    dtype: type = np.float32,
) -> Step:
    """A step for these trials. It may own buffers; make a new one when trials leave the group.

    data_seed  decides how images are augmented, as it does their order

    step(model, state, images, chosen, lr, number)
        model   changed in place
        state   of the optimiser (core.training.optimisers.initial_state), changed in place
        chosen  (N,) indices of the batch's images
        lr      (T,) on the device
        number  of the step, from 0 through the whole training

    returns (3, T) float64 on the device, valid until the next step: for each trial the batch's summed cross entropy,
    the number of images classified rightly, and the 2-norm of the gradient (with L2, but for AdamW; before clipping).
    """
    xp = ops.xp
    group = trials.on_device(xp)

    def step(
        model: parameters.Model, state: parameters.Model, images: Images, chosen: Array, lr: Array, number: int
    ) -> Array:
        batch, labels = images.batch(chosen, dtype)
        batch = ops.augment(batch, trials.augmentation, data_seed, number)

        def train(part: slice) -> tuple[Array, Array, Array]:
            weights, memory = ({name: v[part] for name, v in arrays.items()} for arrays in (model, state))
            x = batch if len(batch) == 1 else batch[part]
            those = group.take(part)
            loss, correct, gradients, statistics = network.loss_and_gradients(
                ops, architecture, weights, x, labels, those, number
            )
            network.track_statistics(weights, statistics)
            norm = ops.update(weights, gradients, memory, those, lr[part], number, optimiser=optimiser)
            return loss.sum(axis=1), correct.sum(axis=1), norm

        parts = ops.map_trials(train, len(lr))
        return xp.stack([xp.concatenate(values) for values in zip(*parts, strict=True)]).astype(np.float64)

    return step
