"""A process that trains what it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection

from core.backends import registry as backends
from core.machine import threads
from core.training.progress import EpochReport, Verdict
from sweep.executors.base import GroupTask, Workload
from sweep.executors.channel import Ended, Judge, Record, Verdicts, portable
from sweep.executors.in_process import InProcessExecutor


def work(connection: Connection, number: int, backend: str, thread_count: int) -> None:
    """Train what is sent, as long as the driver is there.

    number  of this process, from 0, which decides on its device
    """
    backends.choose_device(backend, number)
    threads.use(thread_count)
    with suppress(EOFError, ConnectionError):  # the driver has gone
        executor = _start(connection.recv())
        while True:
            task = connection.recv()
            error = executor if isinstance(executor, Exception) else _train(executor, connection, task)
            connection.send(Ended(error))


def _start(workload: Workload) -> InProcessExecutor | Exception:
    """What trains here; or why nothing does, which the driver hears for each group."""
    try:
        return InProcessExecutor(backends.load(workload.backend, workload.precision), workload)
    except Exception as error:
        return portable(error)


def _train(executor: InProcessExecutor, connection: Connection, task: GroupTask) -> Exception | None:
    """Train a group and send its reports; returns what went wrong."""
    judge = _RemoteJudge(connection)
    try:
        for report in executor.reports(task, judge):
            connection.send(Record(report))
            if judge.stopping:
                break
    except (EOFError, ConnectionError):
        raise
    except Exception as error:  # raised in the driver
        return portable(error)
    return None


class _RemoteJudge:
    """The group's monitor, which is the driver's."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self.stopping = connection, False

    def judge(self, report: EpochReport) -> Mapping[int, Verdict]:
        ended = {index: replace(result, model=None) for index, result in report.ended.items()}  # which comes later
        self._connection.send(Judge(EpochReport(report.epoch, report.metrics, ended)))
        answer: Verdicts = self._connection.recv()
        self.stopping = answer.stopping
        return answer.verdicts
