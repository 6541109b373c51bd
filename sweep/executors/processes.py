"""Trains in processes of their own, a GPU each."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, cast

from core.machine import threads
from sweep.executors.base import GroupMonitor, Workload
from sweep.executors.worker import work


class ProcessExecutor:
    """Trains in so many processes, each with a GPU of its own, or with its share of the threads."""

    def __init__(self, count: int, material: Workload) -> None:
        context = multiprocessing.get_context("spawn")
        share = max(1, threads.count() // count)
        self._processes: dict[Connection, Any] = {}
        resource_tracker.ensure_running()  # which would unblock what the first process is started with
        try:
            with _unheard({signal.SIGINT, signal.SIGTERM}):
                for number in range(count):
                    ours, theirs = context.Pipe()
                    process = context.Process(target=work, args=(theirs, number, material.backend, share), daemon=True)
                    process.start()
                    theirs.close()
                    self._processes[ours] = process
            for connection in self._processes:
                self._send(connection, material)  # as an argument it would hang where a process dies as it starts
        except BaseException:
            self.close()
            raise

    def train(self, groups: Iterable[GroupMonitor]) -> None:
        source, again, active, stopping = iter(groups), deque[GroupMonitor](), dict[Connection, GroupMonitor](), False
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
