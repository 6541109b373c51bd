"""All pictures of one trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from core.batches import Images
from core.errors import InputError, reason
from core.figures import images, weights
from core.figures.training import curves
from core.model import architecture_of, feature_maps, probabilities
from core.ops import Ops
from core.project import expand

LARGEST = 64 * 2**20  # pixels of a picture that is read


@dataclass(frozen=True)
class Shown:
    """The image whose way through the network is drawn: (C, H, W) scaled, its name, and its label if that is known."""

    image: np.ndarray
    name: str
    label: int | None = None


def pictures(
    ops: Ops,
    model: Mapping[str, np.ndarray],
    seen: Images,
    classes: Sequence[str],
    shown: Shown,
    *,
    of: str,
    history: Sequence[dict[str, float]] = (),
    best_epoch: int = 0,
) -> dict[str, Figure]:
    """By name, in the order in which they are best looked at.

    model       one trial's arrays
    seen        labelled images on which its mistakes are counted
    of          what these images are called, like "validation images of digits"
    history     each epoch's metrics, from epoch 1, if there are such
    """
    architecture = architecture_of(model, shown.image.shape, classes)
    on_device = {name: ops.xp.asarray(values[None]) for name, values in model.items()}
    layers, last = len(architecture.layers), len(architecture.layers) + 1
    found = {"curves": curves(history, best_epoch, "Training, epoch by epoch")} if history else {}
    found |= {f"filters-conv{n}": weights.filters(model[f"w{n}"], n) for n in range(1, last)}
    found["biases"] = weights.biases(model, layers, classes)
    found["batch-norm"] = weights.batch_norm(model, layers)
    channels = 1 if architecture.global_pool else architecture.layers[-1].filters
    found["linear"] = weights.linear(model[f"w{last}"], channels, classes)

    label = "" if shown.label is None else f": {classes[shown.label]}"
    found["image"] = images.input_image(shown.image, f"{shown.name}{label}")
    x = ops.xp.asarray(shown.image[None, None].astype(np.float32))
    for name, maps in feature_maps(ops, architecture, on_device, x).items():
        found[f"maps-{name}"] = images.feature_maps(maps, f"{shown.name} after {name}: {len(maps)} maps")
    one = Images(x[0], ops.xp.zeros(1, int), 1.0)
    found["probabilities"] = images.probabilities(
        probabilities(ops, architecture, on_device, one)[0],
        classes,
        shown.label,
        f"{shown.name}: what the network says",
    )

    guesses = probabilities(ops, architecture, on_device, seen)
    labels = ops.to_host(seen.labels)
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (labels, guesses.argmax(axis=1)), 1)
    right = float((guesses.argmax(axis=1) == labels).mean())
    found["confusion"] = images.confusion(counts, classes, f"{len(labels)} {of}: {right:.4f} right")
    wrong = images.surest_mistakes(guesses, labels)
    pixels, _ = seen.batch(ops.xp.asarray(wrong))
    found["mistakes"] = images.mistakes(
        ops.to_host(pixels[0]), wrong, guesses[wrong], labels[wrong], classes, f"Most confident mistakes on {of}"
    )
    return found


def chosen(image: str, seen: Images, what: str, ops: Ops) -> Shown:
    """The image whose way is drawn: its number among those seen, from 0, or a picture's file.

    what  one of those seen is called, like "test image"

    Raises InputError if there is none.
    """
    if not image.lstrip("-").isdigit():
        path = expand(image)
        _, *shape = seen.pixels.shape
        return Shown(read_image(path, (shape[0], shape[1], shape[2])), path.name)
    number = int(image)
    if not 0 <= number < len(seen):
        raise InputError(f"--image is {number}: there are {len(seen)} images, counted from 0")
    x, labels = seen.batch(slice(number, number + 1))
    return Shown(ops.to_host(x[0, 0]), f"{what} {number}", int(labels[0]))


def read_image(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """A picture's file as (C, H, W) float32 in [0, 1], scaled to the network's size.

    Raises InputError if it cannot be read.
    """
    from PIL import Image

    channels, height, width = shape
    if channels not in (1, 3):
        raise InputError(f"{path}: the network takes images of {channels} channels, a picture's file has 1 or 3")
    try:
        with Image.open(path) as file:
            if file.width * file.height > LARGEST:
                raise ValueError(f"it has {file.width}x{file.height} pixels")
            pixels = file.convert("RGB" if channels == 3 else "L").resize((width, height), Image.Resampling.BILINEAR)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} is not a picture that can be read: {reason(error)}") from None
    return np.asarray(pixels, np.float32).reshape(height, width, channels).transpose(2, 0, 1) / 255
