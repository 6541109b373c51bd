"""A process that trains what it is sent."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection

from core.backends import registry as backends
from core.errors import InputError, reason
from core.machine import threads
from core.training.progress import EpochReport, Verdict
from sweep.executors.base import GroupTask
from sweep.executors.in_process import InProcessExecutor


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


def work(connection: Connection, number: int, backend: str, share: int) -> None:
    """A process that trains what it is sent, as long as the one that has the records is there."""
    backends.choose_device(backend, number)
    threads.use(share)
    with suppress(EOFError, ConnectionError):  # it has gone
        material = connection.recv()
        trainer, broken = None, None
        try:
            trainer = InProcessExecutor(backends.load(backend, material.precision), material)
        except Exception as error:
            broken = _portable(error)
        while True:
            task = connection.recv()
            connection.send(("end", broken or _train(trainer, connection, task)))


def _train(trainer: InProcessExecutor | None, connection: Connection, task: GroupTask) -> Exception | None:
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
