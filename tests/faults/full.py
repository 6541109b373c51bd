"""A disk that is full: no file may grow beyond a size, or a small file system has no room left."""

from __future__ import annotations

import random
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.faults import checks, project
from tests.faults.checks import Undisturbed


def fault(folder: Path, undisturbed: Undisturbed, rng: random.Random) -> tuple[int, int]:
    """Run with files of at most some size, then with none of these limits."""
    largest = max(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    size = int(largest * 2 ** rng.uniform(-6, 1.5))
    return 1, _trouble(folder, undisturbed, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))


def small_disk(folder: Path, undisturbed: Undisturbed, rng: random.Random) -> tuple[int, int]:
    """Run on a file system that is nearly full, then make it larger."""
    content = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    disk = folder.with_name(f"{folder.name}-disk")
    disk.mkdir(exist_ok=True)
    size = content // 1024 + rng.randint(20, 900)
    _mount(disk, size).check_returncode()
    try:
        shutil.copytree(folder, disk / "project")

        def larger() -> None:
            subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)

        return 1, _trouble(disk / "project", undisturbed, lambda: None, larger)
    finally:
        subprocess.run(["umount", disk], check=True)


def _trouble(
    folder: Path, undisturbed: Undisturbed, prepare: Callable[[], object], mend: Callable[[], object] = lambda: None
) -> int:
    first = project.run(folder, *project.RUN, prepare=prepare)
    checks.quiet(first)
    checks.require(first.status in (0, 2), "exit status", first.status, first.errors)
    mend()
    if "damaged" in first.errors:
        project.run(folder, "doctor", "some", "--fix")
    return checks.epochs(first) + checks.finished(folder, undisturbed) - undisturbed.epochs


def can_mount() -> bool:
    """Whether this user may mount a small file system; in a container, root may not."""
    with tempfile.TemporaryDirectory() as name:
        if shutil.which("mount") is None or _mount(Path(name), 4).returncode:
            return False
        subprocess.run(["umount", name], check=True)
        return True


def _mount(folder: Path, kibibytes: int) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", folder], capture_output=True)
