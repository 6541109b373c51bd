"""What a stage of a search has found: accuracy by what was searched."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from core.figures.style import LEVELS, MUTED, OTHER, SEQUENTIAL, WINNER, blank, logarithmic
from core.figures.training import overlay

FEW = 12  # a setting with at most so many values has levels, else it is a range
DECADES = 100  # a range that spans more is drawn on a logarithmic axis
ACCURACY = "best validation accuracy"


@dataclass(frozen=True)
class Trial:
    """A trial of a stage, as pictures need it.

    searched  its values of what the stage searched; of a conditional setting only where it has one
    accuracy  the best on the validation data; None if no epoch was finite
    curve     validation accuracy by epoch, from 1
    fixed     its values were asked for, not drawn by a sampler
    """

    name: str
    searched: Mapping[str, Any]
    accuracy: float | None
    curve: Sequence[float]
    fixed: bool = False


def levels(trials: Sequence[Trial]) -> dict[str, list[Any]]:
    """What was searched, and the values that occur, numbers in their order; settings that never differ are left out."""
    found: dict[str, list[Any]] = {}
    for key in dict.fromkeys(key for trial in trials for key in trial.searched):
        values = list(dict.fromkeys(trial.searched[key] for trial in trials if key in trial.searched))
        if len(values) > 1:
            found[key] = sorted(values, key=_order)
    return found


def _order(value: Any) -> tuple[Any, ...]:
    """Numbers by size, texts by the numbers in them: 8x8 comes before 16x32."""
    if _is_number(value):
        return (value,)
    return ([int(number) for number in re.findall(r"\d+", str(value))], str(value))


def _accuracy(trial: Trial) -> float:
    return float("nan") if trial.accuracy is None else trial.accuracy


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def pictures(trials: Sequence[Trial], title: str) -> dict[str, Figure]:
    """All pictures that say something about these trials, best first, by name."""
    found = {"curves": overlay({trial.name: trial.curve for trial in trials}, trials[0].name, title)}
    trials = [trial for trial in trials if trial.accuracy is not None]
    dimensions = levels(trials)
    numbers = [key for key, values in dimensions.items() if all(map(_is_number, values))]
    stepped = [key for key, values in dimensions.items() if len(values) <= FEW]
    if dimensions.keys() == set(numbers) and len(numbers) == 1:
        found["by-value"] = by_value(trials, title)
    if len(dimensions) > 1:
        found["main-effects"] = main_effects(trials, title)
        found["parallel"] = parallel(trials, title)
    if len(stepped) > 1:
        found["heat-maps"] = heat_maps(trials, title)
    if len(numbers) > 1:
        found["surface"] = surface(trials, title)
    return found


def by_value(trials: Sequence[Trial], title: str) -> Figure:
    """Accuracy by the only number that was searched: bars for fixed points, points for draws."""
    ((key, values),) = levels(trials).items()
    figure = blank(8, 4.4, title)
    axes = figure.subplots()
    accuracies = [_accuracy(trial) for trial in trials]
    spread = max(accuracies) - min(accuracies)
    floor = max(0.0, min(accuracies) - 0.25 * (spread or 0.1))
    fixed, drawn = ([trial for trial in trials if trial.fixed is kind] for kind in (True, False))
    if fixed:
        heights = [_accuracy(trial) - floor for trial in fixed]
        width = (values[-1] - values[0]) / 25
        bars = axes.bar([t.searched[key] for t in fixed], heights, width, floor, color=MUTED, label="fixed points")
        axes.bar_label(bars, [f"{trial.accuracy:.4f}" for trial in fixed], padding=9, fontsize="small")
    if drawn:
        where = [trial.searched[key] for trial in drawn]
        axes.plot(where, [_accuracy(trial) for trial in drawn], "o", color=OTHER, label="random draws")
    best = trials[0]
    label = f"the best: {key} {best.searched[key]:.4g}, {best.accuracy:.4f}"
    axes.plot(best.searched[key], _accuracy(best), "*", color=WINNER, markersize=15, label=label)
    if values[0] > 0 and values[-1] > DECADES * values[0]:
        logarithmic(axes, "x")
    axes.set(xlabel=key, ylabel=ACCURACY, ylim=(floor, max(accuracies) + 0.3 * (spread or 0.1)))
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    return figure


def main_effects(trials: Sequence[Trial], title: str) -> Figure:
    """A panel for each setting: every trial's accuracy at its value, and the mean of each level."""
    dimensions = levels(trials)
    columns = min(3, len(dimensions))
    rows = -(-len(dimensions) // columns)
    figure = blank(4 * columns + 0.6, 3.2 * rows + 0.6, title)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes in grid.ravel()[len(dimensions) :]:
        axes.set_axis_off()
    for axes, (key, values) in zip(grid.ravel(), dimensions.items(), strict=False):
        having = [trial for trial in trials if key in trial.searched]
        accuracies = np.array([_accuracy(trial) for trial in having])
        scale = _Scale(key, values)
        x = scale.places([trial.searched[key] for trial in having])
        axes.plot(x, accuracies, ".", color=OTHER, alpha=0.5)
        if scale.stepped:
            means = [accuracies[x == place].mean() for place in range(len(values))]
            axes.plot(range(len(values)), means, "D-", color="black", markersize=5, linewidth=1)
        axes.plot(x[:1], accuracies[:1], "*", color=WINNER, markersize=13)
        scale.label(axes, "x")
        axes.margins(x=0.12)  # else the labels of neighbouring panels meet
        axes.grid(axis="y", alpha=0.3)
    for line in grid:
        line[0].set_ylabel(ACCURACY)
    best = Line2D([], [], color=WINNER, marker="*", markersize=11, linestyle="", label=f"the best: {trials[0].name}")
    mean = Line2D([], [], color="black", marker="D", markersize=5, linewidth=1, label="mean of the level")
    handles = [Line2D([], [], color=OTHER, marker=".", linestyle="", label="a trial"), best]
    if any(len(axes.lines) == 3 for axes in figure.axes):
        handles.append(mean)
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def heat_maps(trials: Sequence[Trial], title: str) -> Figure:
    """Accuracy by two settings, a panel for each value of a third; the best of several trials in one place."""
    dimensions = {key: values for key, values in levels(trials).items() if len(values) <= FEW}
    down, across, panel = _axes_of(dimensions, FEW)
    panels = dimensions[panel] if panel else [None]
    figure = blank(
        max(1.0 * len(dimensions[across]), 2.4) * len(panels) + 1.8, max(0.75 * len(dimensions[down]), 2) + 1.6, title
    )
    accuracies = [_accuracy(trial) for trial in trials]
    scale = Normalize(min(accuracies), max(accuracies))
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, value in zip(grid, panels, strict=True):
        cells = np.full((len(dimensions[down]), len(dimensions[across])), np.nan)
        for trial in reversed(trials):  # the best comes last, and stays
            if trial.searched.get(panel or "") == value and {down, across} <= trial.searched.keys():
                place = tuple(dimensions[key].index(trial.searched[key]) for key in (down, across))
                cells[place] = np.fmax(cells[place], _accuracy(trial))
        picture = axes.imshow(cells, cmap=SEQUENTIAL, norm=scale, aspect="auto")
        for (row, column), accuracy in np.ndenumerate(cells):
            known = np.isfinite(accuracy)
            best = known and accuracy == scale.vmax
            axes.text(
                *(column, row, f"{accuracy:.4f}" if known else "\u2013"),
                ha="center",
                va="center",
                color="white" if known and scale(accuracy) < 0.6 else "black",
                fontweight="bold" if best else "normal",
            )
        axes.set_title(f"{panel} {_text(value)}" if panel else "")
        axes.set_xticks(range(len(dimensions[across])), map(_text, dimensions[across]))
        axes.set_xlabel(across)
    grid[0].set_yticks(range(len(dimensions[down])), map(_text, dimensions[down]))
    grid[0].set_ylabel(down)
    several = len(dimensions.keys() - {down, across, panel}) or len(levels(trials)) > len(dimensions)
    figure.colorbar(picture, ax=list(grid), label=f"{ACCURACY}{', the best in each place' if several else ''}")
    return figure


def _axes_of(dimensions: Mapping[str, Sequence[Any]], most: int) -> tuple[str, str, str | None]:
    """Two settings for the axes, numbers if there are such, and one of at most so many values for colours or panels."""
    first, second, *others = sorted(dimensions, key=lambda key: not all(map(_is_number, dimensions[key])))
    return first, second, next((key for key in others if len(dimensions[key]) <= most), None)


def surface(trials: Sequence[Trial], title: str) -> Figure:
    """Accuracy over two settings in three dimensions, a colour for each value of a third."""
    dimensions = levels(trials)
    across, deep, third = _axes_of(dimensions, len(LEVELS))
    figure = blank(8, 6.4, title)
    axes: Any = figure.add_subplot(projection="3d")
    scales = [_Scale(key, dimensions[key]) for key in (across, deep)]
    floor = min(_accuracy(trial) for trial in trials)
    for colour, value in zip(LEVELS, dimensions[third] if third else [None], strict=False):
        same = [t for t in trials if t.searched.get(third or "") == value and {across, deep} <= t.searched.keys()]
        x, y = (
            scale.places([trial.searched[key] for trial in same])
            for key, scale in zip((across, deep), scales, strict=True)
        )
        z = np.array([_accuracy(trial) for trial in same])
        for line in zip(x, y, z, strict=True):
            axes.plot(*([value, value] for value in line[:2]), [floor, line[2]], color=colour, alpha=0.25, linewidth=1)
        axes.plot(x, y, z, "o", color=colour, label=f"{third} {_text(value)}" if third else None)
        for fixed, other in ((x, y), (y, x)):
            for place in np.unique(fixed) if all(scale.stepped for scale in scales) else ():
                chosen = np.flatnonzero(fixed == place)
                chosen = chosen[np.argsort(other[chosen])]
                axes.plot(x[chosen], y[chosen], z[chosen], color=colour, alpha=0.6, linewidth=1)
    for scale, side in zip(scales, "xy", strict=True):
        scale.label(axes, side)
    axes.set_zlabel(ACCURACY, labelpad=8)
    best = trials[0]
    if {across, deep} <= best.searched.keys():
        place = [scale.places([best.searched[scale.key]]) for scale in scales]
        axes.plot(*place, [best.accuracy], "*", color=WINNER, markersize=16, label=f"the best: {best.name}")
    axes.legend(loc="upper left", bbox_to_anchor=(0, 1))
    axes.view_init(elev=22, azim=-60)
    axes.set_box_aspect(None, zoom=0.88)
    return figure


def parallel(trials: Sequence[Trial], title: str) -> Figure:
    """A line a trial through its value of each setting, to its accuracy, which also colours it; the best is bold."""
    dimensions = levels(trials)
    scales = [_Scale(key, values) for key, values in dimensions.items()]
    accuracies = np.array([_accuracy(trial) for trial in trials])
    low, high = accuracies.min(), accuracies.max()
    figure = blank(1.8 * len(scales) + 3.4, 4.6, title)
    axes = figure.subplots()
    colours = Normalize(low, high)
    jitter = np.linspace(-0.02, 0.02, len(trials))  # lines of equal values lie side by side
    for place in reversed(range(len(trials))):
        trial = trials[place]
        xs, ys = [], []
        for number, scale in enumerate(scales):
            if scale.key in trial.searched:
                xs.append(number)
                ys.append(scale.share(trial.searched[scale.key]) + (jitter[place] if scale.stepped else 0))
        best = place == 0
        share = (accuracies[place] - low) / ((high - low) or 1)
        axes.plot(
            [*xs, len(scales)],
            [*ys, share],
            color=WINNER if best else colormaps[SEQUENTIAL](colours(accuracies[place])),
            linewidth=3 if best else 1.2,
            alpha=1 if best else 0.8,
            label=f"the best: {trial.name}" if best else None,
        )
    on_lines: dict[str, Any] = {"textcoords": "offset points", "bbox": {"color": "white", "alpha": 0.8, "pad": 1}}
    for number, scale in enumerate(scales):
        axes.axvline(number, color="0.7", linewidth=1, zorder=0)
        for share, text in scale.marks():
            axes.annotate(text, (number, share), (-4, 0), ha="right", va="center", **on_lines)
    axes.axvline(len(scales), color="0.7", linewidth=1, zorder=0)
    for share in (0, 0.5, 1):
        text = f"{low + share * (high - low):.4f}"
        axes.annotate(text, (len(scales), share), (5, 0), textcoords="offset points", ha="left", va="center")
    axes.set_xticks(range(len(scales) + 1), [*dimensions, "best validation\naccuracy"])
    axes.set(yticks=[], ylim=(-0.08, 1.08), xlim=(-0.5, len(scales) + 0.35))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14))
    return figure


