"""Cores and memory that this process may use."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path


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
