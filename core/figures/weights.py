"""What a model has learnt: its filters, biases, batch norm and linear layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core.figures.style import DIVERGING, OTHER, blank, mosaic, number_rows

COLUMNS = 8  # filters in a row
STILL = 1e-6  # a bias so small is but rounding
NAMED = 20  # classes whose names fit below bars


def filters(w: np.ndarray, number: int) -> Figure:
    """The filters (F, C, K, K) of convolution number: in colour where C is 3, else by their first input channel."""
    count, channels, size, _ = w.shape
    rows = -(-count // COLUMNS)
    in_colour = channels == 3
    tiles = w.transpose(0, 2, 3, 1) if in_colour else w[:, 0]
    largest = float(np.abs(tiles).max()) or 1.0
    what = "red, green and blue" if in_colour else f"input channel 1 of {channels}"
    figure = blank(7, 0.75 * rows + 1.4, f"conv{number}: {count} filters of {size}x{size}, {what}")
    axes = figure.subplots()
    if in_colour:
        axes.imshow(np.nan_to_num(mosaic(0.5 + tiles / (2 * largest), COLUMNS), nan=1.0))
        axes.set_xlabel(f"grey: 0; full colour: \u00b1{largest:.3g}")
    else:
        picture = axes.imshow(mosaic(tiles, COLUMNS), cmap=DIVERGING, vmin=-largest, vmax=largest)
        figure.colorbar(picture, ax=axes, label="weight", shrink=0.8)
    number_rows(axes, count, COLUMNS, size)
    axes.set(ylabel="filter", facecolor="0.8")  # gaps are grey, as no weight is
    return figure


def biases(model: Mapping[str, np.ndarray], layers: int, classes: Sequence[str]) -> Figure:
    """Bars of b1, b2, ..., and of the linear layer's b by class."""
    figure = blank(9, 1.9 * (layers + 1) + 0.6, "Biases")
    panels = figure.subplots(layers + 1, 1, squeeze=False)[:, 0]
    for number, axes in enumerate(panels, start=1):
        _bars(axes, model[f"b{number}"], f"b{number}", f"conv{number}, filter")
        if number <= layers and np.abs(model[f"b{number}"]).max() < STILL:
            text = "0: batch norm takes away what a bias would add, so nothing moves it"
            axes.text(0.5, 0.7, text, ha="center", transform=axes.transAxes)
    axes = panels[-1]
    axes.set_xlabel("linear layer, class")
    if len(classes) <= NAMED:
        axes.set_xticks(range(1, len(classes) + 1), classes)
    return figure


def batch_norm(model: Mapping[str, np.ndarray], layers: int) -> Figure:
    """Bars of gamma and beta of every convolution."""
    figure = blank(11, 1.9 * layers + 0.8, "Batch normalisation: scale gamma and shift beta")
    grid = figure.subplots(layers, 2, squeeze=False)
    for number, pair in enumerate(grid, start=1):
        for axes, name in zip(pair, ("gamma", "beta"), strict=True):
            _bars(axes, model[f"{name}{number}"], f"{name}{number}", f"conv{number}, filter")
            if name == "gamma":
                axes.axhline(1, color="0.5", linestyle=":", linewidth=1)  # where it began
    return figure


def _bars(axes: Axes, values: np.ndarray, label: str, of: str) -> None:
    axes.bar(range(1, len(values) + 1), values, color=OTHER)
    axes.axhline(0, color="0.3", linewidth=0.8)
    axes.set(ylabel=label, xlabel=of)
    axes.margins(x=0.01)
    axes.spines[["top", "right"]].set_visible(False)


def linear(w: np.ndarray, channels: int, classes: Sequence[str]) -> Figure:
    """The linear layer's weights (features, L) as a heat map, classes by features, which go channel by channel."""
    largest = float(np.abs(w).max()) or 1.0
    figure = blank(11, 0.3 * len(classes) + 1.6, f"Linear layer: weights of {len(w)} features")
    axes = figure.subplots()
    extent = (0.5, channels + 0.5, len(classes) - 0.5, -0.5)
    picture = axes.imshow(w.T, cmap=DIVERGING, vmin=-largest, vmax=largest, aspect="auto", extent=extent)
    axes.set(xlabel=f"feature: {len(w) // channels} pixels of each of {channels} channels", ylabel="class")
    axes.set_yticks(range(len(classes)), classes)
    figure.colorbar(picture, ax=axes, label="weight")
    return figure
