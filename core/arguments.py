"""How a command line ends, and the flags that several share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from core.errors import DamageError, InputError, printable, reason


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
    from core.hints import command, quoted

    return quoted(command("sweep", "doctor", "EXPERIMENT"))
