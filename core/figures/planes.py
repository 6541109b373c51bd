"""Accuracy over two settings of a stage at a time: as heat maps, and in three dimensions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D

from core.figures.style import LEVELS, ON_DARK, ON_LIGHT, SEQUENTIAL, WINNER, blank
from core.figures.trials import (
    ACCURACY,
    FEW,
    UNFINISHED,
    Plane,
    Scale,
    Trial,
    has_levels,
    is_number,
    label_of,
    levels,
    named,
    plane,
    winner,
)

NUMBERED = 400  # cells of heat maps: of more, only the best one's number is written
WIDE, HIGH = 15.0, 12.0  # inches that the cells of heat maps may take


def plane_of_levels(trials: Sequence[Trial]) -> Plane | None:
    """For heat maps: settings that have levels."""
    keys = [key for key in levels(trials) if has_levels(trials, key)]
    return plane(trials, keys, keys, FEW)


def plane_of_numbers(trials: Sequence[Trial]) -> Plane | None:
    """For a surface: settings that are numbers."""
    dimensions = levels(trials)
    numbers = [key for key, values in dimensions.items() if all(map(is_number, values))]
    return plane(trials, numbers, [*numbers, *dimensions], len(LEVELS))


def heat_maps(trials: Sequence[Trial], title: str) -> Figure:
    """Accuracy by two settings, a panel for each value of a third; of several trials in one place the first in rank."""
    plane = plane_of_levels(trials)
    assert plane, "no two settings have levels"
    maps = _HeatMaps(plane, winner(trials), levels(plane.trials))
    columns, rows = maps.columns, -(-len(maps.panels) // maps.columns)
    width, height = maps.cell_size
    figure = blank(
        max(width * len(maps.across), 2.4) * columns + 1.8,
        max(height * len(maps.down), 2) * rows + 1.6,
        plane.title(title, trials),
    )
    grid = figure.subplots(rows, columns, sharey=True, sharex=True, squeeze=False).ravel()
    for axes in grid[len(maps.panels) :]:
        axes.set_axis_off()
    parts = [maps.cells(value) for value in maps.panels]
    for number, (axes, value, (cells, _)) in enumerate(zip(grid, maps.panels, parts, strict=False)):
        picture = maps.draw(axes, cells)
        maps.label(axes, value, number)
    lines = [ACCURACY]  # each short enough for the lowest figure
    lines += ["the best in each place"] if any(several for _, several in parts) else []
    ended = not all(trial.finished for cells, _ in parts for trial in cells.values())
    lines += [f"in brackets: {UNFINISHED}"] if ended and maps.few else []
    figure.colorbar(picture, ax=grid.tolist(), label="\n".join(lines))
    return figure


@dataclass(frozen=True, eq=False)
class _HeatMaps:
    """A map of accuracy over two settings for each level of a third: a panel each, their cells by row and column."""

    plane: Plane
    best: Trial | None
    levels: Mapping[str, Sequence[Any]]

    @property
    def down(self) -> Sequence[Any]:
        return self.levels[self.plane.first]

    @property
    def across(self) -> Sequence[Any]:
        return self.levels[self.plane.second]

    @property
    def panels(self) -> Sequence[Any]:
        return self.levels[self.plane.third] if self.plane.third else [None]

    @property
    def few(self) -> bool:
        """Whether every cell has room for its number."""
        return len(self.panels) * len(self.down) * len(self.across) <= NUMBERED

    @property
    def columns(self) -> int:
        """How many panels stand side by side: all, or so many that the figure is of a good shape."""
        if len(self.panels) * len(self.across) <= WIDE:
            return len(self.panels)
        square = round(math.sqrt(len(self.panels) * len(self.down) * 0.75 / len(self.across)))
        return min(len(self.panels), max(1, square))

    @property
    def cell_size(self) -> tuple[float, float]:
        """Width and height, in inches."""
        rows = -(-len(self.panels) // self.columns)
        return min(1.0, WIDE / (self.columns * len(self.across))), min(0.75, HIGH / (rows * len(self.down)))

    @property
    def scale(self) -> Normalize:
        heights = [trial.height for trial in self.plane.trials]
        return Normalize(min(heights), max(heights))

    def cells(self, value: Any) -> tuple[dict[tuple[int, int], Trial], bool]:
        """The best trial in each place of a panel, and whether some place has several."""
        plane = self.plane
        part = [trial for trial in plane.trials if plane.third is None or trial.searched[plane.third] == value]
        places = [(self.down.index(t.searched[plane.first]), self.across.index(t.searched[plane.second])) for t in part]
        cells = dict(reversed(list(zip(places, part, strict=True))))  # the first in rank comes last, and stays
        return cells, len(cells) < len(part)

    def draw(self, axes: Axes, cells: Mapping[tuple[int, int], Trial]) -> AxesImage:
        """A panel's colours and numbers."""
        values = np.full((len(self.down), len(self.across)), np.nan)
        for place, trial in cells.items():
            values[place] = trial.height
        picture = axes.imshow(values, cmap=SEQUENTIAL, norm=self.scale, aspect="auto")
        for row, column in np.ndindex(values.shape):
            there = cells.get((row, column))
            first = there is not None and there is self.best
            if self.few or first:
                _number(axes, column, row, there, first, self.scale, 19 * self.cell_size[0])
        return picture

    def label(self, axes: Axes, value: Any, number: int) -> None:
        """Title and ticks of the panel of this number, from 0."""
        axes.set_title(f"{self.plane.third} {label_of(value)}" if self.plane.third else "")
        aslant = 90 if self.cell_size[0] < 0.5 else 0
        axes.set_xticks(range(len(self.across)), map(label_of, self.across), rotation=aslant)
        if number + self.columns >= len(self.panels):
            axes.set_xlabel(self.plane.second)
            axes.tick_params(labelbottom=True)
        if number % self.columns == 0:
            axes.set_yticks(range(len(self.down)), map(label_of, self.down))
            axes.set_ylabel(self.plane.first)


