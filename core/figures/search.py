"""What a stage of a search has found: accuracy by what was searched.

Trials come as they are ranked. The best is the ranking's winner in every picture, whatever accuracy a trial had that
did not finish: such are drawn hollow, dashed or in brackets. A setting that only some trials have is drawn for these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from core.figures.planes import heat_maps, plane_of_levels, plane_of_numbers, surface
from core.figures.style import MUTED, OTHER, SEQUENTIAL, WINNER, Picture, blank, logarithmic
from core.figures.training import overlay
from core.figures.trials import ACCURACY, DECADES, UNFINISHED, Scale, Trial, having, is_number, levels, named, winner

LABELLED = 20  # bars whose height is written above them
OFF = -0.14  # where a line of parallel coordinates crosses the axis of a setting that its trial does not have


def pictures(trials: Sequence[Trial], title: str, title_of_curves: str = "") -> dict[str, Picture]:
    """All pictures that say something about these trials, best first, by name."""
    best = winner(trials)
    curves = {trial.name: trial.curve for trial in trials}
    found: dict[str, Picture] = {
        "curves": partial(overlay, curves, best.name if best else None, title_of_curves or title)
    }
    trials = [trial for trial in trials if trial.accuracy is not None]
    dimensions = levels(trials)
    if len(dimensions) == 1 and all(map(is_number, *dimensions.values())):
        found["by-value"] = partial(by_value, trials, title)
    if len(dimensions) > 1:
        found["main-effects"] = partial(main_effects, trials, title)
        found["parallel"] = partial(parallel, trials, title)
    if plane_of_levels(trials):
        found["heat-maps"] = partial(heat_maps, trials, title)
    if plane_of_numbers(trials):
        found["surface"] = partial(surface, trials, title)
    return found


def by_value(trials: Sequence[Trial], title: str) -> Figure:
    """Accuracy by the only number that was searched: bars for fixed points, points for draws."""
    ((key, values),) = levels(trials).items()
    best, trials = winner(trials), having(trials, key)
    figure = blank(8, 4.4, title)
    axes = figure.subplots()
    accuracies = [trial.height for trial in trials]
    spread = max(accuracies) - min(accuracies)
    floor = max(0.0, min(accuracies) - 0.25 * (spread or 0.1))
    fixed, drawn = ([t for t in trials if t.finished and t.fixed is kind] for kind in (True, False))
    if fixed:
        heights = [trial.height - floor for trial in fixed]
        width = (values[-1] - values[0]) / 25
        bars = axes.bar([t.searched[key] for t in fixed], heights, width, floor, color=MUTED, label="fixed points")
        if len(fixed) <= LABELLED:
            axes.bar_label(bars, [f"{trial.accuracy:.4f}" for trial in fixed], padding=9, fontsize="small")
    if drawn:
        where = [trial.searched[key] for trial in drawn]
        axes.plot(where, [trial.height for trial in drawn], "o", color=OTHER, label="random draws")
    if ended := [trial for trial in trials if not trial.finished]:
        where = [trial.searched[key] for trial in ended]
        axes.plot(where, [trial.height for trial in ended], "o", color=OTHER, mfc="none", label=UNFINISHED)
    if best and best in trials:
        label = f"the best: {key} {best.searched[key]:.4g}, {best.accuracy:.4f}"
        axes.plot(best.searched[key], best.height, "*", color=WINNER, markersize=15, label=label)
    if values[0] > 0 and values[-1] > DECADES * values[0]:
        logarithmic(axes, "x")
    axes.set(xlabel=key, ylabel=ACCURACY, ylim=(floor, max(accuracies) + 0.3 * (spread or 0.1)))
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=4 if ended else 3)
    return figure


def main_effects(trials: Sequence[Trial], title: str) -> Figure:
    """A panel for each setting: every trial's accuracy at its value, and the mean of those of each level that finished.

    A setting that only some trials have is drawn for these, and the panel says how many they are.
    """
    keys = list(levels(trials))
    columns = min(3, len(keys)) if len(keys) <= 9 else math.isqrt(len(keys) - 1) + 1
    rows = -(-len(keys) // columns)
    figure = blank(4 * columns + 0.6, 3.2 * rows + 0.6, title)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes in grid.ravel()[len(keys) :]:
        axes.set_axis_off()
    for axes, key in zip(grid.ravel(), keys, strict=False):
        _effect(axes, trials, key)
    for line in grid:
        line[0].set_ylabel(ACCURACY)
    handles = [Line2D([], [], color=OTHER, marker=".", linestyle="", label="a trial")]
    done = [trial.finished for trial in trials]
    if not all(done):
        handles.append(Line2D([], [], color=OTHER, marker="o", mfc="none", ms=5, linestyle="", label=UNFINISHED))
    if best := winner(trials):
        handles.append(Line2D([], [], color=WINNER, marker="*", markersize=11, linestyle="", label=named(best)))
    if any(done) and any(Scale(key, trials).stepped for key in keys):
        label = "mean of the level" if all(done) else "mean of the finished"
        mean = Line2D([], [], color="black", marker="D", markersize=5, linewidth=1, label=label)
        handles.append(mean)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _effect(axes: Any, trials: Sequence[Trial], key: str) -> None:
    part, best = having(trials, key), winner(trials)
    scale = Scale(key, trials)
    x, accuracies = scale.places([trial.searched[key] for trial in part]), np.array([trial.height for trial in part])
    done = np.array([trial.finished for trial in part])
    axes.plot(x[done], accuracies[done], ".", color=OTHER, alpha=0.5)
    if not done.all():
        axes.plot(x[~done], accuracies[~done], "o", color=OTHER, mfc="none", ms=5, alpha=0.5)
    if scale.stepped:
        places = np.unique(x[done])
        means = [accuracies[done & (x == place)].mean() for place in places]
        axes.plot(places, means, "D-", color="black", markersize=5, linewidth=1)
    if best in part:
        axes.plot(x[part.index(best)], best.height, "*", color=WINNER, markersize=13)
    if len(part) < len(trials):
        axes.set_title(f"{len(part)} of {len(trials)} trials", fontsize="small", color="0.4")
    scale.label(axes, "x")
    axes.margins(x=0.12)  # else the labels of neighbouring panels meet
    axes.grid(axis="y", alpha=0.3)


def parallel(trials: Sequence[Trial], title: str) -> Figure:
    """A line a trial through its value of each setting, to its accuracy, which also colours it; the best is bold.

    The line of a trial that does not have a setting crosses its axis below all values.
    """
    scales = [Scale(key, trials) for key in levels(trials)]
    figure = blank(1.8 * len(scales) + 3.4, 4.6, title)
    axes = figure.subplots()
    heights = [trial.height for trial in trials]
    _draw_lines(axes, scales, trials, Normalize(min(heights), max(heights)))
    unset = _draw_axes(axes, scales, trials)
    _mark_accuracy(axes, len(scales), min(heights), max(heights))
    axes.set_xticks(range(len(scales) + 1), [*(scale.key for scale in scales), "best validation\naccuracy"])
    axes.set(yticks=[], ylim=(OFF - 0.08 if unset else -0.08, 1.08), xlim=(-0.5, len(scales) + 0.35))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    handles, names = axes.get_legend_handles_labels()
    if not all(trial.finished for trial in trials):
        handles.append(Line2D([], [], color="0.4", linestyle="--"))
        names.append(UNFINISHED)
    axes.legend(handles, names, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    return figure


def _draw_lines(axes: Axes, scales: Sequence[Scale], trials: Sequence[Trial], colours: Normalize) -> None:
    """The trials' lines, the first in rank on top."""
    low, high, best = colours.vmin or 0.0, colours.vmax or 0.0, winner(trials)
    columns = [_heights(scale, trials) for scale in scales]
    for index in reversed(range(len(trials))):
        trial = trials[index]
        axes.plot(
            range(len(scales) + 1),
            [*(column[index] for column in columns), (trial.height - low) / ((high - low) or 1)],
            "-" if trial.finished else "--",
            color=WINNER if trial is best else colormaps[SEQUENTIAL](colours(trial.height)),
            linewidth=3 if trial is best else 1.2,
            alpha=1 if trial is best else 0.8,
            label=named(trial) if trial is best else None,
        )


