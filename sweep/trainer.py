"""Where groups train: in this process, one after another, or at the same time in processes of their own, a GPU each.

Only this process writes records. A process that trains sends each epoch's report, and is told who ends there.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
import traceback
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol, cast

from core import checkpoint, ops, threads
from core.batches import Images
from core.config import Architecture, Settings
from core.data import Split
from core.errors import InputError, reason
from core.train import EpochReport, Progress, Verdict, train_group

_PAUSE = 100  # times as long as keeping a group took must pass before it is kept again


@dataclass(frozen=True)
class Task:
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


class Group(Protocol):
    """A group that is to be trained.

    stopping  whether it is to stop after the epoch that was judged last
    """

    stopping: bool

    @property
    def task(self) -> Task: ...

    def judge(self, report: EpochReport) -> Mapping[int, Verdict]:
        """See core.train."""

    def record(self, report: EpochReport) -> None:
        """Keep what an epoch brought."""

    def halves(self, error: MemoryError) -> Iterator[Group]:
        """Two groups in its place, since it found too little memory. Raises error if it cannot be cut."""


class Trainer(Protocol):
    def train(self, groups: Iterable[Group]) -> None:
        """Train all groups. The next one is asked for when there is room for it.

        Ends early when groups are stopping, after an epoch of each that is in training, which is kept.
        """


@dataclass(frozen=True)
class Material:
    """What all groups of an experiment are trained with: the data, and the backend's name and precision."""

    split: Split
    scale: float
    data_seed: int
    backend: str
    precision: str


class Here:
    """Trains in this process."""

    def __init__(self, backend: ops.Ops, material: Material) -> None:
        """Put the images on the device."""
        split, self._seed, self._ops = material.split, material.data_seed, backend
        self._images = Images.on_device(backend, split.x_train, split.y_train, material.scale)
        self._validation = Images.on_device(backend, split.x_validation, split.y_validation, material.scale)

    def train(self, groups: Iterable[Group]) -> None:
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

    def reports(self, task: Task, group: Any) -> Iterator[EpochReport]:
        """The epochs of a group; group judges them."""
        kept = _Kept(task, group, self._ops)
        start = None if task.start is None else _on_device(task.start, self._ops)
        return train_group(
            *(self._ops, task.architecture, task.trials, self._images, self._validation),
            data_seed=self._seed,
            judge=group.judge,
            keep=kept,
            start=start,
        )


class _Kept:
    """Writes a group's progress to its file: after the first epoch, and then whenever that costs less than 1 % of the
    training since the last time, or the group is about to stop.
    """

    def __init__(self, task: Task, group: Any, backend: ops.Ops) -> None:
        self._task, self._group, self._to_host = task, group, backend.to_host
        self._due = 0.0

    def __call__(self, progress: Progress) -> None:
        started = time.perf_counter()
        if all(progress.results[place].ended for place in progress.active):
            return
        if started >= self._due or self._group.stopping:
            checkpoint.save_group(self._task.path, progress, self._task.about, self._to_host)
            now = time.perf_counter()
            self._due = now + _PAUSE * (now - started)


def _on_device(progress: Progress, backend: ops.Ops) -> Progress:
    def moved(arrays: Mapping[str, Any]) -> dict[str, Any]:
        return {name: backend.xp.array(values) for name, values in arrays.items()}

    results = [replace(r, model=moved(r.model) if r.model and not r.ended else r.model) for r in progress.results]
    return replace(progress, model=moved(progress.model), state=moved(progress.state), results=results)


