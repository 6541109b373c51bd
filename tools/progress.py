"""Say how far pip is, by what it prints into a file: python tools/progress.py PARENT LOG FOLDER

FOLDER is where packages are written. One line that moves on a terminal, elsewhere a line every 15 seconds in which
something has changed. Ends with the process PARENT that started it.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

PAUSE, SELDOM = 0.5, 15.0  # seconds between looks, and between lines where there is no terminal
_FOUND = re.compile(r"^ *(?:Collecting|Processing) (\S+)", re.MULTILINE)
_FETCHED = re.compile(r"^ *(?:Downloading|Using cached|Processing) \S+\.(?:whl|tar\.gz)(?: |$)", re.MULTILINE)
_INSTALLING = re.compile(r"^ *Installing collected packages: (.+)", re.MULTILINE)


def how_far(log: str, written: int) -> str:
    """In words; written: packages that lie in the folder since pip began."""
    if installing := _INSTALLING.search(log):
        count = len(installing[1].split(", "))
        return f"installed {min(written, count)} of {count} packages"
    if found := set(_FOUND.findall(log)):
        return f"fetched {len(_FETCHED.findall(log))} of the {len(found)} packages found so far"
    return ""


def written_since(folder: Path, began: float) -> int:
    """Packages whose record is new."""
    return sum(path.stat().st_mtime >= began for path in folder.glob("*.dist-info"))


def main(parent: int, log: Path, folder: Path) -> None:
    began, said, last = time.time(), "", 0.0
    while os.getppid() == parent:
        time.sleep(PAUSE)
        text = how_far(log.read_text(errors="replace"), written_since(folder, began)) if log.exists() else ""
        if text == said:
            continue
        if sys.stderr.isatty():
            print(f"\r{text:<60}", end="", file=sys.stderr, flush=True)
            said = text
        elif time.monotonic() - last >= SELDOM:
            print(text, file=sys.stderr, flush=True)
            said, last = text, time.monotonic()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
