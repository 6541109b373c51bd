"""Where groups train: in this process, one after another, or at the same time in processes of their own, a GPU each.

Only this process writes records. A process that trains sends each epoch's report, and is told who ends there.
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
class GroupTask:
    """What is to be trained together.

    start   where to go on, if not at the beginning; its arrays are the host's
    path    where the progress is kept while it trains
    about   is kept with it
    """

    architecture: Architecture
    trials: Sequence[Settings]
    path: Path
    about: Mapping[str, Any]
    start: Progress | None = None


class GroupMonitor(Protocol):
    """A group that is to be trained.

    stopping  whether it is to stop after the epoch that was judged last
    """

    stopping: bool

    @property
    def task(self) -> GroupTask: ...

    def judge(self, report: EpochReport) -> Mapping[int, Verdict]:
        """See core.training.loop."""

    def record(self, report: EpochReport) -> None:
        """Keep what an epoch brought."""

    def halves(self, error: MemoryError) -> Iterator[GroupMonitor]:
        """Two groups in its place, since it found too little memory. Raises error if it cannot be cut."""


class Executor(Protocol):
    def train(self, groups: Iterable[GroupMonitor]) -> None:
        """Train all groups. The next one is asked for when there is room for it.

        Ends early when groups are stopping, after an epoch of each that is in training, which is kept.
        """


@dataclass(frozen=True)
class Workload:
    """What all groups of an experiment are trained with: the data, and the backend's name and precision."""

    split: Split
    scale: float
    data_seed: int
    backend: str
    precision: str
