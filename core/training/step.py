"""One training step of a whole group: batch, loss, gradients, update. The yardstick for every faster one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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

    step(model, state, images, indices, lr, step)
        model    changed in place
        state    of the optimiser (core.training.optimisers.initial_state), changed in place
        indices  (N,) of the batch's images
        lr       (T,) on the device
        step     from 0 through the whole training

    returns (3, T) float64 on the device, valid until the next step: for each trial the batch's summed cross entropy,
    the number of images classified rightly, and the 2-norm of the gradient before clipping, including L2, except for
    AdamW.
    """
    return _PlainStep(ops, architecture, trials.with_update_on_device(ops.xp), optimiser, data_seed, dtype)


@dataclass(frozen=True)
class _PlainStep:
    ops: Ops
    architecture: Architecture
    trials: Hyperparameters
    optimiser: str
    data_seed: int
    dtype: type

    def __call__(
        self, model: parameters.Model, state: parameters.Model, images: Images, indices: Array, lr: Array, step: int
    ) -> Array:
        ops, xp = self.ops, self.ops.xp
        batch, labels = images.batch(indices, self.dtype)
        batch = ops.augment(batch, self.trials.augmentation, self.data_seed, step)

        def train(part: slice) -> tuple[Array, Array, Array]:
            weights, memory = ({name: v[part] for name, v in arrays.items()} for arrays in (model, state))
            x = batch if len(batch) == 1 else batch[part]
            return self._train(weights, memory, x, labels, self.trials.take(part), lr[part], step)

        parts = ops.map_trials(train, len(lr))
        return xp.stack([xp.concatenate(values) for values in zip(*parts, strict=True)]).astype(np.float64)

    def _train(
        self,
        model: parameters.Model,
        state: parameters.Model,
        x: Array,
        labels: Array,
        trials: Hyperparameters,
        lr: Array,
        step: int,
    ) -> tuple[Array, Array, Array]:
        """Of some trials: the loss, the number of right answers and the gradient's norm, each (T,)."""
        loss, correct, gradients, statistics = network.loss_and_gradients(
            self.ops, self.architecture, model, x, labels, trials, step
        )
        network.track_statistics(model, statistics)
        norm = self.ops.update(model, gradients, state, trials, lr, step, optimiser=self.optimiser)
        return loss.sum(axis=1), correct.sum(axis=1), norm
