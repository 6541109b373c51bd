"""CIFAR-10 (Krizhevsky 2009) in its official format: python -m core.cifar10 downloads it, read() reads the folder."""

from __future__ import annotations

import os
import shutil
import tarfile
import zlib
from pathlib import Path

import numpy as np

from core.data.formats import cifar10_pickle
from core.errors import InputError, reason
from core.project import expand, root

FOLDER = "cifar-10-batches-py"
TRAINING = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = "test_batch"
NAMES = "batches.meta"
FILES = (*TRAINING, TEST, NAMES)
_BYTES = dict(
    zip(FILES, (31_035_704, 31_035_320, 31_035_999, 31_035_696, 31_035_623, 31_035_526, 158), strict=True)
)  # of the official files
SHAPE = (3, 32, 32)
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"


def _read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    content = cifar10_pickle.load(path, _BYTES.get(path.name, 0))
    rows, labels = content.get(b"data"), content.get(b"labels")
    pixels = rows.array if isinstance(rows, cifar10_pickle.Pixels) else None
    if pixels is None or pixels.ndim != 2 or pixels.shape[1] != 3072 or len(pixels) == 0:
        raise InputError(f"{path}: its data must be rows of 3072 bytes, one an image")
    if not isinstance(labels, list) or len(labels) != len(pixels):
        raise InputError(f"{path}: it must have as many labels as its {len(pixels)} images")
    for label in labels:
        if type(label) is not int or not 0 <= label <= 9:
            found = label if isinstance(label, int) else f"of type {type(label).__name__}"
            raise InputError(f"{path}: label {found} is not a whole number from 0 to 9")
    return pixels.reshape(-1, *SHAPE), np.array(labels, np.int64)


def _read_names(path: Path) -> tuple[str, ...]:
    names = cifar10_pickle.load(path, _BYTES.get(path.name, 0)).get(b"label_names")
    if not isinstance(names, list) or len(names) != 10 or not all(isinstance(name, bytes) for name in names):
        raise InputError(f"{path}: label_names must be ten names")
    return tuple(name.decode("ascii", "replace") for name in names)


def locate(data_dir: str | Path | None = None) -> Path | None:
    """The cifar-10-batches-py folder in, or at, data_dir; else $CIFAR10_DIR; else <root>/data. None if none is there.

    Raises InputError if data_dir or $CIFAR10_DIR is given but holds none.
    """
    given = data_dir or os.environ.get("CIFAR10_DIR")
    place = expand(given) if given else root() / "data"
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
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{folder} lacks {', '.join(missing)}: all of {', '.join(FILES)} must be there")
    batches = [_read_batch(folder / name) for name in TRAINING]
    x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return x, y, *_read_batch(folder / TEST), _read_names(folder / NAMES)


def download(place: Path, url: str = URL, sha256: str = SHA256) -> Path:
    """Fetch the archive, check its SHA-256 and unpack it into place; returns the folder, at once if it is there.

    The folder appears whole or not at all. Raises InputError if the archive cannot be had or is not the right one,
    or if the folder that is there is incomplete or damaged.
    """
    from filelock import FileLock, Timeout

    folder = place / FOLDER
    if folder.exists():
        _check(folder)
        return folder
    try:
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / f".{FOLDER}.lock", timeout=0):
            _fetch(folder, url, sha256)
    except Timeout:
        raise InputError(f"CIFAR-10 is being downloaded into {place} by another process: wait for it") from None
    except (OSError, ValueError, EOFError, tarfile.TarError, zlib.error) as error:
        raise InputError(f"CIFAR-10 could not be downloaded from {url}: {_reason(error)}") from None
    return folder


def _reason(error: Exception) -> str:
    """What went wrong, on one line. Errors of the network come wrapped in others, which tell of retries."""
    first = error.args[0] if error.args else None
    if isinstance(first, Exception):
        cause = getattr(first, "reason", None)
        return _reason(cause if isinstance(cause, Exception) else first)
    return " ".join((first if isinstance(first, str) and first else reason(error)).split())


def _fetch(folder: Path, url: str, sha256: str) -> None:
    import pooch
    from tqdm import tqdm

    pooch.get_logger().setLevel("WARNING")  # its notes repeat ours
    part = folder.with_name(f".{FOLDER}.part")
    shutil.rmtree(part, ignore_errors=True)  # left by a download that was killed
    try:
        unpacked = part / FOLDER
        unpacked.mkdir(parents=True)
        with tqdm(total=1, ncols=79, unit="B", unit_scale=True, leave=False) as bar:  # pooch will know the total
            fetch = pooch.HTTPDownloader(progressbar=bar, timeout=30)
            archive = pooch.retrieve(url, f"sha256:{sha256}", fname="archive", path=part, downloader=fetch)
        _unpack(Path(archive), unpacked)
        unpacked.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _check(folder: Path) -> None:
    try:
        read(folder)
    except InputError as error:
        raise InputError(f"{error}; remove {folder} to download it anew") from None


def _unpack(archive: Path, target: Path) -> None:
    """Copy the expected files' contents, and nothing else, whatever the archive holds."""
    wanted = {f"{FOLDER}/{name}": name for name in FILES}
    with tarfile.open(archive) as tar:
        for member in tar:
            source = tar.extractfile(member) if member.isfile() and member.name in wanted else None
            if source is not None:
                with source, open(target / wanted.pop(member.name), "wb") as file:
                    shutil.copyfileobj(source, file)
    if wanted:
        raise ValueError(f"the archive lacks {', '.join(wanted)}")
