"""A stage -> cells (one trial's settings each) -> groups (cells that train together)."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from core.config import Architecture, Settings, parse_filters
from core.data import Dataset
from core.errors import InputError
from sweep.experiment import Experiment, Range, Stage, Value
from sweep.study import draw


@dataclass(frozen=True)
class Cell:
    """One trial of the plan.

    index     from 1, in the plan's order
    searched  what this stage searches over, for names and tables
    key       identifies the result: hash of all settings and of the data. The same cell in another plan of the
              same stage has the same key, so it is never trained twice.
    """

    stage: str
    index: int
    searched: dict[str, Value]
    settings: Settings
    key: str

    @property
    def label(self) -> str:
        """Like "grid-07"."""
        return f"{self.stage}-{self.index:02d}"

    @property
    def name(self) -> str:
        """Like "grid-07 lr=0.01 reg=0.005 32x64"."""
        return " ".join([self.label, *(_readable(*item) for item in self.searched.items())])


def _readable(key: str, value: Value) -> str:
    if key == "filters":
        return str(value)
    return f"{key}={value:.6g}" if isinstance(value, float) else f"{key}={value}"


def cells(
    experiment: Experiment, stage: Stage, inherited: Mapping[str, Value], data: Dataset, points: Sequence[str] = ()
) -> list[Cell]:
    """The stage's plan: the grid's cells or the random draws, then the named fixed points; no cell twice."""
    found: dict[str, Cell] = {}
    for searched in _searched(experiment, stage, points):
        values: dict[str, Any] = {"seed": experiment.seed, **stage.settings, **inherited, **searched}
        settings = Settings(**values)
        architecture(settings, data)  # raises InputError where the images are too small
        key = cell_key(settings, data, experiment.seed)
        found.setdefault(key, Cell(stage.name, len(found) + 1, searched, settings, key))
    return list(found.values())


def _searched(experiment: Experiment, stage: Stage, points: Sequence[str]) -> list[dict[str, Any]]:
    named: list[dict[str, Any]] = []
    for name in points:
        if name not in stage.points:
            known = ", ".join(stage.points) or "none"
            raise InputError(f'stage {stage.name} has no points called "{name}"; there are: {known}')
        named += stage.points[name]
    if stage.sampler == "grid":
        choices = [values for values in stage.space.values() if not isinstance(values, Range)]
        return [dict(zip(stage.space, values, strict=True)) for values in itertools.product(*choices)] + named
    return draw(stage.space, stage.trials, experiment.seed) + named


def cell_key(settings: Settings, data: Dataset, data_seed: int) -> str:
    """Hash of everything that decides a trial's result, but the code: 16 hexadecimal digits."""
    content = asdict(settings) | {"data": data.sha256, "data_seed": data_seed}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def architecture(settings: Settings, data: Dataset) -> Architecture:
    """The network these settings ask for on these images."""
    _, *shape = data.x.shape
    return Architecture((shape[0], shape[1], shape[2]), parse_filters(settings.filters), len(data.classes))


def groups(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Cells that can train as one group: same architecture and batch size. In the plan's order."""
    found: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells:
        found.setdefault((cell.settings.filters, cell.settings.batch_size), []).append(cell)
    return list(found.values())
