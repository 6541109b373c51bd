"""Checksums of files, lines and JSON."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from core.errors import DamageError, reason

SUMS = "SHA256SUMS"
_KEY = "sha256"


def digest(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listed(folder: Path) -> dict[str, str]:
    """What the folder's list says, by the files' names; nothing where there is none.

    Raises DamageError if it is no such list.
    """
    path = folder / SUMS
    if not path.exists():
        return {}
    pairs = [line.split("  ", 1) for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    if not all(len(pair) == 2 and len(pair[0]) == hashlib.sha256().digest_size * 2 for pair in pairs):
        raise DamageError(f"{path} is damaged: it is no list of SHA-256 sums and names")
    return {name: value for value, name in pairs}


def as_list(sums: dict[str, str]) -> str:
    """The list's content."""
    return "".join(f"{value}  {name}\n" for name, value in sorted(sums.items()))


def check(path: Path) -> None:
    """Raises DamageError if the file is not what its folder's list says. The list itself is not checked, nor are files
    without one.
    """
    sums = listed(path.parent)
    if path.name != SUMS and (path.parent / SUMS).exists() and sums.get(path.name) != digest(path):
        said = "its SHA-256 differs from the one in" if path.name in sums else "it is missing in"
        raise DamageError(f"{path} is damaged: {said} {SUMS}")


def sign(values: dict[str, Any], number: int = 0) -> bytes:
    """A line of JSON that carries its own SHA-256; number: of the line, where there are several."""
    return (json.dumps(values | {_KEY: _digest(values, number)}, separators=(",", ":")) + "\n").encode()


def verified(line: bytes, where: str, number: int = 0, ours: bool = False) -> dict[str, Any]:
    """What was given to sign. Raises DamageError if the line is not as it was written; where: to be told then.

    ours  whether none but this program writes there: else a line that states no checksum is taken as it is
    """
    try:
        values: dict[str, Any] = json.loads(line)
        if not isinstance(values, dict):
            raise ValueError(f"it is no object but {str(values)[:20]}")
        stated = values.pop(_KEY, None)
    except (ValueError, RecursionError) as error:
        raise DamageError(f"{where} is damaged: {reason(error)}") from None
    if stated != _digest(values, number) and (ours or stated is not None):
        raise DamageError(
            f"{where} is damaged: its SHA-256 {'differs from the one it states' if stated else 'is missing'}"
        )
    return values


def _digest(values: dict[str, Any], number: int) -> str:
    content = json.dumps(values, separators=(",", ":"))
    return hashlib.sha256(f"{number} {content}".encode()).hexdigest()
