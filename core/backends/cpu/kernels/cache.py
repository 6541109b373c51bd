"""Where compiled kernels are kept: a folder for each text of the sources, set of versions and processor.

Numba's own cache goes by a source's path, and in older versions by its time; it would not notice an edited helper in
another file, and lets two processes write each other's index. Here the folder's name says all that decides the machine
code, and one process at a time uses it: copies of the project share what one of them has compiled.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from filelock import FileLock, Timeout
from numba.core import caching, config
from numba.core.registry import cpu_target

SOURCES = sorted(Path(__file__).parent.glob("*.py"))
KEPT = 16  # folders that stay, of those used last; each has a few MB
_COMPLETE = "complete"  # a file that stands in a folder once every kernel does; its time tells the last use
_NAME = re.compile("[0-9a-f]{16}")
_KERNEL = re.compile(rb"^@(?:kernel|parallel)\(", re.MULTILINE)
# Of Numba's settings, those that do not change the code: where it lies, and which threads run it.
_ELSEWHERE = re.compile(r"CACHE_|CUDA_|COLOR_|THREADING_|NUMBA_.*NUM_THREADS")

_folder = Path()  # the one in use: see compiling
_progress: _Progress | None = None  # while kernels are compiled


class _Locator(caching._CacheLocator):
    """All kernels lie in the one folder."""

    def __init__(self, function: Any, file: str) -> None:
        self._line, self._py_file = function.__code__.co_firstlineno, file

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> _Locator:
        return cls(py_func, py_file)

    def get_cache_path(self) -> str:
        return str(_folder)

    def get_source_stamp(self) -> str:
        return ""  # the folder's name tells more

    def get_disambiguator(self) -> str:
        return str(self._line)


class _Results(caching.CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012 (Numba's name for it, and not mutated)


class Cache(caching.FunctionCache):
    """A kernel's place in the folder of compiling()."""

    _impl_class = _Results


def kept(dispatcher: Any, signature: str) -> None:
    """Compile Numba's dispatcher for this signature alone, or take what was compiled from the folder."""
    dispatcher._cache = Cache(dispatcher.py_func)
    dispatcher.compile(signature)
    dispatcher.disable_compile()
    if _progress:
        _progress.step()


def digest() -> str:
    """Of all that decides the machine code: 16 hexadecimal digits."""
    versions = sys.version, numba.__version__, llvmlite.__version__, np.__version__
    processor = cpu_target.target_context.codegen().magic_tuple()  # as Numba sees it: name and features
    options = {name: repr(value) for name, value in sorted(vars(config).items()) if name.isupper()}
    options = {name: value for name, value in options.items() if not _ELSEWHERE.match(name)}
    found = hashlib.sha256(repr((versions, processor, options)).encode())
    for path in SOURCES:
        found.update(hashlib.sha256(path.name.encode()).digest() + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:16]


def home() -> Path:
    """The folder of folders: $FUSED_SWEEP_CACHE, else in the user's folder for caches."""
    if folder := os.environ.get("FUSED_SWEEP_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fused-sweep"


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _usable() -> Path:
    """The folder for these kernels; if it cannot be written, a copy of it that lives as long as this process."""
    folder = home() / digest()
    if _writable(folder):
        return folder
    passing = Path(tempfile.mkdtemp(prefix="fused-sweep-"))
    atexit.register(shutil.rmtree, passing, ignore_errors=True)
    if (folder / _COMPLETE).exists():
        shutil.copytree(folder, passing, dirs_exist_ok=True)
    else:
        _say(f"{folder} cannot be written: kernels are compiled anew in every process")
    return passing


@contextmanager
def compiling() -> Iterator[None]:
    """Around the import of the kernels: one process compiles, others wait for it and load what it made."""
    global _folder, _progress
    _folder = _usable()
    complete = _folder / _COMPLETE
    config.CACHE_LOCATOR_CLASSES = ""  # type: ignore[attr-defined]  # a user's, for other functions
    with _locked(_folder, complete):
        new = not complete.exists()
        _progress = _Progress() if new else None
        yield
        _progress = None
        complete.touch()
        if new:
            _clear()


@contextmanager
def _locked(folder: Path, complete: Path) -> Iterator[None]:
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not complete.exists():
            _say("Another process is making the CPU backend's kernels: waiting for it.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _say(text: str, end: str = "\n") -> None:
    print(text, end=end, file=sys.stderr, flush=True)


class _Progress:
    """How many kernels are compiled: one line that moves on a terminal, a line at each quarter elsewhere."""

    def __init__(self) -> None:
        self._done, self._all = 0, sum(len(_KERNEL.findall(path.read_bytes())) for path in SOURCES)
        _say(f"Compiling the CPU backend for this machine, once: {self._all} kernels, about half a minute.")

    def step(self) -> None:
        self._done += 1
        text, last = f"compiled {self._done} of {self._all} kernels", self._done == self._all
        if sys.stderr.isatty():
            _say(f"\r{text}", "\n" if last else "")
        elif 4 * self._done // self._all > 4 * (self._done - 1) // self._all:
            _say(text)


def _clear() -> None:
    """Remove the folders of other texts, versions and processors, but for those used last."""
    others = [path for path in home().glob("*") if _NAME.fullmatch(path.name) and path != _folder]
    for folder in sorted(others, key=_used, reverse=True)[KEPT - 1 :]:
        with suppress(OSError, Timeout), FileLock(folder / "lock", timeout=0):
            shutil.rmtree(folder, ignore_errors=True)


def _used(folder: Path) -> float:
    """When the folder was used last."""
    for path in (folder / _COMPLETE, folder):
        with suppress(OSError):
            return path.stat().st_mtime
    return 0.0
