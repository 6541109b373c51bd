"""What all pictures share: colours, a canvas of bounded size, mosaics of small images, and how they are made files."""

from __future__ import annotations

import io
import math
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from core.errors import printable, reason

Picture = Callable[[], Figure]  # draws it when it is asked for: one after another, none of which can end the others

# The colour-blind-safe palette of Okabe & Ito (2008). A thing has one colour, in whatever picture it is.
TRAIN, VALIDATION = "#0072b2", "#d55e00"
WINNER, OTHER = VALIDATION, TRAIN
LEVELS = ("#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#0072b2", "#d55e00", "#000000")  # networks, and the like
GOOD, MUTED = "#009e73", "0.6"
ON_LIGHT, ON_DARK = "#010101", "#fefefe"  # letters on a cell of a map, whose colour stays where the page is dark
SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"
SUFFIXES = (".png", ".svg")
LARGEST, DOTS = 20.0, 120  # inches of a canvas, and of a PNG the dots in each: 2400x2400 pixels at most
_LINES, _LETTERS = 3, 10  # of a title: lines, and letters an inch

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
    """An empty figure of so many inches, LARGEST at most, under a title that fits."""
    width, height = min(width, LARGEST), min(height, LARGEST)
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    lines = [part for line in title.split("\n") for part in textwrap.wrap(line, int(width * _LETTERS))]
    figure.suptitle("\n".join(lines if len(lines) <= _LINES else [*lines[: _LINES - 1], f"{lines[_LINES - 1]} \u2026"]))
    return figure


def content(figure: Figure, kind: str) -> bytes:
    """The figure as a file of this kind, "png" or "svg"."""
    out = io.BytesIO()
    figure.savefig(out, format=kind, dpi=DOTS, metadata={"Date": None} if kind == "svg" else None)
    return out.getvalue()


def rendered(pictures: Mapping[str, Picture], *kinds: str) -> Iterator[tuple[str, bytes]]:
    """The pictures as files of these kinds: names with suffixes, and contents.

    One that cannot be drawn is left out, with a line on standard error: no picture is worth what it was drawn for.
    """
    for name, draw in pictures.items():
        try:
            with warnings.catch_warnings(action="ignore"):  # of letters that the font lacks
                figure = draw()
                files = {f"{name}.{kind}": content(figure, kind) for kind in kinds}
        except Exception as error:
            why = printable(f"{type(error).__name__}: {reason(error)}")
            print(f"warning: the picture {name} is left out, as it cannot be drawn: {why}", file=sys.stderr)
        else:
            yield from files.items()


def short(text: str, most: int = 24) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= most else f"{text[: most - 1]}\u2026"


def spread_out(count: int, most: int) -> list[int]:
    """Whole numbers from 1 to count: all, or so many at equal distances, both ends among them."""
    return [int(number) for number in np.unique(np.linspace(1, count, min(count, most)).round())]


def thinned(count: int, most: int) -> range:
    """Places from 0 of labels on an axis: every one, or every second, third, ..., so that at most so many stay."""
    return range(0, count, -(-count // most) or 1)


def count_epochs(axes: Axes) -> None:
    """Label the horizontal axis by epochs, which are whole."""
    axes.set(xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)


def logarithmic(axes: Axes, side: str) -> None:
    """Let the axis "x" or "y", of more than a decade, be logarithmic.

    Its numbers are plain: matplotlib's own labels are formulas, which are not parsed here.
    """
    getattr(axes, f"set_{side}scale")("log")
    getattr(axes, f"{side}axis").set_major_formatter(StrMethodFormatter("{x:g}"))


def columns_of(count: int) -> int:
    """How many tiles of a mosaic stand in a row: eight, or of very many so many that it is about square."""
    return max(8, math.isqrt(count - 1) + 1) if count > 64 else 8


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
    rows = thinned(-(-count // columns), 16)
    axes.set_yticks([row * (height + 1) + (height - 1) / 2 for row in rows])
    axes.set_yticklabels([str(row * columns + 1) for row in rows])
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
