"""A trial of a plan, and its key."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from core.config.settings import Settings
from core.data.dataset import Dataset
from core.text import as_toml
from sweep.experiment.checks import Value


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
    return str(value) if key == "filters" else f"{key}={as_toml(value)}"


def cell_key(settings: Settings, data: Dataset, data_seed: int) -> str:
    """Hash of everything that decides a trial's result, but the code: 16 hexadecimal digits."""
    content = settings.effective() | {"data": data.sha256, "data_seed": data_seed}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
