"""Images, and what a network makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core.figures.style import GOOD, MUTED, SEQUENTIAL, blank, mosaic, number_rows

COLUMNS = 8  # maps in a row
MISTAKES = 24  # on a contact sheet


def show(axes: Axes, image: np.ndarray) -> None:
    """An image (C, H, W): in colour if C is 3, else its first channel; what is beyond [0, 1] is scaled into it."""
    low, high = min(0.0, float(image.min())), max(1.0, float(image.max()))
    pixels = (image - low) / (high - low)
    axes.imshow(pixels.transpose(1, 2, 0) if len(image) == 3 else pixels[0], cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])


def augmented(rows: Sequence[tuple[str, np.ndarray]], title: str) -> Figure:
    """Training images as they are, and as augmentation changes them: a column an image.

    rows  name and images (N, C, H, W) scaled to about [0, 1]
    """
    count = len(rows[0][1])
    figure = blank(1.1 * count + 2.2, 1.15 * len(rows) + 0.6, title)
    grid = figure.subplots(len(rows), count, squeeze=False)
    for line, (name, images) in zip(grid, rows, strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for axes, image in zip(line, images, strict=True):
            show(axes, np.clip(image, 0, 1))
    return figure


def input_image(image: np.ndarray, title: str) -> Figure:
    """One image (C, H, W), as the network gets it."""
    figure = blank(4, 4.2, title)
    show(figure.subplots(), image)
    return figure


def feature_maps(maps: np.ndarray, title: str) -> Figure:
    """The maps (F, H, W) that one layer makes of one image, numbered from 1, all on one scale."""
    rows = -(-len(maps) // COLUMNS)
    figure = blank(8, 0.9 * rows + 1.2, title)
    axes = figure.subplots()
    picture = axes.imshow(mosaic(maps, COLUMNS), cmap=SEQUENTIAL)
    number_rows(axes, len(maps), COLUMNS, maps.shape[1])
    axes.set_ylabel("map")
    figure.colorbar(picture, ax=axes, label="value", shrink=0.8)
    return figure


def probabilities(values: np.ndarray, classes: Sequence[str], label: int | None, title: str) -> Figure:
    """Bars of the probabilities (L,) that a network gives the classes for one image; the true class stands out.

    label  the true class, if it is known
    """
    figure = blank(7, 0.3 * len(classes) + 1.3, title)
    axes = figure.subplots()
    colours = [GOOD if number == label else MUTED for number in range(len(classes))]
    bars = axes.barh(range(len(classes)), values, color=colours)
    axes.bar_label(bars, [f"{value:.3f}" for value in values], padding=3)
    axes.set(xlim=(0, 1.12), xlabel="probability", yticks=range(len(classes)), yticklabels=classes)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    if label is not None:
        axes.legend([bars[label]], [f"true class: {classes[label]}"], loc="lower right")
    return figure


def confusion(counts: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    """Images by true class (row) and predicted class (column), coloured by the share of the row.

    counts  (L, L)
    """
    size = 0.45 * len(classes) + 2.6
    figure = blank(size + 1, size, title)
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(classes))
    axes.set(xlabel="predicted class", ylabel="true class", xticks=ticks, yticks=ticks, yticklabels=classes)
    axes.set_xticks(ticks, classes, rotation=45, ha="right", rotation_mode="anchor")
    if len(classes) <= 20:  # beyond, numbers would be specks
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.6 else "black"
            axes.text(column, row, f"{count}", ha="center", va="center", color=colour, fontsize="small")
    figure.colorbar(picture, ax=axes, label="share of the true class", shrink=0.8)
    return figure


def surest_mistakes(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which images a network is surest about and wrong, the surest first: as many as a contact sheet holds.

    probabilities  (N, L)
    labels         (N,)
    """
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-probabilities.max(axis=1)[wrong], kind="stable")][:MISTAKES]


def mistakes(
    images: np.ndarray,
    numbers: np.ndarray,
    probabilities: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    title: str,
) -> Figure:
    """A contact sheet of images that a network took for something else.

    images         (n, C, H, W) scaled
    numbers        (n,) what each is called
    probabilities  (n, L)
    labels         (n,)
    """
    rows = max(1, -(-len(images) // COLUMNS))
    figure = blank(11, 1.9 * rows + 0.7, title)
    grid = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes in grid[len(images) :]:
        axes.set_axis_off()
    for axes, image, number, values, label in zip(grid, images, numbers, probabilities, labels, strict=False):
        show(axes, image)
        axes.set_title(f"{classes[label]}\n\u2192 {classes[values.argmax()]} {values.max():.2f}", fontsize="small")
        axes.set_xlabel(f"image {number}", fontsize="small")
    if len(images):
        figure.supxlabel("true class \u2192 predicted class and its probability", fontsize="medium")
    else:
        figure.text(0.5, 0.5, "None: every image is classified rightly.", ha="center")
    return figure
