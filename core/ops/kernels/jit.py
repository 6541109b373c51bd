"""How kernels become machine code: once for this machine's processor and these sources, then from a folder on disk.

Every kernel states its signature, so that importing its file compiles it or finds it compiled. All of that happens
under compiling(), which lets one process at a time into the folder.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# How often a thread of GNU's OpenMP looks for new work before it sleeps. The default, a few milliseconds' worth, makes
# everything many times slower as soon as another program wants the cores; not at all, and small kernels wait to wake.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")

import numba
from filelock import FileLock
from numba.core import config
from numba.core.registry import cpu_target

# Sums may be taken in another order and products added without rounding between; NaN and infinities keep their meaning.
_FASTMATH = {"contract", "nsz", "reassoc", "arcp"}
_COMPLETE = "complete"  # a file that stands in the folder once every kernel does


def _processor() -> tuple[str, str]:
    """What Numba compiles for: the processor's name and its features."""
    name: str
    features: str
    _, name, features = cpu_target.target_context.codegen().magic_tuple()
    return name, features


def _has(feature: str) -> bool:
    return f"+{feature}" in _processor()[1].split(",")


# Numbers in a vector register, and rows of a matrix product held in registers at a time (beside two vectors a row):
# 16 registers are too few for eight rows.
LANES = 16 if _has("avx512f") else 8 if _has("avx") else 4
THREADS: int = config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]  # at most; core.threads may ask for fewer
ROWS = 8 if _has("avx512f") or _has("neon") else 6


def kernel(signature: str, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function for arguments of exactly these types."""
    return numba.njit(signature, cache=True, nogil=True, error_model="numpy", fastmath=_FASTMATH, **options)


def parallel(signature: str) -> Callable[[Callable[..., Any]], Any]:
    """The same, with its loops over prange shared out among the threads."""
    return kernel(signature, parallel=True)


def _sources() -> str:
    """A digest of all that decides the machine code."""
    digest = hashlib.sha256(repr((sys.version, numba.__version__, _processor(), LANES, ROWS)).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(f"{path} {path.stat().st_mtime_ns}".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _home() -> Path:
    """Where compiled kernels are kept: $FUSED_SWEEP_CACHE, else in the user's folder for caches."""
    if chosen := os.environ.get("FUSED_SWEEP_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fused-sweep"


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _folder() -> Path:
    """The folder for these kernels; if it cannot be written, a copy of it that lives as long as this process."""
    kept = _home() / _sources()
    if _writable(kept):
        return kept
    passing = Path(tempfile.mkdtemp(prefix="fused-sweep-"))
    atexit.register(shutil.rmtree, passing, ignore_errors=True)
    if (kept / _COMPLETE).exists():
        shutil.copytree(kept, passing, dirs_exist_ok=True)
    else:
        print(f"{kept} cannot be written: kernels are compiled anew in every process", file=sys.stderr)
    return passing


@contextmanager
def compiling() -> Iterator[None]:
    """Around the import of the kernels: one process compiles, others wait for it and load what it made."""
    folder = _folder()
    config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
    with FileLock(folder / "lock"):
        if not (folder / _COMPLETE).exists():
            print("Compiling the CPU backend for this machine: about half a minute, once.", file=sys.stderr, flush=True)
        yield
        (folder / _COMPLETE).touch()
