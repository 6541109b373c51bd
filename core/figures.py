"""Pictures of a run, drawn by matplotlib without a screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

TRAIN, VALIDATION = "#0072b2", "#d55e00"  # from the colour-blind-safe palette of Okabe & Ito (2008)


def curves(history: Sequence[dict[str, float]], best_epoch: int, title: str) -> Figure:
    """Loss and accuracy by epoch, training and validation, with the best epoch marked.

    history  each epoch's metrics, from epoch 1
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    epochs = range(1, len(history) + 1)
    for axes, quantity, label in zip(
        figure.subplots(1, 2), ("loss", "accuracy"), ("cross entropy", "accuracy"), strict=True
    ):
        for part, name, colour in (("train", "training", TRAIN), ("val", "validation", VALIDATION)):
            axes.plot(epochs, [row[f"{part}_{quantity}"] for row in history], marker=".", color=colour, label=name)
        if best_epoch:
            axes.axvline(best_epoch, color="0.5", linestyle=":", label=f"best epoch, {best_epoch}")
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def overlay(accuracies: Mapping[str, Sequence[float]], winner: str, title: str) -> Figure:
    """Validation accuracy by epoch of all trials of a stage, the winner's drawn bold.

    accuracies  by the trial's name: that of each epoch, from epoch 1
    """
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, values in accuracies.items():
        if name != winner:
            axes.plot(range(1, len(values) + 1), values, color=TRAIN, alpha=0.35, linewidth=1)
    best = accuracies[winner]
    axes.plot(range(1, len(best) + 1), best, color=VALIDATION, linewidth=2.5, marker=".", label=winner)
    axes.set(title=title, xlabel="epoch", ylabel="validation accuracy")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    handles = [axes.lines[-1]]
    if others := len(accuracies) - 1:
        handles.append(Line2D([], [], color=TRAIN, alpha=0.35, label=f"{others} other trials"))
    axes.legend(handles=handles, loc="lower right")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write the figure as a PNG of 120 dots an inch."""
    figure.savefig(path, dpi=120)
