"""How trainings went, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, product

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from core.figures.style import LEVELS, OTHER, TRAIN, VALIDATION, WINNER, blank, count_epochs, short

DOTTED = 100  # epochs: of more, dots would be one thick line
POINTS = 20_000  # of curves that an SVG has as lines: of more, as an image


def curves(history: Sequence[dict[str, float]], best_epoch: int, title: str) -> Figure:
    """Loss and accuracy by epoch, training and validation, with the best epoch marked.

    history  each epoch's metrics, from epoch 1
    """
    figure = blank(9, 3.6, title, layout=None)  # the same for all trials of a sweep: to find it each time is slow
    figure.subplots_adjust(left=0.07, right=0.985, bottom=0.15, top=0.88, wspace=0.18)
    epochs = range(1, len(history) + 1)
    for axes, quantity, label in zip(
        figure.subplots(1, 2), ("loss", "accuracy"), ("cross entropy", "accuracy"), strict=True
    ):
        for part, name, colour in (("train", "training", TRAIN), ("val", "validation", VALIDATION)):
            values = [row[f"{part}_{quantity}"] for row in history]
            axes.plot(epochs, values, marker=_dots(values), color=colour, label=name)
        if best_epoch:
            axes.axvline(best_epoch, color="0.5", linestyle=":", label=f"best epoch, {best_epoch}")
        axes.set(ylabel=label)
        count_epochs(axes)
        axes.legend()
    return figure


def _dots(values: Sequence[float]) -> str:
    return "." if len(values) <= DOTTED else ""


def overlay(accuracies: Mapping[str, Sequence[float]], winner: str | None, title: str) -> Figure:
    """Validation accuracy by epoch of all trials of a stage, the winner's drawn bold, if there is one.

    accuracies  by the trial's name: that of each epoch, from epoch 1
    """
    figure = blank(9, 4.5, title)
    axes = figure.subplots()
    as_image = sum(map(len, accuracies.values())) > POINTS
    others = [values for name, values in accuracies.items() if name != winner]
    for values in others:
        axes.plot(range(1, len(values) + 1), values, color=OTHER, alpha=0.35, linewidth=1, rasterized=as_image)
        axes.lines[-1].set_marker("." if len(values) == 1 else "")
    handles = []
    if winner is not None:
        best = accuracies[winner]
        handles = axes.plot(range(1, len(best) + 1), best, marker=_dots(best), color=WINNER, linewidth=2.5)
        handles[0].set_label(short(winner))
    axes.set(ylabel="validation accuracy")
    count_epochs(axes)
    if others:
        label = f"{len(others)} other trials" if handles else f"{len(others)} trials"
        handles.append(Line2D([], [], color=OTHER, alpha=0.35, label=label))
    axes.legend(handles=handles, loc="lower right")
    return figure


def side_by_side(histories: Mapping[str, Sequence[Mapping[str, float]]], title: str) -> Figure:
    """Validation loss and accuracy by epoch of a few trials, a colour each.

    histories  by the trial's name: each epoch's metrics, from epoch 1
    """
    figure = blank(9, 4 + 0.2 * len(histories), title)
    panels = figure.subplots(1, 2)
    for axes, key, label in zip(
        panels, ("val_loss", "val_accuracy"), ("validation cross entropy", "validation accuracy"), strict=True
    ):
        styles = cycle(product(("-", "--"), LEVELS))  # a colour again is a line of another kind
        for (name, history), (line, colour) in zip(histories.items(), styles, strict=False):
            values = [row[key] for row in history]
            axes.plot(range(1, len(values) + 1), values, line, marker=_dots(values), color=colour)
            axes.lines[-1].set_label(short(name, 40))
        axes.set(ylabel=label)
        count_epochs(axes)
    figure.legend(handles=panels[0].lines, loc="outside lower center", ncols=2)
    return figure
