"""Trains in processes beside the driver, each with a GPU of its own, or with its share of the threads."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext

from core.machine import threads
from sweep.executors.base import GroupMonitor, GroupTask, Workload
from sweep.executors.channel import Ended, Judge, Record, Verdicts
from sweep.executors.worker import work


class ProcessExecutor:
    """Trains in so many processes at the same time: see sweep.executors.base.Executor."""

    def __init__(self, count: int, workload: Workload) -> None:
        context = multiprocessing.get_context("spawn")
        thread_count = max(1, threads.count() // count)
        self._workers: list[_Worker] = []
        resource_tracker.ensure_running()  # which would unblock what the first process is started with
        try:
            with _unheard({signal.SIGINT, signal.SIGTERM}):
                for number in range(count):
                    self._workers.append(_Worker(context, number, workload.backend, thread_count))
            for worker in self._workers:
                worker.send(workload)  # as an argument it would hang where a process dies as it starts
        except BaseException:
            self.close()
            raise

    def train(self, groups: Iterable[GroupMonitor]) -> None:
        """Train all groups, as many at a time as there are processes."""
        source, again, active, stopping = iter(groups), deque[GroupMonitor](), dict[_Worker, GroupMonitor](), False
        while True:
            for worker in [worker for worker in self._workers if worker not in active]:
                group = None if stopping else again.popleft() if again else next(source, None)
                if group is None:
                    break
                worker.send(group.task)
                active[worker] = group
            if not active:
                return
            for worker in _ready(active):
                group = active[worker]
                match worker.receive():
                    case Judge(report):
                        worker.send(Verdicts(group.judge(report), group.stopping))
                        stopping |= group.stopping
                    case Record(report):
                        group.record(report)
                    case Ended(error):
                        del active[worker]
                        if isinstance(error, MemoryError):
                            again.extend(group.halves(error))
                        elif error is not None:
                            raise error

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            worker.process.join()
        self._workers.clear()


class _Worker:
    """A process that trains, as the driver sees it."""

    def __init__(self, context: SpawnContext, number: int, backend: str, thread_count: int) -> None:
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, number, backend, thread_count), daemon=True)
        self.process.start()
        theirs.close()

    def send(self, message: Workload | GroupTask | Verdicts) -> None:
        """Raises MemoryError or ChildProcessError if the process has ended."""
        try:
            self.connection.send(message)
        except ConnectionError:
            raise self._lost() from None

    def receive(self) -> Judge | Record | Ended:
        """What the process says next. Raises MemoryError or ChildProcessError if it has ended."""
        try:
            message: Judge | Record | Ended = self.connection.recv()
        except (EOFError, ConnectionError):  # the latter where it had not read all that was sent
            raise self._lost() from None
        return message

    def _lost(self) -> Exception:
        """Why the process is no more."""
        self.process.join()
        if self.process.exitcode == -signal.SIGKILL:  # what a system does that has no memory left
            return MemoryError("a process that trained a group was killed")
        return ChildProcessError(f"a process that trained a group has ended, exit status {self.process.exitcode}")

    def kill(self) -> None:
        """End it, whatever it does."""
        self.connection.close()
        self.process.kill()


def _ready(workers: Collection[_Worker]) -> list[_Worker]:
    """Those that have said something, or have ended; waits until there is one."""
    ready = set[object](wait([worker.connection for worker in workers]))
    return [worker for worker in workers if worker.connection in ready]


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
