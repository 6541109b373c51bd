"""A group in training."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from core.training.progress import Metrics
from sweep.executors.base import GroupTask
from sweep.search.cell import Cell

if TYPE_CHECKING:
    from optuna import Trial


class Group:
    """The trials that train together: their cells, and where they are recorded. Trials go by their index in it.

    number         from 1, of the stage's groups
    groups         how many those are; None: that is not known
    run_ids        the trials' runs in MLflow
    optuna_trials  of each setting that is not done, by the cells' index
    task           what the executor is given
    active         the trials that have not ended
    accuracies     each trial's on the validation data, after its last epoch
    """

    def __init__(
        self,
        number: int,
        groups: int | None,
        cells: Sequence[Cell],
        run_ids: Sequence[str],
        optuna_trials: Mapping[int, Trial],
        task: GroupTask,
    ) -> None:
        self.number, self.groups, self.cells, self.run_ids = number, groups, list(cells), run_ids
        self.optuna_trials, self.task = optuna_trials, task
        results = task.start.results if task.start else ()
        self.active = set(task.start.active if task.start else range(len(cells)))
        self.accuracies = [result.history[-1]["val_accuracy"] for result in results] or [0.0] * len(cells)

    def take(self, metrics: Mapping[int, Metrics]) -> None:
        """Take in what trials reached in an epoch."""
        for index, values in metrics.items():
            self.accuracies[index] = values["val_accuracy"]

    def leave(self, indices: Collection[int]) -> None:
        """These trials have ended."""
        self.active -= set(indices)

    def accuracies_of(self, setting: int) -> list[float]:
        """Of the trials of a setting, by the cells' index."""
        return [value for cell, value in zip(self.cells, self.accuracies, strict=True) if cell.index == setting]
