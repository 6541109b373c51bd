"""Accuracy over two settings of a stage at a time: as heat maps, and in three dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
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
    chosen = plane_of_levels(trials)
    assert chosen, "no two settings have levels"
    dimensions = levels(chosen.trials)
    down, across, panel = dimensions[chosen.first], dimensions[chosen.second], chosen.third
    panels = dimensions[panel] if panel else [None]
    columns = min(len(panels), max(1, round(math.sqrt(len(panels) * len(down) * 0.75 / len(across)))))
    if len(panels) * len(across) <= WIDE:
        columns = len(panels)
    rows = -(-len(panels) // columns)
    width, height = min(1.0, WIDE / (columns * len(across))), min(0.75, HIGH / (rows * len(down)))
    figure = blank(
        max(width * len(across), 2.4) * columns + 1.8,
        max(height * len(down), 2) * rows + 1.6,
        chosen.title(title, trials),
    )
    scale = Normalize(min(trial.height for trial in chosen.trials), max(trial.height for trial in chosen.trials))
    grid = figure.subplots(rows, columns, sharey=True, sharex=True, squeeze=False)
    for axes in grid.ravel()[len(panels) :]:
        axes.set_axis_off()
    best, several, ended = winner(trials), False, False
    few = len(panels) * len(down) * len(across) <= NUMBERED
    for number, (axes, value) in enumerate(zip(grid.ravel(), panels, strict=False)):
        part = [trial for trial in chosen.trials if panel is None or trial.searched[panel] == value]
        places = [tuple(dimensions[key].index(t.searched[key]) for key in (chosen.first, chosen.second)) for t in part]
        cells = dict(reversed(list(zip(places, part, strict=True))))  # the first in rank comes last, and stays
        several |= len(cells) < len(part)
        ended |= not all(trial.finished for trial in cells.values())
        values = np.full((len(down), len(across)), np.nan)
        for place, trial in cells.items():
            values[place] = trial.height
        picture = axes.imshow(values, cmap=SEQUENTIAL, norm=scale, aspect="auto")
        for row, column in np.ndindex(values.shape):
            shown = cells.get((row, column))
            first = shown is not None and shown is best
            if few or first:
                _number(axes, column, row, shown, first, scale, 19 * width)
        axes.set_title(f"{panel} {label_of(value)}" if panel else "")
        axes.set_xticks(range(len(across)), map(label_of, across), rotation=90 if width < 0.5 else 0)
        if number + columns >= len(panels):
            axes.set_xlabel(chosen.second)
            axes.tick_params(labelbottom=True)
        if number % columns == 0:
            axes.set_yticks(range(len(down)), map(label_of, down))
            axes.set_ylabel(chosen.first)
    lines = [ACCURACY]  # each short enough for the lowest figure
    lines += ["the best in each place"] if several else []
    lines += [f"in brackets: {UNFINISHED}"] if ended and few else []
    figure.colorbar(picture, ax=grid.ravel().tolist(), label="\n".join(lines))
    return figure


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
    from mpl_toolkits.mplot3d.art3d import Line3DCollection

    chosen = plane_of_numbers(trials)
    assert chosen, "no two settings are numbers"
    third = chosen.third
    figure = blank(8, 6.4, chosen.title(title, trials))
    axes: Any = figure.add_subplot(projection="3d")
    scales = [Scale(key, chosen.trials) for key in (chosen.first, chosen.second)]
    floor = min(trial.height for trial in chosen.trials)

    def places(part: Sequence[Trial]) -> tuple[np.ndarray, ...]:
        x, y = (scale.places([trial.searched[scale.key] for trial in part]) for scale in scales)
        return x, y, np.array([trial.height for trial in part])

    values = levels(chosen.trials)[third] if third else [None]
    for colour, value in zip(LEVELS, values, strict=False):
        same = [trial for trial in chosen.trials if third is None or trial.searched[third] == value]
        x, y, z = places(same)
        stems = [[(*place, floor), (*place, height)] for *place, height in zip(x, y, z, strict=True)]
        axes.add_collection3d(Line3DCollection(stems, colors=colour, alpha=0.25, linewidths=1))
        axes.plot(*places([t for t in same if t.finished]), "o", color=colour)
        axes.lines[-1].set_label(f"{third} {label_of(value)}" if third else "_")
        if ended := [trial for trial in same if not trial.finished]:
            axes.plot(*places(ended), "o", color=colour, mfc="none")
        for fixed, other in ((x, y), (y, x)):
            for place in np.unique(fixed) if all(scale.stepped for scale in scales) else ():
                line = np.flatnonzero(fixed == place)
                line = line[np.argsort(other[line])]
                axes.plot(x[line], y[line], z[line], color=colour, alpha=0.6, linewidth=1)
    for scale, side in zip(scales, "xy", strict=True):
        scale.label(axes, side)
    axes.set_zlabel(ACCURACY, labelpad=8)
    if (best := winner(trials)) and best in chosen.trials:
        axes.plot(*places([best]), "*", color=WINNER, markersize=16, label=named(best))
    handles, names = axes.get_legend_handles_labels()
    if not all(trial.finished for trial in chosen.trials):
        handles.append(Line2D([], [], color="0.4", marker="o", mfc="none", linestyle=""))
        names.append(UNFINISHED)
    axes.legend(handles, names, loc="upper left", bbox_to_anchor=(0, 1))
    axes.view_init(elev=22, azim=-60)
    axes.set_box_aspect(None, zoom=0.88)
    return figure
