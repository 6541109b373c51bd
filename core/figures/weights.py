"""What a model has learnt: its filters, biases, batch norm and linear layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core.figures.style import DIVERGING, OTHER, blank, columns_of, mosaic, number_rows, short, spread_out, thinned

STILL = 1e-6  # a bias so small is but rounding
NAMED = 20  # classes whose names fit below bars
BESIDE = 40  # whose names fit beside a map
BARS = 200  # each of its own; of more values an outline is drawn
ROWS, COLUMNS = 8, 3  # of panels
WEIGHTS = 2**22  # of a map: of more, the largest of every few features


def filters(w: np.ndarray, number: int) -> Figure:
    """The filters (F, C, K, K) of convolution number: in colour where C is 3, else by their first input channel."""
    count, channels, size, _ = w.shape
    columns = columns_of(count)
    in_colour = channels == 3
    tiles = w.transpose(0, 2, 3, 1) if in_colour else w[:, 0]
    largest = float(np.abs(tiles).max()) or 1.0
    what = "red, green and blue" if in_colour else f"input channel 1 of {channels}"
    rows = -(-count // columns)
    figure = blank(7, 6 / columns * rows + 1.4, f"conv{number}: {count} filters of {size}x{size}, {what}")
    axes = figure.subplots()
    if in_colour:
        axes.imshow(np.nan_to_num(mosaic(0.5 + tiles / (2 * largest), columns), nan=1.0))
        axes.set_xlabel(f"grey: 0; full colour: \u00b1{largest:.3g}")
    else:
        picture = axes.imshow(mosaic(tiles, columns), cmap=DIVERGING, vmin=-largest, vmax=largest)
        figure.colorbar(picture, ax=axes, label="weight", shrink=0.8)
    number_rows(axes, count, columns, size)
    axes.set(ylabel="filter", facecolor="0.8")  # gaps are grey, as no weight is
    return figure


def biases(model: Mapping[str, np.ndarray], layers: int, classes: Sequence[str]) -> Figure:
    """Bars of b1, b2, ..., and of the linear layer's b by class."""
    numbers = spread_out(layers + 1, ROWS * COLUMNS)
    columns = -(-len(numbers) // ROWS)
    rows = -(-len(numbers) // columns)
    figure = blank(9 if columns == 1 else 6 * columns, 1.9 * rows + 0.6, _some("Biases", len(numbers), layers + 1))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(numbers) :]:
        axes.set_axis_off()
    for number, axes in zip(numbers, panels, strict=False):
        _bars(axes, model[f"b{number}"], f"b{number}", f"conv{number}, filter")
        if number <= layers and np.abs(model[f"b{number}"]).max() < STILL:
            text = "0: batch norm takes away what a bias would add, so nothing moves it"
            axes.text(0.5, 0.7, text if columns == 1 else "0", ha="center", transform=axes.transAxes)
    axes = panels[len(numbers) - 1]
    axes.set_xlabel("linear layer, class")
    names = [short(name) for name in classes]
    if len(names) <= NAMED:
        axes.set_xticks(range(1, len(names) + 1), names, rotation=30 if sum(map(len, names)) > 90 else 0)
    return figure


def _some(what: str, count: int, of: int) -> str:
    return what if count == of else f"{what}: {count} of {of} layers"


def batch_norm(model: Mapping[str, np.ndarray], layers: int) -> Figure:
    """Bars of gamma and beta of every convolution."""
    numbers = spread_out(layers, ROWS)
    title = _some("Batch normalisation: scale gamma and shift beta", len(numbers), layers)
    figure = blank(11, 1.9 * len(numbers) + 0.8, title)
    grid = figure.subplots(len(numbers), 2, squeeze=False)
    for number, pair in zip(numbers, grid, strict=True):
        for axes, name in zip(pair, ("gamma", "beta"), strict=True):
            _bars(axes, model[f"{name}{number}"], f"{name}{number}", f"conv{number}, filter")
            if name == "gamma":
                axes.axhline(1, color="0.5", linestyle=":", linewidth=1)  # where it began
    return figure


def _bars(axes: Axes, values: np.ndarray, label: str, of: str) -> None:
    if len(values) <= BARS:
        axes.bar(range(1, len(values) + 1), values, color=OTHER)
    else:
        axes.stairs(values, np.arange(len(values) + 1) + 0.5, fill=True, color=OTHER)
    axes.axhline(0, color="0.3", linewidth=0.8)
    axes.set(ylabel=label, xlabel=of)
    axes.margins(x=0.01)
    axes.spines[["top", "right"]].set_visible(False)


def linear(w: np.ndarray, channels: int, classes: Sequence[str]) -> Figure:
    """The linear layer's weights (features, L) as a heat map, classes by features, which go channel by channel."""
    largest = float(np.abs(w).max()) or 1.0
    figure = blank(11, 0.3 * min(len(classes), BESIDE) + 1.6, f"Linear layer: weights of {len(w)} features")
    axes = figure.subplots()
    extent = (0.5, channels + 0.5, len(classes) - 0.5, -0.5)
    shown = _strongest(w).T
    picture = axes.imshow(shown, cmap=DIVERGING, vmin=-largest, vmax=largest, aspect="auto", extent=extent)
    axes.set(xlabel=f"feature: {len(w) // channels} pixels of each of {channels} channels", ylabel="class")
    named = thinned(len(classes), BESIDE)
    axes.set_yticks(named, [short(classes[n]) for n in named])
    every = shown.size == w.size
    figure.colorbar(picture, ax=axes, label="weight" if every else "weight, the largest in each place")
    return figure


def _strongest(w: np.ndarray) -> np.ndarray:
    """At most WEIGHTS of the weights (features, L), each the largest by size of the features that it stands for."""
    few = -(-w.size // WEIGHTS)
    if few == 1:
        return w
    low, high = (pick.reduceat(w, range(0, len(w), few), axis=0) for pick in (np.minimum, np.maximum))
    return np.where(high >= -low, high, low)
