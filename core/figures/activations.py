"""The comparison of initialisations: how activations spread layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from core.figures.style import LEVELS, TRAIN, VALIDATION, blank, logarithmic

if TYPE_CHECKING:
    from core.network.init_study import InitStudy

INITIALS = {  # colour, marker and name of each initialisation
    "he": (TRAIN, "o", "He"),
    "xavier": (LEVELS[0], "s", "Xavier"),
    "normal": (VALIDATION, "^", "small normal"),
}
COLUMNS = 8  # layers whose histograms are drawn


def init_study(study: InitStudy, title: str) -> Figure:
    """Above, the activations' standard deviation by layer; below, histograms: a row a scheme, a column a layer."""
    figure = blank(11, 8.5, title)
    parts = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.15), hspace=0.04)[:, 0]
    _spreads(parts[0].subplots(), study)
    _histograms(parts[1], study)
    return figure


def _spreads(axes: Axes, study: InitStudy) -> None:
    for t in np.argsort(-study.std[:, -1]):  # the legend in the order in which the lines end
        colour, marker, name = INITIALS[study.schemes[t]]
        label = f"{name}\n{_factor(study.std[t])}"
        axes.plot([1, *study.std[t]], color=colour, marker=marker, linewidth=2, label=label)
    logarithmic(axes, "y")
    axes.set(xlabel="layer (0: the input)", ylabel="standard deviation\n(input: 1)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, labelspacing=1.2)


def _factor(spread: np.ndarray) -> str:
    """What a layer does to the spread, on average over those that follow the first."""
    if len(spread) == 1 or not spread.all():
        return f"ends at {spread[-1]:.2g}"
    return f"\u00d7{(spread[-1] / spread[0]) ** (1 / (len(spread) - 1)):.2f} a layer"


def _histograms(figure: SubFigure, study: InitStudy) -> None:
    depth = study.std.shape[1]
    layers = np.unique(np.linspace(1, depth, min(depth, COLUMNS)).round().astype(int))
    grid = figure.subplots(len(study.schemes), len(layers), sharex=True, sharey=True, squeeze=False)
    for row, scheme, shares in zip(grid, study.schemes, study.shares, strict=True):
        colour, _, name = INITIALS[scheme]
        row[0].set_ylabel(name, color=colour)
        for axes, share in zip(row, shares[layers - 1], strict=True):
            axes.stairs(share, study.bins, fill=True, color=colour)
            axes.set_title(f"{share[0]:.0%} below {study.bins[1]:.2g}", loc="right", fontsize=8, y=0.84)
            axes.spines[["top", "right"]].set_visible(False)
    for axes, layer in zip(grid[0], layers, strict=True):
        axes.set_title(f"layer {layer}", fontsize="medium")
    axes, end = grid[0, 0], study.bins[-1]
    axes.set(xlim=(-0.1, end), xticks=[0, end / 2, end], xticklabels=["0", f"{end / 2:g}", f"\u2265{end:g}"])
    axes.set(yscale="log", ylim=(1e-3, 3), yticks=[0.001, 0.01, 0.1, 1], yticklabels=["0.1%", "1%", "10%", "100%"])
    axes.minorticks_off()
    figure.supxlabel("activation (standard deviation of the input: 1)", fontsize="medium")
    figure.supylabel("share of activations", fontsize="medium")
