"""Keeps a group's progress as it trains."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from core.network.parameters import Model
from core.ops import Ops
from core.training import checkpoint
from core.training.progress import Progress
from sweep.executors.base import EpochJudge, GroupTask

_PAUSE = 100  # times as long as keeping a group took must pass before it is kept again


class Checkpointer:
    """Writes a group's progress to its file: after the first epoch, and then whenever that costs less than 1 % of the
    training since the last time, or the group is about to stop.
    """

    def __init__(self, task: GroupTask, judge: EpochJudge, backend: Ops) -> None:
        self._task, self._judge, self._to_host = task, judge, backend.to_host
        self._due = 0.0

    def __call__(self, progress: Progress) -> None:
        """Keep this if it is time; not a group whose trials have all ended, which are recorded next."""
        started = time.perf_counter()
        if all(progress.results[index].ended for index in progress.active):
            return
        if started >= self._due or self._judge.stopping:
            checkpoint.save_group(self._task.path, progress, self._task.about, self._to_host)
            now = time.perf_counter()
            self._due = now + _PAUSE * (now - started)


def on_device(progress: Progress, backend: Ops) -> Progress:
    """Progress from a checkpoint, with its arrays where the backend computes."""

    def moved(arrays: Mapping[str, object]) -> Model:
        return {name: backend.xp.array(values) for name, values in arrays.items()}

    results = [replace(r, model=moved(r.model) if r.model and not r.ended else r.model) for r in progress.results]
    return replace(progress, model=moved(progress.model), state=moved(progress.state), results=results)
