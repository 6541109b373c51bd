"""MLflow's database as a file, before it is opened."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from core.errors import InputError, reason
from sweep.doctor.files import aside
from sweep.doctor.finding import Finding

_ELSEWHERE = (  # SQLite's codes of trouble that does not lie in its file
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN),
    *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM),
)


def check_database(uri: str, begun: bool) -> Iterator[Finding]:
    """Look at the SQLite file of a tracking URI; a missing one is missed where the experiment has begun.

    Raises InputError if it cannot be looked at now.
    """
    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///"):
        return
    if not path.exists() or not path.stat().st_size:
        if begun:
            what = f"{path} is empty" if path.exists() else f"there is no {path}"
            yield Finding(what, "the runs of this experiment are made anew from their files")
        return
    if trouble := _integrity(path):
        target = aside(path)
        mended = f"moved to {target.name}; a new one is made (for all experiments)"
        yield Finding(f"{path} is damaged: {trouble}", mended, partial(_set_aside, path, target))


def _integrity(path: Path) -> str:
    """What SQLite says is wrong in its file; "" if nothing is."""
    try:  # writable, as one in which a process was killed is set right by whoever reads it next
        with closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True)) as connection:
            (said,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            return "" if said == "ok" else str(said)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in _ELSEWHERE:
            raise InputError(f"{path} cannot be looked at: {reason(error)}") from None
        return reason(error)


def _set_aside(path: Path, target: Path) -> None:
    for end in ("", "-wal", "-shm", "-journal"):  # what SQLite has beside it belongs to it
        if (part := path.with_name(path.name + end)).exists():
            part.rename(target.with_name(target.name + end))
