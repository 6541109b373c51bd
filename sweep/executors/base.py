"""The contract of an executor: where groups of trials train, and what it owes to those whose records depend on it.

The driver is the process that holds the experiment's lock. It alone writes records: Optuna's journal, MLflow, and the
screen. An executor trains groups wherever it wants: in the driver, in processes beside it, on other machines. Every
executor of sweep.executors.registry is held to what follows by one test.

**Who calls what.** `Executor.train` asks its iterable for a group when there is room for one, trains the group's task,
and calls the methods of its monitor. All of these calls, and the iterator's, are made in the driver's process, by the
thread that called `train`, one at a time. They write records and may take a while; any of them may raise an exception.

**Order.** Of each group, epoch by epoch from the first after `task.start`:

1. `judge(report)`. Training waits for its answer: the verdicts take effect in this epoch, before its checkpoint.
2. `stopping` is read. If it is set, the group stops after this epoch.
3. The checkpoint is written, if one is due: see below.
4. `record(report)`; `report.ended` now includes those the verdicts ended.

`record` comes once for each epoch, in the order of epochs; calls of other groups may come between. A group that has
a `start` in whose epoch trials have ended gets a report of those first, which is recorded and not judged: they were.
An epoch that was recorded may be recorded again by a later `train`, which goes on from an older checkpoint: what it
brings is the same but for its `epoch_seconds`, and whoever records must not mind.

**What a report holds.** Trials by their index in `task.trials`, and plain numbers. The results of trials that have
ended have their best weights as arrays of the host in `record`; in `judge` these may be missing.

**Early end.** Once a monitor was found stopping, no further group is asked for. Groups that train beside it go on until
their own monitors are stopping; then `train` returns. A stopping group's last epoch is kept in its checkpoint.

**Checkpoints.** `task.path` is a file of the driver's machine, with `task.about` in it, which core.training.checkpoint
lays out. It holds the group after its first epoch, then whenever that costs less than 1 % of the training's time, and
after the last epoch of a group that was stopped, unless all of its trials ended there. It is replaced as a whole
(written beside, fsync, rename), so that a kill at any moment leaves one that can be read. An executor whose workers
share no disk with the driver must send it there before it calls `record`. A group that goes on from a checkpoint ends
as if it had not been stopped, bit for bit. The monitor removes it.

**Errors.** What a monitor or the iterator raises is raised by `train`, unchanged. So is what training raises; where it
came from another process, a mistake of ours has the lines that led to it as a note, and an InputError has its one line.
A MemoryError becomes `halves(error)`: the groups that it gives train in the group's place, as if the group had never
begun; after the group's first `record` it raises. After an exception groups may be in the middle of something, and the
executor can only be closed.

**A lost worker** ends `train` with an exception: MemoryError if it was killed as systems kill that have no memory
left, else ChildProcessError. It is not replaced, and nothing is tried again by itself: the group's last checkpoint
stays, and another executor goes on from it.

**What is sent.** Workload once, a GroupTask for each group, reports and verdicts back and forth. All are pickled where
they leave the process: they hold settings, numbers, texts and NumPy arrays, and no functions or open files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from core.config.architecture import Architecture
from core.config.settings import Settings
from core.data.dataset import Split
from core.training.progress import EpochReport, Progress, Verdict


@dataclass(frozen=True)
class Workload:
    """What all groups of an experiment are trained with: the data, and the backend's name and precision."""

    split: Split
    scale: float
    data_seed: int
    backend: str
    precision: str


@dataclass(frozen=True)
class GroupTask:
    """What is to be trained together.

    path    of the checkpoint, on the driver's machine
    about   plain data (JSON) that is kept in it
    start   where to go on, if not at the beginning; its arrays are the host's
    """

    architecture: Architecture
    trials: Sequence[Settings]
    path: Path
    about: Mapping[str, Any]
    start: Progress | None = None


class EpochJudge(Protocol):
    """What the training of a group asks after each epoch."""

    @property
    def stopping(self) -> bool:
        """Whether the group stops after the epoch that was judged last. Once set it stays."""

    def judge(self, report: EpochReport) -> Mapping[int, Verdict]:
        """Which of the trials that have not ended do so here, and why."""


class GroupMonitor(EpochJudge, Protocol):
    """A group for an executor, whose calls are those of this file's contract."""

    @property
    def task(self) -> GroupTask:
        """What is to be trained; the same whenever it is asked for."""

    def record(self, report: EpochReport) -> None:
        """Write down what an epoch brought."""

    def halves(self, error: MemoryError) -> Iterator[GroupMonitor]:
        """Two groups in its place, since it found too little memory. Raises error if it cannot be cut."""


class Executor(Protocol):
    """Trains groups on one workload."""

    def train(self, groups: Iterable[GroupMonitor]) -> None:
        """Train all groups. May be called again, for other groups, once it has returned."""

    def close(self) -> None:
        """Let go of what training needed, wherever it is, also in the middle of something. May be called twice."""
