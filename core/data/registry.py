"""Data sets by name or path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from core.data.dataset import Dataset, make_dataset
from core.data.formats import cifar10, digits, npz_file
from core.data.pixels import PixelRange
from core.errors import InputError
from core.project import expand
from core.shell_commands import command, quoted

# What reads a user's own file, by the end of its name.
FILES: dict[str, Callable[[Path], Dataset]] = {".npz": npz_file.load}


def is_file(name: str) -> bool:
    """Whether a data set of this name is a user's own file."""
    return name.endswith(tuple(FILES))


def load(name: str | None = None, data_dir: str | Path | None = None) -> Dataset:
    """The data set called name: "cifar10", "digits", the path of a file that FILES knows, or None or "auto".

    "auto" is CIFAR-10 where cifar10.locate finds it, else digits. Only CIFAR-10 heeds data_dir.
    Raises InputError if name is none of these, or the data is missing, damaged or not what it should be.
    """
    for suffix, read in FILES.items():
        if name is not None and name.endswith(suffix):
            return read(expand(name))
    if name not in (None, "auto", "cifar10", "digits"):
        raise InputError(
            f'data is "{name}": it must be auto, cifar10, digits or the path of an {" or ".join(FILES)} file'
        )
    if name == "digits":
        return digits.load()
    folder = cifar10.locate(data_dir)
    if folder is not None:
        return make_dataset("cifar10", str(folder), cifar10.read(folder), PixelRange(1 / 255, white=255.0))
    if name == "cifar10":
        raise InputError(f"CIFAR-10 is not here: {_download()} downloads it, or --data-dir says where it is")
    return replace(digits.load(), note=f"CIFAR-10 not found: run {_download()}, or give --data-dir")


def _download() -> str:
    return quoted(command("core.cifar10"))


def describe(data: Dataset) -> str:
    """One line on what was chosen."""
    _, c, height, width = data.x.shape
    test = "no test images" if data.x_test is None else f"{len(data.x_test)} for test"
    line = f"data: {data.name} from {data.source}, {len(data.x)} images {c}x{height}x{width} and {test}"
    line += f", {len(data.classes)} classes, sha256 {data.sha256[:8]}"
    return f"{line} ({data.note})" if data.note else line
