"""A stage -> cells (one trial's settings each) -> groups (cells that train together)."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from core.config.settings import Settings
from core.data.dataset import Dataset
from core.errors import InputError
from core.training.augment import check_fits
from sweep.experiment.checks import Value
from sweep.experiment.stage import Experiment, Stage
from sweep.search.cell import Cell, cell_key
from sweep.search.grouping import architecture
from sweep.search.samplers import draw

_RETRY = 10_000  # between the seeds of a cell's attempts: more than a stage may have seeds


def settings(experiment: Experiment, stage: Stage) -> list[dict[str, Value]]:
    """What a stage is known to search before it runs: the grid, or the draws of a sampler that does not learn."""
    if stage.sampler == "grid":
        return list(stage.space.combinations())
    return [] if stage.adaptive else draw(stage, experiment.seed)


def named(stage: Stage, points: Iterable[str]) -> list[dict[str, Value]]:
    """The stage's fixed points of these names. Raises InputError if it has none of a name."""
    found: list[dict[str, Value]] = []
    for name in points:
        if name not in stage.points:
            known = ", ".join(stage.points) or "none"
            raise InputError(f'stage {stage.name} has no points called "{name}"; there are: {known}')
        found += stage.points[name]
    return found


def cells(
    experiment: Experiment,
    stage: Stage,
    inherited: Mapping[str, Value],
    data: Dataset,
    searched: Sequence[dict[str, Value]],
    diverged: Container[str] = (),
) -> list[Cell]:
    """A cell for each setting and seed, numbered in this order; none twice.

    diverged  keys of cells that did: where the stage retries, one with another seed takes their place
    """
    found: dict[str, Cell] = {}
    for setting in searched:
        values: dict[str, Any] = {**stage.settings, **inherited, **setting}
        index = len(found) // stage.seeds + 1
        for number in range(stage.seeds):
            trial = Settings(**values, seed=experiment.seed + number)
            check(trial, data)
            key, attempt = cell_key(trial, data, experiment.seed), 0
            while key in diverged and attempt < stage.retries:
                attempt += 1
                trial = replace(trial, seed=experiment.seed + number + attempt * _RETRY)
                key = cell_key(trial, data, experiment.seed)
            replicate = number + 1 if stage.seeds > 1 else 0
            found.setdefault(key, Cell(stage.name, index, setting, trial, key, replicate, attempt))
    return list(found.values())


def check(settings: Settings, data: Dataset) -> None:
    """Raise InputError if these images do not allow the settings."""
    check_fits(settings, architecture(settings, data).input_shape)
