"""Files that appear whole or not at all; and SHA256SUMS, a folder's checksums in the form that sha256sum -c reads."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_UNFINISHED = re.compile(r"\..+\.(\d{1,9})\.unfinished")  # the name under which a process writes a file


@contextmanager
def replacing(path: Path, lasting: bool = True) -> Iterator[BinaryIO]:
    """A file that takes the place of path when it has been written and is on the disk, and not before.

    lasting  whether it is to have that place even after a loss of power, from the end of the block on
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        if lasting:
            sync_names(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def unfinished(folder: Path) -> list[Path]:
    """What processes that have died since were writing in the folder or below."""
    named = [(path, _UNFINISHED.fullmatch(path.name)) for path in sorted(folder.rglob(".*.unfinished"))]
    return [path for path, name in named if name and not _at_work(int(name[1]))]


def _at_work(process: int) -> bool:
    """Whether it is another process that lives: one of our own number died before we were given it."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is somebody else's
    return process != os.getpid()


def sync_names(folder: Path) -> None:
    """Bring the names of the folder's files to the disk: a sync of a file does not bring its own."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # which some network file systems say of every folder
            raise
    finally:
        os.close(handle)
