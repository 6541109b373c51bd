"""CIFAR-10 (Krizhevsky 2009) in its official format: python -m core.cifar10 downloads it, read() reads the folder.

The official files are pickles, and a pickle can run anything. They are read here by an unpickler that knows four
names, each of which stands for plain code of this module: no class or function of another module is ever called.
"""

from __future__ import annotations

import argparse
import os
import pickle
import shutil
import struct
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from core.errors import InputError
from core.project import root

FOLDER = "cifar-10-batches-py"
TRAINING = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = "test_batch"
NAMES = "batches.meta"
SHAPE = (3, 32, 32)
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
_LARGEST_FILE = 2**30
_UNPICKLING_ERRORS = (
    *(pickle.UnpicklingError, EOFError, ValueError, LookupError, AttributeError, TypeError, struct.error),
    *(MemoryError, RecursionError, OverflowError, AssertionError, NotImplementedError),
)


class _Type:
    """Stands for numpy.dtype: only single bytes are allowed."""

    def __init__(self, name: bytes, *_: object) -> None:
        if name != b"u1":
            raise pickle.UnpicklingError(f"an array of {name!r} instead of u1 (uint8)")

    def __setstate__(self, state: object) -> None:
        """Byte order and the like: nothing that matters for single bytes."""


class _Bytes:
    """Stands for numpy.ndarray: keeps its shape and bytes."""

    array: np.ndarray

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Type, bool, bytes]) -> None:
        _, shape, kind, column_order, raw = state
        if not isinstance(kind, _Type) or column_order or not isinstance(raw, bytes):
            raise pickle.UnpicklingError("an array that is not plain rows of uint8")
        self.array = np.frombuffer(raw, np.uint8).reshape(shape)


def _reconstruct(*_: object) -> _Bytes:
    return _Bytes()


# The Python unpickler, since the one in C allocates whatever memory a hostile file announces.
class _Unpickler(pickle._Unpickler):
    _KNOWN: ClassVar[dict[tuple[str, str], Callable[..., Any]]] = {
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): _Bytes,
        ("numpy", "dtype"): _Type,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR-10 file needs") from None


def _unpickle(path: Path) -> dict[bytes, Any]:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise InputError(f"{path} has {path.stat().st_size} bytes: a CIFAR-10 file has about 31 million")
        with open(path, "rb") as file:
            content = _Unpickler(file, encoding="bytes").load()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except InputError:
        raise
    except _UNPICKLING_ERRORS as error:
        raise InputError(f"{path} is refused as a CIFAR-10 file: {error or type(error).__name__}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is refused as a CIFAR-10 file: it holds no table of arrays")
    return content


def _read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    content = _unpickle(path)
    rows, labels = content.get(b"data"), content.get(b"labels")
    pixels = getattr(rows, "array", None)
    if not isinstance(rows, _Bytes) or pixels is None or pixels.ndim != 2 or pixels.shape[1] != 3072:
        raise InputError(f"{path}: its data must be rows of 3072 bytes, one an image")
    if not isinstance(labels, list) or len(labels) != len(pixels):
        raise InputError(f"{path}: it must have as many labels as its {len(pixels)} images")
    for label in labels:
        if type(label) is not int or not 0 <= label <= 9:
            raise InputError(f"{path}: label {label!r} is not a whole number from 0 to 9")
    return pixels.reshape(-1, *SHAPE), np.array(labels, np.int64)


def _read_names(path: Path) -> tuple[str, ...]:
    names = _unpickle(path).get(b"label_names")
    if not isinstance(names, list) or len(names) != 10 or not all(isinstance(name, bytes) for name in names):
        raise InputError(f"{path}: label_names must be ten names")
    return tuple(name.decode("ascii", "replace") for name in names)


def locate(data_dir: str | Path | None = None) -> Path | None:
    """The cifar-10-batches-py folder in, or at, data_dir; else $CIFAR10_DIR; else <root>/data. None if none is there.

    Raises InputError if data_dir or $CIFAR10_DIR is given but holds none.
    """
    given = data_dir or os.environ.get("CIFAR10_DIR")
    place = Path(given).expanduser() if given else root() / "data"
    for folder in (place, place / FOLDER):
        if any((folder / name).exists() for name in (*TRAINING, TEST)):
            return folder.resolve()
    if given:
        source = "--data-dir" if data_dir else "$CIFAR10_DIR"
        raise InputError(f"{source} is {place}, where there is no {FOLDER}: give the folder that holds data_batch_1")
    return None


def read(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]:
    """x (N, 3, 32, 32) uint8, y (N,) int64, x_test, y_test, and the classes' names.

    Raises InputError naming the file that is missing, damaged, or not what it should be.
    """
    missing = [name for name in (*TRAINING, TEST, NAMES) if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{folder} lacks {', '.join(missing)}: `make data` downloads the whole set")
    batches = [_read_batch(folder / name) for name in TRAINING]
    x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return x, y, *_read_batch(folder / TEST), _read_names(folder / NAMES)


def download(place: Path, url: str = URL, sha256: str = SHA256) -> Path:
    """Fetch the archive into place, check its SHA-256 and unpack it; returns the folder.

    The folder appears whole or not at all. Raises InputError if the archive cannot be had or is not the right one.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")  # its notes repeat ours

    folder = place / FOLDER
    if folder.is_dir():
        return folder
    try:
        place.mkdir(parents=True, exist_ok=True)
        fetch = pooch.HTTPDownloader(progressbar=True, timeout=30)
        archive = pooch.retrieve(url, f"sha256:{sha256}", fname=Path(url).name, path=place, downloader=fetch)
        with tempfile.TemporaryDirectory(dir=place) as temporary:
            whole = Path(temporary) / FOLDER
            whole.mkdir()
            _unpack(Path(archive), whole)
            whole.rename(folder)
    except (OSError, ValueError, KeyError, EOFError, tarfile.TarError) as error:
        raise InputError(f"CIFAR-10 could not be downloaded from {url}: {error}") from None
    return folder


def _unpack(archive: Path, target: Path) -> None:
    """Copy the expected files' contents, and nothing else, whatever names the archive holds."""
    with tarfile.open(archive) as tar:
        for name in (*TRAINING, TEST, NAMES):
            source = tar.extractfile(f"{FOLDER}/{name}")
            if source is None:
                raise ValueError(f"{name} in the archive is no file")
            with source, open(target / name, "wb") as file:
                shutil.copyfileobj(source, file)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m core.cifar10", description="Download CIFAR-10 (163 MB).")
    parser.add_argument("--dir", type=Path, default=root() / "data", help="where to put it (default: data/)")
    parser.add_argument("--url", default=URL)
    parser.add_argument("--sha256", default=SHA256)
    options = parser.parse_args(arguments)
    try:
        print(f"CIFAR-10 is in {download(options.dir, options.url, options.sha256)}")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
