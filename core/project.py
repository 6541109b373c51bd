"""Where the project lives on disk, which version of its code is running, and what of the machine it may use."""

from __future__ import annotations

import math
import os
import platform
import subprocess
from collections.abc import Iterator
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


def available_cores(system: Path = Path("/")) -> int:
    """Cores that this process may use: those it may run on, but no more than its control groups give it time for.

    system  the folder that holds proc and sys
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _control_groups("cpu", system):
        limits = _words(folder / "cpu.max")  # version 2; version 1 has a file for each
        limits = limits or _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
        if len(limits) == 2 and limits[0].isdecimal():  # else "max" or -1: there is none
            quota, period = map(int, limits)
            cores = min(cores, max(1, math.ceil(quota / period)))
    return cores


def available_memory(system: Path = Path("/")) -> int:
    """Bytes that this process can still get: what the machine has free, but no more than its control groups allow.

    What the system keeps of files that were read, and would give up, counts as free.
    """
    free = [_free_memory(system)]
    for folder in _control_groups("memory", system):
        for limit, usage, files in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            allowed, used = _words(folder / limit), _words(folder / usage)
            if used and allowed and allowed[0].isdecimal():
                given_up = _named(folder / "memory.stat").get(files, 0)
                free.append(int(allowed[0]) - int(used[0]) + given_up)
    return max(0, min(free))


def _free_memory(system: Path) -> int:
    known = _named(system / "proc/meminfo").get("MemAvailable:")
    if known is not None:
        return known * 1024
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")


def _control_groups(controller: str, system: Path) -> Iterator[Path]:
    """The folders that limit this process on Linux: its control group's and those above it, of both versions."""
    base = system / "sys/fs/cgroup"
    for line in _lines(system / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = base / controller if controllers else base
        own = top / os.path.normpath(f"/{path}").lstrip("/")  # may begin with /.., or be as the host sees it
        yield from (folder for folder in (own, *own.parents) if folder == top or top in folder.parents)


def _lines(path: Path) -> list[str]:
    """A file's lines; none where it cannot be read."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _named(path: Path) -> dict[str, int]:
    """The numbers of a file whose lines are a name and a number."""
    pairs = (line.split()[:2] for line in _lines(path))
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def processor() -> str:
    """The CPU's name and how many of its cores this process may use."""
    named = (line.partition(":")[2].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name"))
    model = next(named, platform.machine())
    return f"{model}, {available_cores()} cores"
