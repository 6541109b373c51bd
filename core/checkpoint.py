"""The .npz of a model: the one place that knows the file's layout.

Keys and shapes are those of core.model, without the trial axis (w1, b1, gamma1, beta1, running_mean1, running_var1,
..., and the linear layer's w and b), as in the published code, so that each loads the other's files.
"""

from __future__ import annotations

import io
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from core.errors import InputError


def save_model(path: Path, model: Mapping[str, np.ndarray]) -> None:
    """Write the arrays; the file appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            np.savez(file, allow_pickle=False, **model)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_model(path: Path) -> dict[str, np.ndarray]:
    """One trial's arrays as float32. Raises InputError if the file is not a whole .npz of finite numbers."""
    try:
        arrays = _read(path)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except _UNREADABLE as error:
        raise InputError(f"{path} is not a readable .npz of a model: {str(error) or type(error).__name__}") from None
    for name, values in arrays.items():
        if values.dtype.kind not in "fiu":
            raise InputError(f"{path}: {name} holds {values.dtype}, not numbers")
        with np.errstate(over="ignore"):
            arrays[name] = values.astype(np.float32)
        if not np.isfinite(arrays[name]).all():
            raise InputError(f"{path}: {name} holds nan, inf or a number beyond float32")
    return arrays


_UNREADABLE = (  # RuntimeError: encrypted, or a way of compressing that zipfile does not know
    *(OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError, OverflowError),
    *(struct.error, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)


def _read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz. Each is read to its end, where its checksum is; np.load stops where its header says."""
    with zipfile.ZipFile(path) as archive:
        members = {member.filename.removesuffix(".npy"): archive.read(member) for member in archive.infolist()}
    return {name: np.lib.format.read_array(io.BytesIO(data), allow_pickle=False) for name, data in members.items()}
