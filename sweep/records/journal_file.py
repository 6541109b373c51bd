"""Optuna's journal with a checksum in every line, so that a changed bit is noticed when it is read.

A line is Optuna's JSON object with one key more, the SHA-256 of the line's number and its other keys. Optuna's own
programs read it as they read theirs; lines that they write have no checksum.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import get_lock_file

from core.errors import InputError, reason
from core.storage.atomic import sync_names
from core.storage.checksums import sign, verified


class CheckedJournal(JournalFileBackend):
    """A journal file. Raises InputError where a line is not what was written."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self._read = (0, 0)  # lines, and the bytes they have

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any]]:
        """The logs from this number on. A last line without its end is still being written, or was torn."""
        number, offset = self._read if self._read[0] <= log_number_from else (0, 0)
        with open(self._path, "rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                if number >= log_number_from:
                    yield verified(line, f"line {number + 1} of {self._path}", number)
                number, offset = number + 1, offset + len(line)
                self._read = max(self._read, (number, offset))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write whole lines to the disk, or nothing. Raises InputError if they cannot be written."""
        try:
            with get_lock_file(self._lock):
                self._append(logs)
        except (OSError, RuntimeError) as error:  # the latter where its lock cannot be given back
            raise InputError(f"{self._path} cannot be written: {reason(error)}") from None

    def _append(self, logs: list[dict[str, Any]]) -> None:
        for _ in self.read_logs(self._read[0]):
            pass  # what others wrote in the meantime counts
        number = self._read[0]
        content = memoryview(b"".join(sign(log, number + place) for place, log in enumerate(logs)))
        with open(self._path, "ab", buffering=0) as file:
            size = file.tell()
            try:
                while content:
                    content = content[file.write(content) :]
                os.fsync(file.fileno())
                if not size:
                    sync_names(self._path.parent)
            except OSError:
                file.truncate(size)
                raise


def whole_lines(path: Path) -> tuple[list[bytes], str]:
    """The lines up to the first that is not as it was written, and what is wrong with that one; "" if nothing is.

    A last line without its end is left out.
    """
    lines = path.read_bytes().splitlines(keepends=True)
    lines = lines[: len(lines) - (not lines[-1].endswith(b"\n"))] if lines else []
    for number, line in enumerate(lines):
        try:
            verified(line, f"line {number + 1} of {path}", number)
        except InputError as error:
            return lines[:number], str(error)
    return lines, ""


def cut_torn_line(path: Path) -> None:
    """Drop a last line without its end: a process was killed while writing it."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with open(path, "r+b") as file:
            file.truncate(whole)
