"""Pictures, drawn by matplotlib without a screen; python -m core.figures makes those that need no run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from core.errors import InputError, exit_status

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from core.init_study import InitStudy

TRAIN, VALIDATION = "#0072b2", "#d55e00"  # from the colour-blind-safe palette of Okabe & Ito (2008)
INITIALS = {  # colour, marker and name of each initialisation
    "he": (TRAIN, "o", "He"),
    "xavier": ("#009e73", "s", "Xavier"),
    "normal": (VALIDATION, "^", "small normal"),
}
COLUMNS = 8  # layers whose histograms are drawn
LARGEST = 10_000  # depth, width and number of images
SUFFIXES = (".png", ".svg")


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


def augmented(rows: Sequence[tuple[str, np.ndarray]], title: str) -> Figure:
    """Training images as they are, and as augmentation changes them: a column an image.

    rows  name and images (N, C, H, W) scaled to about [0, 1]; in colour if C is 3, else the first channel
    """
    count = len(rows[0][1])
    figure = Figure(figsize=(1.1 * count + 2.2, 1.15 * len(rows) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    grid = figure.subplots(len(rows), count, squeeze=False)
    for line, (name, images) in zip(grid, rows, strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for axes, image in zip(line, images, strict=True):
            pixels = image.transpose(1, 2, 0) if len(image) == 3 else image[0]
            axes.imshow(np.clip(pixels, 0, 1), cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
    return figure


def init_study(study: InitStudy, data: str) -> Figure:
    """Above, the activations' standard deviation by layer; below, histograms: a row a scheme, a column a layer.

    data  the name of what was pushed through
    """
    figure = Figure(figsize=(11, 8.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(
        f"Activations by layer: {study.width} filters of 3x3 pixels, then ReLU; no batch normalisation\n"
        f"{study.images} images of {data}"
    )
    parts = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.15), hspace=0.04)[:, 0]
    _spreads(parts[0].subplots(), study)
    _histograms(parts[1], study)
    return figure


def _spreads(axes: Axes, study: InitStudy) -> None:
    for t in np.argsort(-study.spread[:, -1]):  # the legend in the order in which the lines end
        colour, marker, name = INITIALS[study.schemes[t]]
        label = f"{name}\n{_factor(study.spread[t])}"
        axes.plot([1, *study.spread[t]], color=colour, marker=marker, linewidth=2, label=label)
    axes.set(yscale="log", xlabel="layer (0: the input)", ylabel="standard deviation\n(input: 1)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, labelspacing=1.2)


def _factor(spread: np.ndarray) -> str:
    """What a layer does to the spread, on average over those that follow the first."""
    if len(spread) == 1 or not spread.all():
        return f"ends at {spread[-1]:.2g}"
    return f"\u00d7{(spread[-1] / spread[0]) ** (1 / (len(spread) - 1)):.2f} a layer"


def _histograms(figure: SubFigure, study: InitStudy) -> None:
    depth = study.spread.shape[1]
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


def save(figure: Figure, path: Path) -> None:
    """Write the figure in the format of its suffix, a PNG with 120 dots an inch."""
    figure.savefig(path, dpi=120)


class _Parser(argparse.ArgumentParser):
    """One whose complaints are one line, as those of all that comes after it."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; `{self.prog} --help` tells more")


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    top = _Parser(
        prog="python -m core.figures",
        description="Draw a figure that needs no run.",
        epilog="exit status: 0 done, 1 failed, 2 wrong use or input, 130 interrupted",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    study = commands.add_parser("init-study", help="spread of activations, layer by layer, under each initialisation")
    study.add_argument("--data", help="cifar10, digits, a file.npz, or auto (CIFAR-10 if found, else digits)")
    study.add_argument("--data-dir", metavar="DIR", help="where cifar-10-batches-py is (else $CIFAR10_DIR, data/)")
    threads = os.environ.get("SWEEP_THREADS") or None
    study.add_argument("--threads", default=threads, metavar="N", help="to compute on (default: every core there is)")
    study.add_argument("--depth", type=int, default=8, help="convolutions (default: %(default)s)")
    study.add_argument("--width", type=int, default=32, help="filters of each (default: 32)")
    study.add_argument("--images", type=int, default=128, help="pushed through, if there are so many (default: 128)")
    study.add_argument("--seed", type=int, default=0, help="of the weights and the choice of images (default: 0)")
    study.add_argument(
        "--out", default="figures/init-study.png", metavar="FILE", help="a .png or .svg (default: %(default)s)"
    )
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""

    def command() -> int:
        options = parser().parse_args(arguments)
        {"init-study": _init_study}[options.command](options)
        return 0

    return exit_status(command)


def _init_study(options: argparse.Namespace) -> None:
    from core import data, ops, threads
    from core import init_study as numbers
    from core.batches import Images, shuffled_batches
    from core.config import check_setting
    from core.project import expand

    for name in ("depth", "width", "images"):
        if not 1 <= (value := getattr(options, name)) <= LARGEST:
            raise InputError(f"--{name} is {value}: it must be a whole number from 1 to {LARGEST}")
    check_setting("seed", options.seed)
    threads.use(options.threads)
    path = expand(options.out)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"--out is {path}: it must end in {' or '.join(SUFFIXES)}")
    found = data.load(options.data, options.data_dir)
    print(data.describe(found), file=sys.stderr)
    backend = ops.load()
    images = Images.on_device(backend, found.x, found.y, found.scale)
    x, _ = images.batch(next(shuffled_batches(len(images), options.images, options.seed, 0)))
    study = numbers.init_study(backend, x, depth=options.depth, width=options.width, seed=options.seed)
    _write(init_study(study, found.name), path)
    print(path)
    print("layer", *(f"{scheme:>9}" for scheme in study.schemes))
    for layer, spread in enumerate(study.spread.T, start=1):
        print(f"{layer:5}", *(f"{value:9.3g}" for value in spread))
    sys.stdout.flush()  # a reader that has left is noticed here, not when Python ends


def _write(figure: Figure, path: Path) -> None:
    """Save, in a folder made if it is missing. Raises InputError if that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(figure, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None


if __name__ == "__main__":
    sys.exit(main())
