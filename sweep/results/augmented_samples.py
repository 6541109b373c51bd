"""Training images as the trials of a stage saw them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np

from core.config.hyperparameters import Hyperparameters
from core.config.settings import AUGMENTATIONS, Settings
from core.data.dataset import Dataset
from core.data.images import Images
from core.ops import Ops
from sweep.results.ranking import Row

_IMAGES, _KINDS, _STEPS = 8, 4, 2  # columns; settings shown, the best ones; batches of each


def augmented_samples(ops: Ops, data: Dataset, data_seed: int, rows: Sequence[Row]) -> list[tuple[str, np.ndarray]]:
    """The first training images, then as the first steps augment them for the best settings that differ in it.

    Returns name and images (N, C, H, W) of each line of the picture; nothing if no trial augments.
    """
    kinds: dict[str, Settings] = {}
    for row in rows:
        if name := _name(row.cell.settings):
            kinds.setdefault(name, row.cell.settings)
    if not kinds:
        return []
    split = data.split(data_seed)
    images = Images.on_device(ops, split.x_train[:_IMAGES], split.y_train[:_IMAGES], data.scale)
    batch, _ = images.batch(slice(None))
    lines = [("as they are", data.pixels.as_picture(ops.to_host(batch[0])))]
    for name, settings in list(kinds.items())[:_KINDS]:
        strength = Hyperparameters.of([settings]).augmentation
        for step in range(_STEPS):
            changed = ops.to_host(ops.augment(batch, strength, data_seed, step)[0])
            lines.append((name if step == 0 else "", data.pixels.as_picture(changed)))
    return lines


def _name(settings: Settings) -> str:
    parts = [f"{name} {getattr(settings, name):.3g}" for name in AUGMENTATIONS if getattr(settings, name)]
    return textwrap.fill(", ".join(parts), 30)
