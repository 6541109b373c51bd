"""What sweep.executors.base promises, of every executor in the registry."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest

from core.backends.reference.backend import OPS
from core.config.architecture import Architecture
from core.config.settings import Settings
from core.data.dataset import Split
from core.errors import InputError
from core.training.checkpoint import load_group
from core.training.progress import EpochReport, Progress, TrialResult, Verdict
from sweep.executors.base import Executor, GroupMonitor, GroupTask, Workload
from sweep.executors.registry import EXECUTORS
from tests.conftest import small_images

EPOCHS = 3
FIRST = Settings(filters="2", batch_size=16, epochs=EPOCHS, lr=0.1)
IMAGES, LABELS = small_images(40, 0)
WORKLOAD = Workload(Split(IMAGES, LABELS, IMAGES, LABELS), 1 / 255, 0, "reference", "float32")
# More filters than there are addresses for.
TOO_LARGE = Architecture((1, 6, 7), (10**14,), 3)


@dataclass
class Group:
    """A group that notes who asks what of it, and lets a test say what comes of that.

    verdicts    by epoch
    stop_after  the epoch after which it is stopping
    killed_in   the epoch in whose judgement the processes that train are killed, but for those that are spared
    full_in     the epoch that cannot be recorded
    smaller     the groups in its place, if it finds too little memory
    """

    task: GroupTask
    name: str = "group"
    calls: list[tuple[str, str, int]] = field(default_factory=list)
    verdicts: Mapping[int, Mapping[int, Verdict]] = field(default_factory=dict)
    stop_after: int = EPOCHS + 1
    killed_in: int = 0
    spared: Collection[BaseProcess] = ()
    full_in: int = 0
    smaller: list[Group] = field(default_factory=list)
    stopping: bool = False
    judged: list[EpochReport] = field(default_factory=list)
    recorded: list[EpochReport] = field(default_factory=list)
    callers: set[tuple[int, int]] = field(default_factory=set)

    def _note(self, what: str, epoch: int) -> None:
        self.calls.append((self.name, what, epoch))
        self.callers.add((os.getpid(), threading.get_ident()))

    def judge(self, report: EpochReport) -> Mapping[int, Verdict]:
        self._note("judge", report.epoch)
        self.judged.append(replace(report, ended=dict(report.ended)))  # in one process more end in the same report
        self.stopping = report.epoch >= self.stop_after
        if report.epoch == self.killed_in:
            for process in set(multiprocessing.active_children()).difference(self.spared):
                process.kill()
                process.join()
        return self.verdicts.get(report.epoch, {})

    def record(self, report: EpochReport) -> None:
        self._note("record", report.epoch)
        if report.epoch == self.full_in:
            raise InputError("the disk is full")
        self.recorded.append(report)

    def halves(self, error: MemoryError) -> Iterator[GroupMonitor]:
        self._note("halves", 0)
        if not self.smaller:
            raise error
        return iter(self.smaller)

    @property
    def results(self) -> dict[int, TrialResult]:
        """Of the trials that have ended."""
        return {index: result for report in self.recorded for index, result in report.ended.items()}


def task(folder: Path, name: str = "some", trials: int = 2, start: Progress | None = None) -> GroupTask:
    settings = [replace(FIRST, seed=seed) for seed in range(trials)]
    return GroupTask(Architecture((1, 6, 7), (2,), 3), settings, folder / f"{name}.group", {"name": name}, start)


@pytest.fixture(scope="module", params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """One that trains one group at a time; its tests leave it in order."""
    started = EXECUTORS[request.param](OPS, WORKLOAD, 1)
    yield started
    started.close()


@pytest.fixture(params=EXECUTORS)
def another(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """One that a test may break."""
    started = EXECUTORS[request.param](OPS, WORKLOAD, 1)
    yield started
    started.close()


def same(ours: Mapping[int, TrialResult], theirs: Mapping[int, TrialResult]) -> None:
    """Bit for bit, but for how long it took."""
    assert ours.keys() == theirs.keys()
    for index, result in ours.items():
        other = theirs[index]
        untimed = [[replace_time(metrics) for metrics in each.history] for each in (result, other)]
        assert untimed[0] == untimed[1]
        assert (result.status, result.reason, result.best_epoch) == (other.status, other.reason, other.best_epoch)
        assert result.model
        assert other.model
        assert result.model.keys() == other.model.keys()
        for name, values in result.model.items():
            assert isinstance(values, np.ndarray)
            np.testing.assert_array_equal(values, other.model[name], err_msg=name)


def replace_time(metrics: Mapping[str, float]) -> dict[str, float]:
    return {**metrics, "epoch_seconds": 0.0}


def test_every_epoch_is_judged_then_recorded_by_the_caller_one_group_after_another(
    executor: Executor, tmp_path: Path
) -> None:
    calls: list[tuple[str, str, int]] = []
    groups = [Group(task(tmp_path, name), name, calls) for name in ("first", "second")]

    def asked() -> Iterator[GroupMonitor]:
        for group in groups:
            group._note("asked", 0)
            yield group

    executor.train(asked())
    epochs = [(what, epoch) for epoch in range(1, EPOCHS + 1) for what in ("judge", "record")]
    assert calls == [(group.name, *call) for group in groups for call in [("asked", 0), *epochs]]
    assert groups[0].callers == groups[1].callers == {(os.getpid(), threading.get_ident())}
    assert groups[0].results.keys() == {0, 1}
    same(groups[0].results, groups[1].results)


def test_a_verdict_ends_a_trial_in_the_epoch_that_was_judged(executor: Executor, tmp_path: Path) -> None:
    group = Group(task(tmp_path), verdicts={1: {1: ("pruned", "for this test")}})
    executor.train([group])
    assert [sorted(report.ended) for report in group.judged] == [[], [], [0]]
    assert [sorted(report.ended) for report in group.recorded] == [[1], [], [0]]
    assert [sorted(report.metrics) for report in group.recorded] == [[0, 1], [0], [0]]
    pruned = group.results[1]
    assert (pruned.status, pruned.reason, len(pruned.history)) == ("pruned", "for this test", 1)
    assert pruned.model
    assert all(isinstance(values, np.ndarray) for values in pruned.model.values())


def test_a_group_that_stops_is_kept_and_goes_on_bit_for_bit(executor: Executor, tmp_path: Path) -> None:
    verdicts = {1: {1: ("pruned", "for this test")}}
    whole = Group(task(tmp_path, "whole", trials=3), verdicts=verdicts)
    executor.train([whole])
    stopped = Group(task(tmp_path, trials=3), verdicts=verdicts, stop_after=2)
    executor.train(iter([stopped, Group(task(tmp_path, "never"), "never", stopped.calls)]))
    assert [call[1:] for call in stopped.calls] == [("judge", 1), ("record", 1), ("judge", 2), ("record", 2)]
    assert not (tmp_path / "never.group").exists()

    progress, about = load_group(stopped.task.path)
    assert (progress.epoch, progress.active, about) == (2, [0, 2], {"name": "some"})
    again = Group(task(tmp_path, trials=3, start=progress))
    executor.train([again])
    assert [call[1:] for call in again.calls] == [("judge", 3), ("record", 3)]
    same(stopped.results | again.results, whole.results)


def test_trials_that_ended_in_the_epoch_that_was_kept_are_recorded_and_not_judged(
    executor: Executor, tmp_path: Path
) -> None:
    stopped = Group(task(tmp_path), verdicts={2: {1: ("pruned", "for this test")}}, stop_after=2)
    executor.train([stopped])
    again = Group(replace(stopped.task, start=load_group(stopped.task.path)[0]))
    executor.train([again])
    assert [call[1:] for call in again.calls] == [("record", 2), ("judge", 3), ("record", 3)]
    same({1: again.results[1]}, stopped.results)


def test_a_group_that_finds_too_little_memory_gives_way_to_its_halves(executor: Executor, tmp_path: Path) -> None:
    calls: list[tuple[str, str, int]] = []
    halves = [Group(task(tmp_path, name, trials=1), name, calls) for name in ("one", "other")]
    large = Group(replace(task(tmp_path, "large"), architecture=TOO_LARGE), "large", calls, smaller=halves)
    last = Group(task(tmp_path, "last"), "last", calls)
    executor.train([large, last])
    assert calls[0] == ("large", "halves", 0)
    assert [name for name, *_ in calls[1:]] == [name for name in ("one", "other", "last") for _ in range(2 * EPOCHS)]
    same(halves[0].results, {0: last.results[0]})


def test_a_group_that_cannot_be_cut_ends_the_training(another: Executor, tmp_path: Path) -> None:
    large = Group(replace(task(tmp_path), architecture=TOO_LARGE))
    with pytest.raises(MemoryError):
        another.train([large, Group(task(tmp_path), "never", large.calls)])
    assert large.calls == [("group", "halves", 0)]


def test_what_a_monitor_raises_leaves_the_training_as_it_is(another: Executor, tmp_path: Path) -> None:
    group = Group(task(tmp_path), full_in=2)
    with pytest.raises(InputError, match=r"^the disk is full$"):
        another.train([group])
    assert [call[1:] for call in group.calls] == [("judge", 1), ("record", 1), ("judge", 2), ("record", 2)]
    another.close()
    another.close()


def test_what_training_raises_arrives_in_its_one_line(another: Executor, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    group = Group(task(tmp_path / "file"))
    with pytest.raises(InputError, match=r"some\.group cannot be written: ") as caught:
        another.train([group])
    assert not hasattr(caught.value, "__notes__")
    assert [call[1:] for call in group.calls] == [("judge", 1)]


@pytest.mark.parametrize("name", [name for name in EXECUTORS if name != "in_process"])
def test_a_lost_worker_ends_the_training_and_another_executor_goes_on_from_the_checkpoint(
    name: str, tmp_path: Path
) -> None:
    whole = Group(task(tmp_path, "whole"))
    before = set(multiprocessing.active_children())
    group = Group(task(tmp_path), killed_in=2, spared=before)
    first = EXECUTORS[name](OPS, WORKLOAD, 2)
    with pytest.raises(MemoryError, match="was killed"):
        first.train([group])
    first.close()
    assert set(multiprocessing.active_children()) == before
    progress, _ = load_group(group.task.path)
    assert progress.epoch == 1
    again = Group(replace(group.task, start=progress))
    second = EXECUTORS[name](OPS, WORKLOAD, 2)
    try:
        second.train([again, whole])
    finally:
        second.close()
    same(again.results, whole.results)
