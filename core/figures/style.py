"""What all pictures share: colours, the canvas, mosaics of small images, and how they are saved."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

# The colour-blind-safe palette of Okabe & Ito (2008). A thing has one colour, in whatever picture it is.
TRAIN, VALIDATION = "#0072b2", "#d55e00"
WINNER, OTHER = VALIDATION, TRAIN
LEVELS = ("#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#0072b2", "#d55e00", "#000000")  # networks, and the like
GOOD, MUTED = "#009e73", "0.6"
SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"
SUFFIXES = (".png", ".svg")

matplotlib.rcParams.update(
    {
        "text.parse_math": False,  # a class may be called $x$
        "svg.hashsalt": "fused-sweep",  # the same picture has the same bytes
        "axes.titlesize": "medium",
        "figure.titlesize": "large",
        "legend.frameon": False,
    }
)


def blank(width: float, height: float, title: str, layout: Literal["constrained"] | None = "constrained") -> Figure:
    """An empty figure of so many inches."""
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write the figure in the format of its suffix, a PNG with 120 dots an inch."""
    figure.savefig(path, dpi=120, metadata={"Date": None} if path.suffix == ".svg" else None)


def as_svg(figure: Figure) -> bytes:
    """The figure as the text of an SVG file."""
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def count_epochs(axes: Axes) -> None:
    """Label the horizontal axis by epochs, which are whole."""
    axes.set(xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)


def logarithmic(axes: Axes, side: str) -> None:
    """Let the axis "x" or "y", of more than a decade, be logarithmic.

    Its numbers are plain: matplotlib's own labels are formulas, which are not parsed here.
    """
    getattr(axes, f"set_{side}scale")("log")
    getattr(axes, f"{side}axis").set_major_formatter(StrMethodFormatter("{x:g}"))


def mosaic(tiles: np.ndarray, columns: int) -> np.ndarray:
    """Tiles (K, H, W) or (K, H, W, 3) side by side, in rows of so many, with gaps of a pixel, which are nan."""
    count, height, width = tiles.shape[:3]
    rows = -(-count // columns)
    sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, *tiles.shape[3:]), np.nan, np.float32)
    for number, tile in enumerate(tiles):
        top, left = number // columns * (height + 1), number % columns * (width + 1)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def number_rows(axes: Axes, count: int, columns: int, height: int) -> None:
    """Tell which tile a row of a mosaic begins with, counted from 1."""
    first = range(0, count, columns)
    axes.set_yticks([row * (height + 1) + (height - 1) / 2 for row in range(len(first))])
    axes.set_yticklabels([str(number + 1) for number in first])
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
