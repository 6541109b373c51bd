"""What all runs of a sweep tell of where they are from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from core.data.dataset import Dataset
from core.evaluate.metrics import LargestClass, largest_in_validation
from core.machine.environment import environment
from core.machine.origin import origin
from core.ops import Ops
from core.tracking import tags
from sweep.experiment.stage import Experiment


@dataclass(frozen=True)
class Provenance:
    """An experiment on a data set, and the project folder, machine, code and packages that train it.

    owner        tells the runs of this project folder from those of others
    environment  see core.machine.environment
    origin       see core.machine.origin
    """

    experiment: Experiment
    data: Dataset
    owner: str
    environment: dict[str, str]
    origin: dict[str, str]

    @classmethod
    def here(cls, experiment: Experiment, data: Dataset, ops: Ops, owner: str) -> Provenance:
        """That of this process."""
        return cls(experiment, data, owner, environment(ops.name, ops.device, ops.precision), origin())

    @cached_property
    def largest(self) -> LargestClass:
        """The largest class of the validation images, whose share any accuracy is held to."""
        return largest_in_validation(self.data, self.experiment.seed)

    def tags(self, kind: str, stage: str) -> dict[str, str]:
        """The tags of a run of this kind of the stage's."""
        about = {tags.KIND: kind, tags.STAGE_NAME: stage, tags.OWNER: self.owner}
        about |= {tags.DATA_SEED: str(self.experiment.seed), tags.DATA_NAME: self.data.name}
        about |= {tags.DATA_SOURCE: self.data.source, tags.DATA_SHA256: self.data.sha256}
        about |= {tags.LARGEST_CLASS: self.largest.describe()}
        return about | self.environment | self.origin
