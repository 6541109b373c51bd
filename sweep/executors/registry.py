"""Which executors there are, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from core.ops import Ops
from sweep.executors.base import Executor, Workload
from sweep.executors.in_process import InProcessExecutor
from sweep.executors.processes import ProcessExecutor

# Each is given the backend, the workload, and how many groups are to train at the same time.
EXECUTORS: Mapping[str, Callable[[Ops, Workload, int], Executor]] = {
    "in_process": lambda ops, workload, count: InProcessExecutor(ops, workload),
    "processes": lambda ops, workload, count: ProcessExecutor(count, workload),
}


def start(ops: Ops, workload: Workload, processes: int) -> Executor:
    """The executor for so many processes that train at the same time: one is the driver itself."""
    return EXECUTORS["in_process" if processes == 1 else "processes"](ops, workload, processes)
