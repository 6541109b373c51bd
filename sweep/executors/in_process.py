"""Trains in this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from core import ops
from core.data.images import Images
from core.training.loop import train_group
from core.training.progress import EpochReport
from sweep.executors.base import GroupMonitor, GroupTask, Workload
from sweep.executors.checkpointer import Checkpointer, on_device


class InProcessExecutor:
    """Trains in this process."""

    def __init__(self, backend: ops.Ops, material: Workload) -> None:
        """Put the images on the device."""
        split, self._seed, self._ops = material.split, material.data_seed, backend
        self._images = Images.on_device(backend, split.x_train, split.y_train, material.scale)
        self._validation = Images.on_device(backend, split.x_validation, split.y_validation, material.scale)

    def train(self, groups: Iterable[GroupMonitor]) -> None:
        for group in groups:
            try:
                for report in self.reports(group.task, group):
                    group.record(report)
                    if group.stopping:
                        return
                continue
            except MemoryError as caught:
                error = caught.with_traceback(None)  # the frames that it knows hold the arrays
            error.__context__ = None  # and so may those of an error before it
            self.train(group.halves(error))

    def reports(self, task: GroupTask, group: Any) -> Iterator[EpochReport]:
        """The epochs of a group; group judges them."""
        kept = Checkpointer(task, group, self._ops)
        start = None if task.start is None else on_device(task.start, self._ops)
        return train_group(
            *(self._ops, task.architecture, task.trials, self._images, self._validation),
            data_seed=self._seed,
            judge=group.judge,
            keep=kept,
            start=start,
        )
