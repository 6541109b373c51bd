"""All pictures of one trained model."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from core.config.architecture import Architecture, Layer
from core.data.images import Images
from core.data.pixels import PixelRange
from core.errors import InputError, printable
from core.figures import images, weights
from core.figures.picture import read_image
from core.figures.style import Picture, spread_out
from core.figures.training import curves
from core.network.inspection import feature_maps, probabilities
from core.network.parameters import architecture_of
from core.ops import Ops
from core.project import expand

LAYERS = 16  # whose filters and maps are drawn, of a network that has more


@dataclass(frozen=True)
class InputImage:
    """The image whose way through the network is drawn: (C, H, W) scaled, its name, and its label if that is known."""

    image: np.ndarray
    name: str
    label: int | None = None


def pictures(
    ops: Ops,
    model: Mapping[str, np.ndarray],
    seen: Images,
    classes: Sequence[str],
    shown: InputImage,
    pixel_range: PixelRange,
    *,
    of: str,
    history: Sequence[dict[str, float]] = (),
    best_epoch: int = 0,
) -> dict[str, Picture]:
    """By name, in the order in which they are best looked at.

    model        one trial's arrays
    seen         labelled images on which its mistakes are counted
    pixel_range  what the values of these images mean
    of           what these images are called, like "validation images of digits"
    history      each epoch's metrics, from epoch 1, if there are such
    """
    architecture = architecture_of(model, shown.image.shape, classes)
    on_device = {name: ops.xp.asarray(values[None]) for name, values in model.items()}
    title = "Training, epoch by epoch"
    found: dict[str, Picture] = {"curves": partial(curves, history, best_epoch, title)} if history else {}
    found |= _of_parameters(architecture, model, classes)
    found |= _of_image(ops, architecture, on_device, classes, shown, pixel_range)
    return found | _of_guesses(ops, architecture, on_device, seen, classes, shown, pixel_range, of)


def _drawn_layers(architecture: Architecture) -> list[Layer]:
    return [architecture.layers[n - 1] for n in spread_out(len(architecture.layers), LAYERS)]


def _of_parameters(
    architecture: Architecture, model: Mapping[str, np.ndarray], classes: Sequence[str]
) -> dict[str, Picture]:
    """What the network has learnt: one trial's arrays."""
    layers, last = len(architecture.layers), len(architecture.layers) + 1
    found: dict[str, Picture] = {}
    for n in (layer.number for layer in _drawn_layers(architecture)):
        found[f"filters-conv{n}"] = partial(weights.filters, model[f"w{n}"], n)
    found["biases"] = partial(weights.biases, model, layers, classes)
    found["batch-norm"] = partial(weights.batch_norm, model, layers)
    channels = 1 if architecture.global_pool else architecture.layers[-1].filters
    found["linear"] = partial(weights.linear, model[f"w{last}"], channels, classes)
    return found


def _of_image(
    ops: Ops,
    architecture: Architecture,
    on_device: dict[str, Any],
    classes: Sequence[str],
    shown: InputImage,
    pixel_range: PixelRange,
) -> dict[str, Picture]:
    """One image, and what each layer makes of it."""
    label = "" if shown.label is None else f": {classes[shown.label]}"
    name = f"{shown.name}{label}"
    found: dict[str, Picture] = {"image": partial(images.input_image, _as_picture(shown.image, pixel_range), name)}
    x = ops.xp.asarray(shown.image[None, None].astype(np.float32))
    maps = cache(lambda: feature_maps(ops, architecture, on_device, x))  # once, by the first picture that needs them
    for layer in _drawn_layers(architecture):
        for name in (f"conv{layer.number}", f"{'pool' if layer.pool > 1 else 'relu'}{layer.number}"):
            title = f"{shown.name} after {name}: {layer.filters} maps"
            found[f"maps-{name}"] = partial(lambda name, title: images.feature_maps(maps()[name], title), name, title)
    return found


def _of_guesses(
    ops: Ops,
    architecture: Architecture,
    on_device: dict[str, Any],
    seen: Images,
    classes: Sequence[str],
    shown: InputImage,
    pixel_range: PixelRange,
    of: str,
) -> dict[str, Picture]:
    """What the network says of one image, and of all."""
    guesses = cache(lambda: probabilities(ops, architecture, on_device, seen))
    labels = ops.to_host(seen.labels)

    def of_one() -> Figure:
        one = Images(ops.xp.asarray(shown.image[None].astype(np.float32)), ops.xp.zeros(1, int), 1.0)
        values = probabilities(ops, architecture, on_device, one)[0]
        return images.probabilities(values, classes, shown.label, f"{shown.name}: what the network says")

    def confusion() -> Figure:
        guess = guesses().argmax(axis=1)
        counts = np.zeros((len(classes), len(classes)), np.int32)
        np.add.at(counts, (labels, guess), 1)
        return images.confusion(counts, classes, f"{len(labels)} {of}: {float((guess == labels).mean()):.4f} right")

    def mistakes() -> Figure:
        wrong = images.surest_mistakes(guesses(), labels)
        pixels = _as_picture(ops.to_host(seen.batch(ops.xp.asarray(wrong))[0][0]), pixel_range)
        title = f"Most confident mistakes on {of}"
        return images.mistakes(pixels, wrong, guesses()[wrong], labels[wrong], classes, title)

    return {"probabilities": of_one, "confusion": confusion, "mistakes": mistakes}


def _as_picture(x: np.ndarray, pixel_range: PixelRange) -> np.ndarray:
    picture: np.ndarray = np.clip(pixel_range.as_picture(x), 0, 1)
    return picture


def _tell(note: str) -> None:
    print(printable(note), file=sys.stderr)


def select_image(image: str, seen: Images, kind: str, ops: Ops, pixel_range: PixelRange) -> InputImage:
    """The image whose way is drawn: its number among those seen, from 0, or a picture's file, of which is said how it
    is read.

    kind         what one of those seen is called, like "test image"
    pixel_range  what the values of those seen mean

    Raises InputError if there is none.
    """
    if not image.lstrip("-").isdigit():
        path = expand(image)
        _, *shape = seen.pixels.shape
        picture = read_image(path, (shape[0], shape[1], shape[2]), _tell)
        _tell(f"{path.name}: black is read as {pixel_range.black:g} and white as {pixel_range.white:g}, as in the data")
        return InputImage(pixel_range.of_picture(picture), path.name)
    number = int(image)
    if not 0 <= number < len(seen):
        raise InputError(f"--image is {number}: there are {len(seen)} images, counted from 0")
    x, labels = seen.batch(slice(number, number + 1))
    return InputImage(ops.to_host(x[0, 0]), f"{kind} {number}", int(labels[0]))
