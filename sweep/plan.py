"""A stage -> cells (one trial's settings each) -> groups (cells that train together)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Any

from core.augment import check_fits
from core.config import Architecture, Settings, parse_filters, parse_pool
from core.data import Dataset
from core.errors import InputError
from sweep.experiment import Experiment, Stage
from sweep.parsing import Value
from sweep.sampling import draw

_RETRY = 10_000  # between the seeds of a cell's attempts: more than a stage may have seeds
GROUPING = ("filters", "pool", "residual", "global_pool", "batch_size", "optimiser")  # equal in all trials of a group


@dataclass(frozen=True)
class Cell:
    """One trial of the plan.

    index      of its setting, from 1, in the plan's order
    point      in the stage's space, whole, as Optuna knows it; what is shown of it is searched
    key        identifies the result: hash of all settings and of the data. The same cell in another plan of the
               same stage has the same key, so it is never trained twice.
    replicate  from 1, of those that differ in their seed alone; 0: the stage has one seed
    attempt    from 1, of a cell that takes the place of one that diverged; 0: it is the first
    """

    stage: str
    index: int
    point: dict[str, Value]
    settings: Settings
    key: str
    replicate: int = 0
    attempt: int = 0

    @property
    def searched(self) -> dict[str, Value]:
        """What this stage searches over, for names, tables and pictures: without what does nothing in this trial."""
        idle = self.settings.idle()
        return {key: value for key, value in self.point.items() if key not in idle}

    @property
    def label(self) -> str:
        """Like "grid-07", "grid-07.2" for the second seed, or "grid-07r1" for the first retry."""
        seed, again = (f".{self.replicate}" if self.replicate else ""), (f"r{self.attempt}" if self.attempt else "")
        return f"{self.stage}-{self.index:02d}{seed}{again}"

    @property
    def name(self) -> str:
        """Like "grid-07 lr=0.01 reg=0.005 32x64"; the label alone where nothing that is searched does anything."""
        return f"{self.label} {self.setting}".rstrip()

    @property
    def setting(self) -> str:
        """Like "lr=0.01 reg=0.005 32x64"."""
        return " ".join(_readable(*item) for item in self.searched.items())


def _readable(key: str, value: Value) -> str:
    if key == "filters":
        return str(value)
    return f"{key}={value:.6g}" if isinstance(value, float) else f"{key}={str(value).lower()}"


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


def cell_key(settings: Settings, data: Dataset, data_seed: int) -> str:
    """Hash of everything that decides a trial's result, but the code: 16 hexadecimal digits."""
    content = settings.effective() | {"data": data.sha256, "data_seed": data_seed}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def by_setting(cells: Sequence[Cell]) -> list[list[Cell]]:
    """The cells that differ in their seed alone, together."""
    found: dict[int, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.index, []).append(cell)
    return list(found.values())


def architecture(settings: Settings, data: Dataset) -> Architecture:
    """The network these settings ask for on these images."""
    _, channels, height, width = data.x.shape
    return Architecture(
        (channels, height, width),
        parse_filters(settings.filters),
        len(data.classes),
        parse_pool(settings.pool),
        settings.residual,
        settings.global_pool,
    )


def group_name(settings: Settings) -> str:
    """What a group is called: "32x64", with whatever else sets it apart from the report's."""
    parts = [settings.filters]
    parts += [name.replace("_", " ") for name in ("residual", "global_pool") if getattr(settings, name)]
    parts += [f"pool {settings.pool}"] if settings.pool != Settings.pool else []
    parts += [settings.optimiser] if settings.optimiser != Settings.optimiser else []
    parts += [f"batch {settings.batch_size}"] if settings.batch_size != Settings.batch_size else []
    return ", ".join(parts)


def groups(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Cells that can train as one group: same architecture, batch size and optimiser. In the plan's order."""
    found: dict[tuple[Value, ...], list[Cell]] = {}
    for cell in cells:
        found.setdefault(tuple(getattr(cell.settings, name) for name in GROUPING), []).append(cell)
    return list(found.values())


def parts(group: Sequence[Cell], count: int) -> list[list[Cell]]:
    """The group cut into so many parts of equally many settings, give or take one."""
    settings = by_setting(group)
    cuts = [len(settings) * number // count for number in range(count + 1)]
    return [list(chain(*settings[start:stop])) for start, stop in pairwise(cuts)]
