"""What the driver and a process that trains tell each other, in the order of the contract in sweep.executors.base.

The driver sends the Workload first. For each group it sends its GroupTask, and Verdicts in answer to every Judge; it
receives Judge and Record for each epoch, and Ended at last.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Mapping
from dataclasses import dataclass

from core.errors import InputError, reason
from core.training.progress import EpochReport, Verdict


@dataclass(frozen=True)
class Judge:
    """A worker waits for Verdicts on this epoch. The weights of trials that have ended are left out."""

    report: EpochReport


@dataclass(frozen=True)
class Verdicts:
    """The answer: which trials end there, and whether the group stops."""

    verdicts: Mapping[int, Verdict]
    stopping: bool


@dataclass(frozen=True)
class Record:
    """An epoch is over, and what is kept of it is on the disk."""

    report: EpochReport


@dataclass(frozen=True)
class Ended:
    """A group is over; error: why it could not be trained."""

    error: Exception | None


def portable(error: Exception) -> Exception:
    """The error as it can be sent; where it is a mistake of ours, with the lines that led to it."""
    if not isinstance(error, MemoryError | InputError):
        error.add_note("".join(traceback.format_exception(error)))
    error = error.with_traceback(None)
    error.__context__ = error.__cause__ = None
    try:
        pickle.loads(pickle.dumps(error))
    except Exception as obstacle:
        return ChildProcessError(f"{type(error).__name__}: {reason(error)} ({reason(obstacle)})")
    return error
