"""The flags that several commands have, and how a command ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from core.errors import DamageError, InputError, printable, reason

TYPE_CHECKING = False  # loading typing would take a tenth of the time that --help takes
if TYPE_CHECKING:
    import argparse
    from typing import TypedDict, Unpack

    class Flag(TypedDict, total=False):
        """What argparse is told of a flag."""

        help: str
        metavar: str
        action: str
        default: str | None
        type: Callable[[str], object]


FLAGS: dict[str, Flag] = {
    "run-id": {"metavar": "ID", "help": "a trial's run in MLflow, or the beginning of its id"},
    "model": {"type": Path, "metavar": "FILE.npz", "help": "a model's file, also one of the published code"},
    "data": {"help": "cifar10, digits, a file.npz, or auto (CIFAR-10 if found, else digits)"},
    "data-dir": {"metavar": "DIR", "help": "where cifar-10-batches-py is (else $CIFAR10_DIR, data/)"},
    "backend": {"help": "auto, reference, cpu or gpu"},
    "precision": {"help": "float32 or, on a GPU, tf32: faster, and rounded to 10 bits"},
    "threads": {"metavar": "N", "help": "to compute on (default: every core there is)"},
    "tracking-uri": {"metavar": "URI", "help": "MLflow server or database (default: mlflow.db here)"},
    "out": {"metavar": "DIR", "help": "where to write (default: %(default)s)"},
    "open": {"action": "store_true", "help": "open the page in the browser"},
    "json": {"action": "store_true", "help": "the result as JSON on standard output"},
    "quiet": {"action": "store_true", "help": "no progress, no notes"},
}
OF_RUN = "cifar10, digits or a file.npz (default: what the run was trained on)"  # --data of a command on a run


def add_flags(command: argparse._ActionsContainer, *names: str, **own: Unpack[Flag]) -> None:
    """Give a command flags of FLAGS, in this order; own is what they are told otherwise here."""
    for name in names:
        flag: Flag = {**FLAGS[name], **own}
        command.add_argument(f"--{name}", **flag)


def threads_given() -> str | None:
    """The default of --threads: what the environment says."""
    return os.environ.get("SWEEP_THREADS") or None


def exit_status(command: Callable[[], int], doctor: Callable[[], str] | None = None) -> int:
    """The command's own exit status, or that of the exception that ended it, told in a single clear line.

    doctor  makes the command that looks at damage, for a sentence; None: it is not known of which experiment
    """
    from core.addresses import without_passwords

    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - it was closed: `>&-`
    try:
        return command()
    except InputError as error:
        damaged = isinstance(error, DamageError)
        mend = f"; {(doctor or _doctor)()} tells what can be mended" if damaged else ""
        print(f"error: {printable(without_passwords(str(error)))}{mend}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"error: out of memory: {reason(error)}; use fewer filters, or fewer images at a time", file=sys.stderr)
        return 1
    except ChildProcessError as error:
        print(f"error: {printable(reason(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has left: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # of the world outside: a full disk, a folder that must not be written
        if error.errno is None:
            raise
        print(f"error: {error.filename or 'a file'} cannot be used: {reason(error)}", file=sys.stderr)
        return 2


def _doctor() -> str:
    from core.shell_commands import command, quoted

    return quoted(command("sweep", "doctor", "EXPERIMENT"))
