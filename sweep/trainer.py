"""Where groups train: in this process, one after another, or at the same time in processes of their own, a GPU each.

Only this process writes records. A process that trains sends each epoch's report, and is told who ends there.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, cast

from core import ops, threads
from core.batches import Images
from core.config import Architecture, Settings
from core.data import Split
from core.errors import InputError
from core.train import EpochReport, Verdict, train_group


class Group(Protocol):
    """A group that is to be trained."""

    @property
    def architecture(self) -> Architecture: ...

    @property
    def trials(self) -> Sequence[Settings]: ...

    def judge(self, report: EpochReport) -> Mapping[int, Verdict]:
        """See core.train."""

    def record(self, report: EpochReport) -> None:
        """Keep what an epoch brought."""

    def halves(self, error: MemoryError) -> Iterator[Group]:
        """Two groups in its place, since it found too little memory. Raises error if it cannot be cut."""


class Trainer(Protocol):
    def train(self, groups: Iterable[Group]) -> None:
        """Train all groups. The next one is asked for when there is room for it."""


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
                for report in self.reports(group.architecture, group.trials, group):
                    group.record(report)
                continue
            except MemoryError as caught:
                error = caught.with_traceback(None)  # the frames that it knows hold the arrays
            error.__context__ = None  # and so may those of an error before it
            self.train(group.halves(error))

    def reports(self, architecture: Architecture, trials: Sequence[Settings], group: Any) -> Iterator[EpochReport]:
        """The epochs of a group; group judges them."""
        return train_group(
            self._ops, architecture, trials, self._images, self._validation, data_seed=self._seed, judge=group.judge
        )


class Processes:
    """Trains in so many processes, each with a GPU of its own, or with its share of the threads."""

    def __init__(self, count: int, material: Material) -> None:
        context = multiprocessing.get_context("spawn")
        share = max(1, threads.count() // count)
        self._processes: dict[Connection, Any] = {}
        # A Ctrl-C is for this process. Those that it starts inherit what it blocks, and so never hear of it.
        resource_tracker.ensure_running()  # which would unblock it
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            for number in range(count):
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(theirs, number, material.backend, share), daemon=True)
                process.start()
                theirs.close()
                self._processes[ours] = process
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        try:
            for connection in self._processes:
                self._send(connection, material)  # as an argument it would hang where a process dies as it starts
        except BaseException:
            self.close()
            raise

    def train(self, groups: Iterable[Group]) -> None:
        source, again, active = iter(groups), deque[Group](), dict[Connection, Group]()
        while True:
            for connection in [connection for connection in self._processes if connection not in active]:
                group = again.popleft() if again else next(source, None)
                if group is None:
                    break
                self._send(connection, (group.architecture, group.trials))
                active[connection] = group
            if not active:
                return
            for connection in cast(list[Connection], wait(list(active))):
                group = active[connection]
                what, content = self._receive(connection)
                if what == "judge":
                    self._send(connection, group.judge(content))
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
            process.terminate()
        for process in self._processes.values():
            process.join()


class _Remote:
    """The group in the process that has its records."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def judge(self, report: EpochReport) -> Mapping[int, Verdict]:
        ended = {place: replace(result, model=None) for place, result in report.ended.items()}  # which comes later
        self._connection.send(("judge", EpochReport(report.epoch, report.metrics, ended)))
        verdicts: Mapping[int, Verdict] = self._connection.recv()
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
            architecture, trials = connection.recv()
            connection.send(("end", broken or _train(trainer, connection, architecture, trials)))


def _train(
    trainer: Here | None, connection: Connection, architecture: Architecture, trials: Sequence[Settings]
) -> Exception | None:
    """Train a group and send its reports; returns what went wrong."""
    assert trainer is not None
    try:
        for report in trainer.reports(architecture, trials, _Remote(connection)):
            connection.send(("epoch", report))
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
        return ChildProcessError(f"{type(error).__name__}: {error} ({obstacle})")
    return error