class _Scale:
    """Where the values of a setting lie on an axis: at equal distances if they are few, else by size."""

    def __init__(self, key: str, values: Sequence[Any]) -> None:
        self.key, self.values = key, list(values)
        self.stepped = len(values) <= FEW or not all(map(_is_number, values))
        self.logarithmic = not self.stepped and min(values) > 0 and max(values) > DECADES * min(values)

    def places(self, values: Sequence[Any]) -> np.ndarray:
        """Where on the axis these values are; the logarithm where the axis is logarithmic."""
        if self.stepped:
            return np.array([self.values.index(value) for value in values])
        numbers = np.array(values, float)
        return np.log10(numbers) if self.logarithmic else numbers

    def share(self, value: Any) -> float:
        """How far up the axis a value is, from 0 to 1."""
        low, high, place = self.places([self.values[0], self.values[-1], value])
        return float((place - low) / (high - low))

    def marks(self) -> list[tuple[float, str]]:
        """Shares of the axis and what to write there."""
        if self.stepped:
            return [(self.share(value), _text(value)) for value in self.values]
        middle = self.values[len(self.values) // 2]
        return [(self.share(value), f"{value:.3g}") for value in (self.values[0], middle, self.values[-1])]

    def label(self, axes: Any, side: str) -> None:
        """Name the axis, and mark the values on it."""
        if self.stepped:
            getattr(axes, f"set_{side}ticks")(range(len(self.values)), [_text(value) for value in self.values])
        elif self.logarithmic:
            low, high = np.log10([self.values[0], self.values[-1]])
            ticks = np.arange(np.ceil(low), np.floor(high) + 1)
            getattr(axes, f"set_{side}ticks")(ticks, [f"{10**tick:g}" for tick in ticks])
        getattr(axes, f"set_{side}label")(self.key)