def _number(axes: Any, x: int, y: int, trial: Trial | None, best: bool, scale: Normalize, size: float) -> None:
    """Write a trial's accuracy into its cell, the winner's bold, that of one that did not finish in brackets."""
    text = "\u2013" if trial is None else f"{trial.height:.4f}" if trial.finished else f"({trial.height:.4f})"
    dark = trial is not None and scale(trial.height) < 0.6
    axes.text(
        *(x, y, text),
        ha="center",
        va="center",
        color="black" if trial is None else ON_DARK if dark else ON_LIGHT,
        fontweight="bold" if best else "normal",
        fontsize=min(10, size),
    )


def surface(trials: Sequence[Trial], title: str) -> Figure:
    """Accuracy over two settings in three dimensions, a colour for each value of a third."""
    plane = plane_of_numbers(trials)
    assert plane, "no two settings are numbers"
    figure = blank(8, 6.4, plane.title(title, trials))
    axes: Any = figure.add_subplot(projection="3d")
    scales = [Scale(key, plane.trials) for key in (plane.first, plane.second)]
    values = levels(plane.trials)[plane.third] if plane.third else [None]
    floor = min(trial.height for trial in plane.trials)
    for colour, value in zip(LEVELS, values, strict=False):
        same = [trial for trial in plane.trials if plane.third is None or trial.searched[plane.third] == value]
        _draw_level(axes, scales, same, colour, floor, f"{plane.third} {label_of(value)}" if plane.third else "_")
    for scale, side in zip(scales, "xy", strict=True):
        scale.label(axes, side)
    axes.set_zlabel(ACCURACY, labelpad=8)
    if (best := winner(trials)) and best in plane.trials:
        axes.plot(*_points(scales, [best]), "*", color=WINNER, markersize=16, label=named(best))
    handles, names = axes.get_legend_handles_labels()
    if not all(trial.finished for trial in plane.trials):
        handles.append(Line2D([], [], color="0.4", marker="o", mfc="none", linestyle=""))
        names.append(UNFINISHED)
    axes.legend(handles, names, loc="upper left", bbox_to_anchor=(0, 1))
    axes.view_init(elev=22, azim=-60)
    axes.set_box_aspect(None, zoom=0.88)
    return figure


def _points(scales: Sequence[Scale], trials: Sequence[Trial]) -> tuple[np.ndarray, ...]:
    """Where trials are: x, y and the accuracy."""
    x, y = (scale.places([trial.searched[scale.key] for trial in trials]) for scale in scales)
    return x, y, np.array([trial.height for trial in trials])


def _draw_level(
    axes: Any, scales: Sequence[Scale], trials: Sequence[Trial], colour: str, floor: float, name: str
) -> None:
    """Trials as points on stems, joined along both settings where these have levels."""
    from mpl_toolkits.mplot3d.art3d import Line3DCollection

    x, y, z = _points(scales, trials)
    stems = [[(*place, floor), (*place, height)] for *place, height in zip(x, y, z, strict=True)]
    axes.add_collection3d(Line3DCollection(stems, colors=colour, alpha=0.25, linewidths=1))
    axes.plot(*_points(scales, [t for t in trials if t.finished]), "o", color=colour)
    axes.lines[-1].set_label(name)
    if ended := [trial for trial in trials if not trial.finished]:
        axes.plot(*_points(scales, ended), "o", color=colour, mfc="none")
    for fixed, other in ((x, y), (y, x)):
        for place in np.unique(fixed) if all(scale.stepped for scale in scales) else ():
            line = np.flatnonzero(fixed == place)
            line = line[np.argsort(other[line])]
            axes.plot(x[line], y[line], z[line], color=colour, alpha=0.6, linewidth=1)
