"""Which code and which packages are running."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path


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


def environment(backend: str, device: str, precision: str) -> dict[str, str]:
    """What a result was computed with: code, backend, device, system and package versions, as plain text."""
    packages = ("numpy", "numba", "optuna", "mlflow", "matplotlib", "scikit-learn", "cupy-cuda12x", "cupy-cuda13x")
    return {
        "code": code_version(),
        "backend": backend,
        "device": device,
        "precision": precision,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": ", ".join(f"{name} {version}" for name in packages if (version := _version(name))),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
