"""Reading .npz files that may be damaged or hostile."""

from __future__ import annotations

import io
import lzma
import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from core.errors import InputError, reason
from core.machine.hardware import available_memory

_CHUNK = 2**20  # bytes that are unpacked at a time
LARGEST = 16 * 2**30  # bytes of all arrays together
_UNREADABLE = (  # RuntimeError: encrypted, or a way of compressing that zipfile does not know
    *(OSError, ValueError, EOFError, LookupError, TypeError, SyntaxError, RuntimeError, MemoryError, OverflowError),
    *(struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)


@dataclass(frozen=True)
class Header:
    """What an array's first bytes announce; size: of all its values, in bytes."""

    dtype: np.dtype
    shape: tuple[int, ...]
    by_columns: bool
    size: int


def plain(headers: Mapping[str, Header]) -> int:
    """Bytes that the arrays themselves take."""
    return sum(header.size for header in headers.values())


def read(
    path: Path,
    wanted: Collection[str] | None = None,
    content: bytes | None = None,
    memory: Callable[[Mapping[str, Header]], int] = plain,
) -> dict[str, np.ndarray]:
    """The wanted arrays of an .npz (default: all), as far as it has them. They cannot be written to.

    content  the .npz, where it is only a part of the file at path
    memory   bytes that the arrays and what is made of them take at once

    Sizes are checked before memory is taken, members are read to their end, where their checksum is, and no Python
    object is ever made. Raises InputError in one line if that does not work out.
    """
    try:
        with zipfile.ZipFile(path if content is None else io.BytesIO(content)) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            chosen = {name: member for name, member in members.items() if wanted is None or name in wanted}
            total, free = sum(member.file_size for member in chosen.values()), available_memory()
            if total > (most := min(LARGEST, free)):
                raise ValueError(f"it announces {total / 2**30:.1f} GiB, at most {most / 2**30:.1f} are read")
            needed = memory({name: _header(archive, name, member) for name, member in chosen.items()})
            if needed > free:
                raise ValueError(f"{needed / 2**20:.0f} MiB are needed to read it, {free / 2**20:.0f} are free")
            return {name: _array(archive, name, member) for name, member in chosen.items()}
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except _UNREADABLE as error:
        raise InputError(f"{path} is not a readable .npz: {reason(error)}") from None


def names(path: Path) -> list[str]:
    """What the arrays of a readable .npz are called."""
    with zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def _opened(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> IO[bytes]:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename} is compressed in a way that NumPy does not write")
    return archive.open(member)


def _header(archive: zipfile.ZipFile, name: str, member: zipfile.ZipInfo) -> Header:
    with _opened(archive, member) as file:
        return _announced(name, file, member)


def _announced(name: str, file: IO[bytes], member: zipfile.ZipInfo) -> Header:
    """An array's header, after which the file stands at its values."""
    first = np.lib.format.read_magic(file) == (1, 0)
    header = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings(action="ignore"):  # a header by Python 2 is as good
        shape, by_columns, dtype = header(file)
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which are never loaded: save plain numbers")
    announced, held = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
    if announced != held:
        raise ValueError(f"{name} announces {announced} bytes and holds {held}")
    return Header(dtype, shape, by_columns, held)


def _array(archive: zipfile.ZipFile, name: str, member: zipfile.ZipInfo) -> np.ndarray:
    """A member's array, of which no more is unpacked than it announces: ZipFile.read would unpack all that there is
    first, and take the memory twice.
    """
    with _opened(archive, member) as file:
        header = _announced(name, file, member)
        values, done = np.empty(header.size, np.uint8), 0
        while part := file.read(min(_CHUNK, header.size - done)):
            values[done : done + len(part)] = np.frombuffer(part, np.uint8)
            done += len(part)
    if done < header.size:
        raise EOFError(f"{name} is cut off")
    values.flags.writeable = False
    return np.frombuffer(values, header.dtype).reshape(header.shape, order="F" if header.by_columns else "C")
