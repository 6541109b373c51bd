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
from collections.abc import Collection
from pathlib import Path

import numpy as np

from core.errors import InputError, reason
from core.project import available_memory

LARGEST = 16 * 2**30  # bytes of all arrays together
_UNREADABLE = (  # RuntimeError: encrypted, or a way of compressing that zipfile does not know
    *(OSError, ValueError, EOFError, LookupError, TypeError, SyntaxError, RuntimeError, MemoryError, OverflowError),
    *(struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)


def read(path: Path, wanted: Collection[str] | None = None, content: bytes | None = None) -> dict[str, np.ndarray]:
    """The wanted arrays of an .npz (default: all), as far as it has them. They cannot be written to.

    content  the .npz, where it is only a part of the file at path

    Sizes are checked before memory is taken, members are read to their end, where their checksum is, and no Python
    object is ever made. Raises InputError in one line if that does not work out.
    """
    try:
        with zipfile.ZipFile(path if content is None else io.BytesIO(content)) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            chosen = {name: member for name, member in members.items() if wanted is None or name in wanted}
            total, most = sum(member.file_size for member in chosen.values()), min(LARGEST, available_memory())
            if total > most:
                raise ValueError(f"it announces {total / 2**30:.1f} GiB, at most {most / 2**30:.1f} are read")
            return {name: _array(name, _content(archive, member)) for name, member in chosen.items()}
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except _UNREADABLE as error:
        raise InputError(f"{path} is not a readable .npz: {reason(error)}") from None


def names(path: Path) -> list[str]:
    """What the arrays of a readable .npz are called."""
    with zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """A member, of which no more is unpacked than it announces: ZipFile.read would unpack all that there is first."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename} is compressed in a way that NumPy does not write")
    with archive.open(member) as file:
        return file.read(member.file_size)


def _array(name: str, data: bytes) -> np.ndarray:
    file = io.BytesIO(data)
    first = np.lib.format.read_magic(file) == (1, 0)
    header = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings(action="ignore"):  # a header by Python 2 is as good
        shape, column_order, dtype = header(file)
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which are never loaded: save plain numbers")
    announced, held = math.prod(shape) * dtype.itemsize, len(data) - file.tell()
    if announced != held:
        raise ValueError(f"{name} announces {announced} bytes and holds {held}")
    return np.frombuffer(data, dtype, offset=file.tell()).reshape(shape, order="F" if column_order else "C")