def _draw_axes(axes: Axes, scales: Sequence[Scale], trials: Sequence[Trial]) -> bool:
    """An upright axis a setting with its values; whether some trial lacks a setting."""
    on_lines: dict[str, Any] = {"textcoords": "offset points", "bbox": {"color": "white", "alpha": 0.8, "pad": 1}}
    unset = False
    for number, scale in enumerate(scales):
        axes.axvline(number, color="0.7", linewidth=1, zorder=0)
        marks = scale.marks()
        if len(having(trials, scale.key)) < len(trials):
            marks, unset = [*marks, (OFF, "not set")], True
        for share, text in marks:
            axes.annotate(text, (number, share), (-4, 0), ha="right", va="center", **on_lines)
    return unset


def _mark_accuracy(axes: Axes, place: int, low: float, high: float) -> None:
    """The last axis."""
    axes.axvline(place, color="0.7", linewidth=1, zorder=0)
    for share in (0, 0.5, 1):
        text = f"{low + share * (high - low):.4f}"
        axes.annotate(text, (place, share), (5, 0), textcoords="offset points", ha="left", va="center")


def _heights(scale: Scale, trials: Sequence[Trial]) -> np.ndarray:
    """How far up the axis of a setting each trial's line crosses it; lines of equal values lie side by side."""
    beside = np.linspace(-0.02, 0.02, len(trials))
    known = np.array([scale.key in trial.searched for trial in trials])
    shares = scale.shares([trial.searched[scale.key] for trial in having(trials, scale.key)])
    heights = OFF + beside
    heights[known] = shares + (beside[known] if scale.stepped else 0)
    return heights
