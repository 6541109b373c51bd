"""A stage of an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from core.config.settings import Settings
from core.project import root
from sweep.experiment.checks import Value
from sweep.experiment.pruner import Pruner
from sweep.experiment.sampler import SAMPLERS
from sweep.experiment.space import Range, Space


@dataclass(frozen=True)
class Budget:
    """What a stage may spend on training; None: no limit. Trials still training when it is spent end there."""

    minutes: float | None = None
    epochs: int | None = None  # over all trials

    def spent(self, seconds: float, epochs: int) -> str:
        """Which limit is reached, in words; "" if none is."""
        if self.minutes is not None and seconds >= 60 * self.minutes:
            return f"the stage's {self.minutes:g} minutes of training are spent"
        if self.epochs is not None and epochs >= self.epochs:
            return f"the stage's {self.epochs} epochs are spent"
        return ""


@dataclass(frozen=True)
class Stage:
    """One round of the search.

    space     what is searched
    settings  the same for all trials of the stage
    after     the stage whose winner gives the settings named in inherit
    trials    how many settings a sampler draws; a grid has all of its own
    at_once   how many an adaptive sampler is asked for at a time; they train together
    points    named sets of fixed points that can be asked for beside the draws
    seeds     trains each setting so many times, from seeds that follow each other
    pruner    which trials end early for doing worse than others; None: none
    budget    what the stage may spend
    retries   how often a trial that diverged is trained again, each time from another seed
    """

    name: str
    sampler: str
    space: Space
    settings: dict[str, Value]
    after: str | None = None
    inherit: tuple[str, ...] = ()
    trials: int = 0
    at_once: int = 0
    points: Mapping[str, tuple[dict[str, Value], ...]] = field(default_factory=dict)
    seeds: int = 1
    pruner: Pruner | None = None
    budget: Budget = Budget()
    retries: int = 0

    @property
    def adaptive(self) -> bool:
        """Whether the sampler learns from what came out."""
        return SAMPLERS[self.sampler].adaptive

    @property
    def every_point(self) -> list[dict[str, Value]]:
        """The points of all names, in their order."""
        return [point for named in self.points.values() for point in named]

    def reopens(self, status: str) -> bool:
        """Whether a trial that ended so is to be trained again: the budget, or the pruner, is not what ended it now."""
        return status == "cut" or (status == "pruned" and self.pruner is None)

    @property
    def longest_training(self) -> int:
        """The most epochs that a trial of the stage may have."""
        return most_epochs(self.space, self.settings)


@dataclass(frozen=True)
class Experiment:
    """A whole file. text is kept so that it can be stored with the runs; overrides are what a command line replaced."""

    name: str
    path: Path
    text: str
    seed: int
    data: str | None
    data_dir: str | None
    backend: str | None
    precision: str | None
    stages: dict[str, Stage]
    overrides: Mapping[str, Value] = field(default_factory=dict)

    @property
    def called(self) -> str:
        """What a command line calls it by, whatever the current folder: see find."""
        known = self.path.resolve() == root() / "experiments" / f"{self.name}.toml"
        return self.name if known else str(self.path.absolute())


def most_epochs(space: Space, fixed: Mapping[str, Value]) -> int:
    """The largest number of epochs that a trial of this space can have."""
    searched = space.dimensions.get("epochs", ())
    epochs = [*(searched.ends if isinstance(searched, Range) else searched)]
    if not epochs or "epochs" in space.conditions:
        epochs.append(fixed.get("epochs", Settings.epochs))
    return max(int(value) for value in epochs)
