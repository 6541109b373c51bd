"""The files of a report."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path

from core.errors import InputError, reason
from core.project import expand


def print_path(path: Path, browser: bool) -> None:
    """Print a page's path, once it is open in the browser if that was asked for."""
    if browser and not webbrowser.open(path.resolve().as_uri()):
        print("no browser could be started: open the page yourself, or set BROWSER", file=sys.stderr)
    print(path)


def write_file(folder: str, name: str, text: str) -> Path:
    """Write a file. Raises InputError if that cannot be."""
    path = expand(folder) / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {reason(error)}") from None
    return path
