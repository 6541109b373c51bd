"""How trainings went, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from core.figures.style import LEVELS, OTHER, TRAIN, VALIDATION, WINNER, blank, count_epochs


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
            axes.plot(epochs, [row[f"{part}_{quantity}"] for row in history], marker=".", color=colour, label=name)
        if best_epoch:
            axes.axvline(best_epoch, color="0.5", linestyle=":", label=f"best epoch, {best_epoch}")
        axes.set(ylabel=label)
        count_epochs(axes)
        axes.legend()
    return figure


def overlay(accuracies: Mapping[str, Sequence[float]], winner: str, title: str) -> Figure:
    """Validation accuracy by epoch of all trials of a stage, the winner's drawn bold.

    accuracies  by the trial's name: that of each epoch, from epoch 1
    """
    figure = blank(9, 4.5, title)
    axes = figure.subplots()
    for name, values in accuracies.items():
        if name != winner:
            axes.plot(range(1, len(values) + 1), values, color=OTHER, alpha=0.35, linewidth=1)
    best = accuracies[winner]
    axes.plot(range(1, len(best) + 1), best, color=WINNER, linewidth=2.5, marker=".", label=winner)
    axes.set(ylabel="validation accuracy")
    count_epochs(axes)
    handles = [axes.lines[-1]]
    if others := len(accuracies) - 1:
        handles.append(Line2D([], [], color=OTHER, alpha=0.35, label=f"{others} other trials"))
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
        for (name, history), colour in zip(histories.items(), cycle(LEVELS), strict=False):
            values = [row[key] for row in history]
            axes.plot(range(1, len(values) + 1), values, marker=".", color=colour, label=name)
        axes.set(ylabel=label)
        count_epochs(axes)
    figure.legend(handles=panels[0].lines, loc="outside lower center", ncols=2)
    return figure
