"""Where the project lives on disk, and which version of its code is running."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path


def root() -> Path:
    """The folder that holds mlflow.db, mlruns/, data/ and experiments/.

    $SWEEP_ROOT if set; else the source checkout this package was imported from;
    else (installed without its sources) the current folder.
    """
    if chosen := os.environ.get("SWEEP_ROOT"):
        return Path(chosen).resolve()
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()


@cache
def code_version() -> str:
    """Commit of the running code, with "-dirty" when tracked files differ from it; "unknown" outside git."""
    checkout = Path(__file__).resolve().parent
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()
