"""Where the project lives on disk, and which version of its code is running."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
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


def environment(backend: str, device: str) -> dict[str, str]:
    """What a result was computed with: code, backend, device, system and package versions, as plain text."""
    packages = ("numpy", "optuna", "mlflow", "matplotlib", "scikit-learn", "cupy-cuda12x", "cupy-cuda13x")
    return {
        "code": code_version(),
        "backend": backend,
        "device": device,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": ", ".join(f"{name} {version}" for name in packages if (version := _version(name))),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def available_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """The CPU's name and how many of its cores this process may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return f"{model}, {available_cores()} cores"
