"""Where the project lives on disk, which version of its code is running, and what of the machine it may use."""

from __future__ import annotations

import os
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


def expand(path: str | Path) -> Path:
    """The path with ~ and ~user replaced; as it is where there is no such home."""
    return Path(os.path.expanduser(path))