class Processes:
    """Trains in so many processes, each with a GPU of its own, or with its share of the threads."""

    def __init__(self, count: int, material: Material) -> None:
        context = multiprocessing.get_context("spawn")
        share = max(1, threads.count() // count)
        self._processes: dict[Connection, Any] = {}
        resource_tracker.ensure_running()  # which would unblock what the first process is started with
        try:
            with _unheard({signal.SIGINT, signal.SIGTERM}):
                for number in range(count):
                    ours, theirs = context.Pipe()
                    process = context.Process(target=_work, args=(theirs, number, material.backend, share), daemon=True)
                    process.start()
                    theirs.close()
                    self._processes[ours] = process
            for connection in self._processes:
                self._send(connection, material)  # as an argument it would hang where a process dies as it starts
        except BaseException:
            self.close()
            raise

    def train(self, groups: Iterable[Group]) -> None:
        source, again, active, stopping = iter(groups), deque[Group](), dict[Connection, Group](), False
        while True:
            for connection in [connection for connection in self._processes if connection not in active]:
                group = None if stopping else again.popleft() if again else next(source, None)
                if group is None:
                    break
                self._send(connection, group.task)
                active[connection] = group
            if not active:
                return
            for connection in cast(list[Connection], wait(list(active))):
                group = active[connection]
                what, content = self._receive(connection)
                if what == "judge":
                    self._send(connection, (group.judge(content), group.stopping))
                    stopping |= group.stopping
                elif what == "epoch":
                    group.record(content)
                else:
                    del active[connection]
                    if isinstance(content, MemoryError):
                        again.extend(group.halves(content))
                    elif content is not None:
                        raise content

    def _send(self, connection: Connection, message: Any) -> None:
        try:
            connection.send(message)
        except ConnectionError:
            raise self._ended(connection) from None

    def _receive(self, connection: Connection) -> tuple[str, Any]:
        try:
            message: tuple[str, Any] = connection.recv()
        except (EOFError, ConnectionError):  # the latter where it had not read all that was sent
            raise self._ended(connection) from None
        return message

    def _ended(self, connection: Connection) -> Exception:
        """Why the process there is no more."""
        process = self._processes[connection]
        process.join()
        if process.exitcode == -signal.SIGKILL:  # what a system does that has no memory left
            return MemoryError("a process that trained a group was killed")
        return ChildProcessError(f"a process that trained a group has ended, exit status {process.exitcode}")

    def close(self) -> None:
        """End the processes."""
        for connection, process in self._processes.items():
            connection.close()
            process.kill()
        for process in self._processes.values():
            process.join()


@contextmanager
def _unheard(signals: Collection[int]) -> Iterator[None]:
    """Keep signals waiting, and for good from the processes that are started meanwhile: what a terminal or a system
    sends to all of them is for this one, which ends the others.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


class _Remote:
    """The group in the process that has its records."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self.stopping = connection, False

    def judge(self, report: EpochReport) -> Mapping[int, Verdict]:
        ended = {place: replace(result, model=None) for place, result in report.ended.items()}  # which comes later
        self._connection.send(("judge", EpochReport(report.epoch, report.metrics, ended)))
        verdicts: Mapping[int, Verdict]
        verdicts, self.stopping = self._connection.recv()
        return verdicts


def _work(connection: Connection, number: int, backend: str, share: int) -> None:
    """A process that trains what it is sent, as long as the one that has the records is there."""
    if backend == "gpu":
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[number] if visible else str(number)
    threads.use(share)
    with suppress(EOFError, ConnectionError):  # it has gone
        material = connection.recv()
        trainer, broken = None, None
        try:
            trainer = Here(ops.load(backend, material.precision), material)
        except Exception as error:
            broken = _portable(error)
        while True:
            task = connection.recv()
            connection.send(("end", broken or _train(trainer, connection, task)))


def _train(trainer: Here | None, connection: Connection, task: Task) -> Exception | None:
    """Train a group and send its reports; returns what went wrong."""
    assert trainer is not None
    group = _Remote(connection)
    try:
        for report in trainer.reports(task, group):
            connection.send(("epoch", report))
            if group.stopping:
                break
    except (EOFError, ConnectionError):
        raise
    except Exception as error:  # raised there
        return _portable(error)
    return None


def _portable(error: Exception) -> Exception:
    """The error as it can be sent; where it is a mistake of ours, with the lines that led to it."""
    if not isinstance(error, (MemoryError, InputError)):
        error.add_note("".join(traceback.format_exception(error)))
    error = error.with_traceback(None)
    error.__context__ = error.__cause__ = None
    try:
        pickle.loads(pickle.dumps(error))
    except Exception as obstacle:
        return ChildProcessError(f"{type(error).__name__}: {reason(error)} ({reason(obstacle)})")
    return error
