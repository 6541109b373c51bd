"""Reads the pickles of the official CIFAR-10 files, and nothing that would run code.

A pickle is a program. This unpickler knows only the instructions that Python 2 wrote, and three names, each of which
stands for a class of this module: no function or class from elsewhere is ever called.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from core.errors import InputError, reason

# All of Python 2's binary protocols but what makes instances. Later instructions can claim any memory they name.
_INSTRUCTIONS = """
    PROTO STOP MARK POP POP_MARK DUP GLOBAL REDUCE BUILD BINPUT LONG_BINPUT BINGET LONG_BINGET
    NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINSTRING SHORT_BINSTRING BINUNICODE
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS SETITEM SETITEMS
"""
_LARGEST_FILE = 2**26  # bytes; the official files have 31 million
_DAMAGED = (
    *(pickle.UnpicklingError, EOFError, ValueError, LookupError, AttributeError, TypeError, struct.error),
    *(MemoryError, RecursionError, OverflowError, AssertionError),
)


def load(path: Path, whole: int) -> dict[bytes, Any]:
    """The dictionary in the file at path: lists, numbers, byte strings, and read-only arrays of uint8 as Pixels.

    whole  how many bytes the official file has

    Raises InputError if the file cannot be read, is damaged, or holds anything else.
    """
    try:
        if (size := path.stat().st_size) > _LARGEST_FILE:
            raise InputError(f"{path} has {size} bytes: a CIFAR-10 file has about 31 million")
        with open(path, "rb") as file:
            content = _read(file, size, whole)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {reason(error)}") from None
    except InputError:
        raise
    except _DAMAGED as error:
        raise InputError(f"{path} is refused as a CIFAR-10 file: {reason(error)}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is refused as a CIFAR-10 file: it holds no table of arrays")
    return content


def _read(file: BinaryIO, size: int, whole: int) -> object:
    """What the file holds. Raises EOFError if it is cut off, which shows in any of the ways of _DAMAGED at its end."""
    try:
        return _Unpickler(file, encoding="bytes").load()
    except _DAMAGED:
        if file.read(1) or size >= whole:
            raise
        raise EOFError(f"it is cut off: it has {size} bytes, the official one has {whole}") from None


class Pixels:
    """Stands for numpy.ndarray, and for the function that makes an empty one to be filled."""

    array: np.ndarray | None = None

    def __init__(self, *_: object) -> None:
        """An array whose shape and bytes follow."""

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Type, bool, bytes]) -> None:
        _, shape, kind, column_order, raw = state
        if not isinstance(kind, _Type) or not isinstance(raw, bytes):
            raise pickle.UnpicklingError("an array that is not of plain bytes")
        self.array = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if column_order else "C")


class _Type:
    """Stands for numpy.dtype: only single bytes are allowed."""

    def __init__(self, name: object, *_: object) -> None:
        if name != b"u1":
            raise pickle.UnpicklingError("an array of something else than u1 (uint8)")

    def __setstate__(self, state: object) -> None:
        """Byte order and the like: nothing that matters for single bytes."""


class _Table(dict[bytes, Any]):
    """A dictionary by name alone: hashing a deeply nested tuple would overflow the interpreter's stack."""

    __slots__ = ()

    def __setitem__(self, key: bytes, value: object) -> None:
        if not isinstance(key, bytes):
            raise pickle.UnpicklingError("a table whose keys are not names")
        super().__setitem__(key, value)


def _refuse(_: object) -> None:
    raise pickle.UnpicklingError("it holds an instruction that no CIFAR-10 file needs")


# The Python unpickler, since the one in C has no table of instructions to choose from.
class _Unpickler(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **dict.fromkeys(range(256), _refuse),
        **{code: pickle._Unpickler.dispatch[code] for name in _INSTRUCTIONS.split() for code in getattr(pickle, name)},
        pickle.EMPTY_DICT[0]: lambda self: self.append(_Table()),
    }
    _KNOWN: ClassVar[dict[tuple[str, str], type]] = {
        ("numpy.core.multiarray", "_reconstruct"): Pixels,
        ("numpy", "ndarray"): Pixels,
        ("numpy", "dtype"): _Type,
    }

    def find_class(self, module: str, name: str) -> type:
        try:
            return self._KNOWN[module, name]
        except KeyError:
            asked = f"{module}.{name}"[:80]
            raise pickle.UnpicklingError(f"it asks for {asked!r}, which no CIFAR-10 file needs") from None
