"""Trains in the driver's own process, one group after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from core.data.images import Images
from core.ops import Ops
from core.training.loop import train_group
from core.training.progress import EpochReport
from sweep.executors.base import EpochJudge, GroupMonitor, GroupTask, Workload
from sweep.executors.checkpointer import Checkpointer, on_device


class InProcessExecutor:
    """Trains in this process: see sweep.executors.base.Executor."""

    def __init__(self, backend: Ops, workload: Workload) -> None:
        """Put the images on the device."""
        split, self._data_seed, self._ops = workload.split, workload.data_seed, backend
        self._images = Images.on_device(backend, split.x_train, split.y_train, workload.scale)
        self._validation = Images.on_device(backend, split.x_validation, split.y_validation, workload.scale)

    def train(self, groups: Iterable[GroupMonitor]) -> None:
        """Train all groups, one after another; halves of a group before the next one."""
        pending = [iter(groups)]
        while pending:
            if (group := next(pending[-1], None)) is None:
                pending.pop()
            elif error := self._train(group):
                pending.append(group.halves(error))
            elif group.stopping:
                return

    def _train(self, group: GroupMonitor) -> MemoryError | None:
        """Train a group. Returns the error if memory ran out."""
        try:
            for report in self.reports(group.task, group):
                group.record(report)
                if group.stopping:
                    break
            return None
        except MemoryError as caught:
            error = caught.with_traceback(None)  # the frames that it knows hold the arrays
        error.__context__ = None  # and so may those of an error before it
        return error

    def reports(self, task: GroupTask, judge: EpochJudge) -> Iterator[EpochReport]:
        """The epochs of a group, as they are trained."""
        start = None if task.start is None else on_device(task.start, self._ops)
        return train_group(
            *(self._ops, task.architecture, task.trials, self._images, self._validation),
            data_seed=self._data_seed,
            judge=judge.judge,
            keep=Checkpointer(task, judge, self._ops),
            start=start,
        )

    def close(self) -> None:
        """There is nothing beside this process; what is on the device goes with this object."""
