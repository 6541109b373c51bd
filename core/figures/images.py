"""Images, and what a network makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core.figures.style import GOOD, MUTED, ON_DARK, ON_LIGHT, SEQUENTIAL, blank, columns_of, mosaic, number_rows, short

COLUMNS = 8  # mistakes in a row
PIXELS = 2048  # to a side of what is drawn: of larger images every second pixel, every third, ...
MANY = 40  # classes: of more, only some can be named
OTHERS = "all others"
MISTAKES = 24  # on a contact sheet


def show(axes: Axes, image: np.ndarray) -> None:
    """An image (C, H, W): from 0 (black) to 1 (white): in colour if C is 3, else its first channel."""
    step = -(-max(image.shape[1:]) // (PIXELS // 4))
    pixels = image[:, ::step, ::step]
    axes.imshow(pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels[0], cmap="gray", vmin=0, vmax=1)
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
    """One image (C, H, W) from 0 to 1."""
    figure = blank(4, 4.2, title)
    show(figure.subplots(), image)
    return figure


def feature_maps(maps: np.ndarray, title: str) -> Figure:
    """The maps (F, H, W) that one layer makes of one image, numbered from 1, all on one scale."""
    columns = columns_of(len(maps))
    rows = -(-len(maps) // columns)
    step = -(-columns * max(maps.shape[1:]) // PIXELS)
    maps = maps[:, ::step, ::step]
    figure = blank(8, 7.2 / columns * rows * min(maps.shape[1] / maps.shape[2], 2) + 1.2, title)
    axes = figure.subplots()
    picture = axes.imshow(mosaic(maps, columns), cmap=SEQUENTIAL)
    number_rows(axes, len(maps), columns, maps.shape[1])
    axes.set_ylabel("map")
    figure.colorbar(picture, ax=axes, label="value", shrink=0.8)
    return figure


def probabilities(values: np.ndarray, classes: Sequence[str], label: int | None, title: str) -> Figure:
    """Bars of the probabilities (L,) that a network gives the classes for one image; the true class stands out.

    Of many classes the likeliest are drawn, most likely first, and the true one.

    label  the true class, if it is known
    """
    places = list(range(len(classes)))
    if len(classes) > MANY:
        places = np.argsort(-values, kind="stable")[:MANY].tolist()
        if label is not None and label not in places:
            places[-1] = label
        title = f"{title}\nThe likeliest of {len(classes)} classes"
    figure = blank(7, 0.3 * len(places) + 1.3, title)
    axes = figure.subplots()
    bars = axes.barh(range(len(places)), values[places], color=[GOOD if n == label else MUTED for n in places])
    axes.bar_label(bars, [f"{value:.3f}" for value in values[places]], padding=3)
    names = [short(classes[n]) for n in places]
    axes.set(xlim=(0, 1.12), xlabel="probability", yticks=range(len(places)), yticklabels=names)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    if label is not None:
        axes.legend([bars[places.index(label)]], [f"true class: {short(classes[label])}"], loc="lower right")
    return figure


def confusion(counts: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    """Images by true class (row) and predicted class (column), coloured by the share of the row.

    Of many classes those with most mistakes have a row and a column each, and all others one together.

    counts  (L, L)
    """
    names = [short(name) for name in classes]
    if len(classes) > MANY:
        counts, shown = most_confused(counts)
        names = [*(names[n] for n in shown), OTHERS]
        title = f"{title}\nThe {MANY} of {len(classes)} classes with most mistakes, and all others together"
    size = (0.45 if len(names) <= 20 else 0.28) * len(names) + 2.6
    figure = blank(size + 1, size, title)
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(names))
    axes.set(xlabel="predicted class", ylabel="true class", xticks=ticks, yticks=ticks, yticklabels=names)
    axes.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor")
    if len(names) <= 20:  # beyond, numbers would be specks
        for (row, column), count in np.ndenumerate(counts):
            colour = ON_DARK if shares[row, column] > 0.6 else ON_LIGHT
            axes.text(column, row, f"{count}", ha="center", va="center", color=colour, fontsize="small")
    figure.colorbar(picture, ax=axes, label="share of the true class", shrink=0.8)
    return figure


def most_confused(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts (MANY + 1, MANY + 1) of the classes with most mistakes, as truth or guess, the last for all others; and
    which classes these are (MANY,), in their order.
    """
    wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    shown = np.sort(np.argsort(-wrong, kind="stable")[:MANY])
    place = np.full(len(counts), MANY)
    place[shown] = range(MANY)
    found = np.zeros((MANY + 1, MANY + 1), counts.dtype)
    rows, columns = counts.nonzero()
    np.add.at(found, (place[rows], place[columns]), counts[rows, columns])
    return found, shown


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

    images         (n, C, H, W) from 0 to 1
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
        true, guess = (short(classes[n], 14) for n in (label, values.argmax()))
        axes.set_title(f"{true}\n\u2192 {guess} {values.max():.2f}", fontsize="small")
        axes.set_xlabel(f"image {number}", fontsize="small")
    if len(images):
        figure.supxlabel("true class \u2192 predicted class and its probability", fontsize="medium")
    else:
        figure.text(0.5, 0.5, "None: every image is classified rightly.", ha="center")
    return figure
