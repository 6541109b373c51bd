"""Settings of a stage that come to the same training: how many, and why."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

from core.config.settings import Settings
from core.data.dataset import Dataset
from core.text import as_toml
from sweep.experiment.sampler import SAMPLERS
from sweep.experiment.stage import Stage
from sweep.search import grouping
from sweep.search.cell import Cell


def effective_training(settings: Settings, data: Dataset) -> Hashable:
    """What the training on these data goes by: equal for settings that give the same curve, whatever their keys."""
    meant = replace(settings, **{name: by(settings, data) for name, by in _MEANING.items()})
    return tuple(meant.effective().items())


def duplicate_notes(stage: Stage, asked: int, cells: Sequence[Cell], data: Dataset) -> list[str]:
    """What there is to know of a stage's settings that are the same training, a line each.

    asked  how many combinations, draws or proposals there are
    cells  of those, one for each that is trained
    """
    idle = idle_settings(cells)
    lines = []
    if asked > len(cells):
        noun = SAMPLERS[stage.sampler].noun
        trainings = "the same training" if len(cells) == 1 else f"{len(cells)} different trainings"
        lines.append(f"{stage.name}: {asked} {noun} are {trainings}" + (f": {idle}" if idle else ""))
    elif idle and stage.adaptive:
        lines.append(f"{stage.name}: {idle}; with `when`, {stage.sampler} searches it only where it does something")
    return lines + [f"{stage.name}: {line}" for line in _twins(cells, data)]


def idle_settings(cells: Sequence[Cell]) -> str:
    """Like "momentum and nesterov do nothing with adam"; "" where all that is searched does something everywhere."""
    found: dict[str, dict[str, None]] = {}  # by setting the values, in their order, with which it does nothing
    for cell in cells:
        for key, other in cell.settings.idle().items():
            if key in cell.point:
                found.setdefault(key, {})[str(getattr(cell.settings, other))] = None
    alike: dict[tuple[str, ...], list[str]] = {}
    for key, values in found.items():
        alike.setdefault(tuple(values), []).append(key)
    return "; ".join(
        f"{_listed(keys)} {'do' if len(keys) > 1 else 'does'} nothing with {_listed(values, 'or')}"
        for values, keys in alike.items()
    )


def _listed(names: Sequence[str], last: str = "and") -> str:
    """Like "a, b and c"."""
    return f" {last} ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _batch_size(settings: Settings, data: Dataset) -> int:
    """As many as make one batch of all images; see core.training.batches."""
    return min(settings.batch_size, max(2, data.training_images - 1))


def _pool(settings: Settings, data: Dataset) -> str:
    blocks = [layer for layer in grouping.architecture(settings, data).layers if layer.ends_block]
    return "/".join("yes" if layer.pool > 1 else "no" for layer in blocks)


# Settings whose values may come to the same: what a value means in a trial, and what is said where two mean the same.
_MEANING: dict[str, Callable[[Settings, Dataset], Any]] = {
    "batch_size": _batch_size,
    "pool": _pool,
    "nesterov": lambda settings, data: settings.nesterov and settings.momentum > 0,
    "patience": lambda settings, data: min(settings.patience, settings.epochs),
}
_WHY = {
    "batch_size": "one batch of all {images} training images",
    "pool": "the same network on these images",
    "nesterov": "without momentum there is nothing to look ahead by",
    "patience": "no trial has more epochs",
}


def _twins(cells: Sequence[Cell], data: Dataset) -> list[str]:
    """Of cells that are the same training, which values of which setting."""
    by_training: dict[Hashable, list[Cell]] = {}
    for cell in cells:
        by_training.setdefault(effective_training(cell.settings, data), []).append(cell)
    found: dict[str, dict[str, None]] = {}
    for same in by_training.values():
        for key in _MEANING:
            values = [as_toml(cell.searched[key]) for cell in same if key in cell.searched]
            if len(set(values)) > 1:
                found.setdefault(key, {}).update(dict.fromkeys(values))
    return [
        f"{key} {_listed(list(values))} are the same training "
        f"({_WHY[key].format(images=data.training_images)}); each is trained"
        for key, values in found.items()
    ]
