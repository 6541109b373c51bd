"""The GPU backend on a CPU: its kernels as C++, a block at a time (host_cuda/host.h). To check it, not to train."""

from __future__ import annotations

import ctypes
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from filelock import FileLock

from core.backends.gpu import cuda
from core.backends.gpu.operations import make_ops
from core.ops import Ops

HERE = Path(__file__).parent / "host_cuda"
COMPILER = shutil.which("g++")
OPTIMISED = "-O2"
_OPTIONS = (
    "-std=c++17",
    "-shared",
    "-fPIC",
    "-fno-strict-aliasing",
    "-U_FORTIFY_SOURCE",
    "-Wall",
    "-Werror",
    "-Wno-unknown-pragmas",
)


class DeviceArray(np.ndarray):
    """An array that stands for one in a GPU's memory: like CuPy's it meets none of the host's."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        _refuse_host_arrays(inputs)
        plain = [value.view(np.ndarray) if isinstance(value, DeviceArray) else value for value in inputs]
        if out := options.get("out"):
            options["out"] = tuple(value.view(np.ndarray) for value in out)
        result = getattr(ufunc, method)(*plain, **options)
        return out[0] if out else _on_device(result)


def _refuse_host_arrays(values: Any) -> None:
    for value in values:
        if isinstance(value, np.ndarray) and not isinstance(value, DeviceArray) and value.ndim:
            raise TypeError("an array of the host, where a GPU's is needed")


def _on_device(result: Any) -> Any:
    return result.view(DeviceArray) if isinstance(result, np.ndarray) else result


class _DeviceModule(ModuleType):
    """NumPy, as CuPy is: its functions make the device's arrays, and but for asarray they take no others.

    of  the module of NumPy that it stands for
    """

    def __init__(self, name: str, of: ModuleType) -> None:
        super().__init__(name)
        self._of = of

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._of, name)
        if isinstance(found, ModuleType):
            return _DeviceModule(name, found)
        if not callable(found) or isinstance(found, type):
            return found

        def function(*arguments: Any, **options: Any) -> Any:
            if name not in ("array", "asarray"):
                _refuse_host_arrays(arguments)
            return _on_device(found(*arguments, **options))

        return function


XP = sys.modules["host_device"] = _DeviceModule("host_device", np)
DeviceArray.__module__ = XP.__name__  # by which core finds the functions that belong to an array


def to_host(values: Any) -> np.ndarray:
    return np.array(values, subok=False)


class HostDevice:
    """Runs kernels on the CPU.

    orders  in how many orders the threads of a block take turns; all must give the same bits
    """

    xp = XP

    def __init__(self, orders: int = 3) -> None:
        self._library, self._orders = _library(), orders

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
        values = np.empty(shape, dtype)
        values.reshape(-1).view(np.uint8).fill(0xFF)  # NaN
        return values.view(DeviceArray)

    def address(self, values: np.ndarray) -> int:
        return values.ctypes.data

    def to_host(self, values: Any) -> np.ndarray:
        return to_host(values)

    def launch(self, kernel: str, grid: tuple[int, ...], block: int, shared: int, *arguments: Any) -> None:
        assert 0 < block <= 1024
        assert 0 <= shared <= 64 * 1024
        assert all(0 < size < (2**31 if i == 0 else 2**16) for i, size in enumerate(grid))
        values, sizes, orders = [], [], self._orders
        for argument in arguments:
            value, size = _argument(argument)
            if isinstance(argument, np.ndarray) and argument.dtype.names == ("list", "count", "momentum"):
                orders = 1  # it has addresses in it, of arrays that cannot be put back for another time
            values.append(value)
            sizes.append(size)
        pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        result = self._library.host_launch(
            kernel.encode(), (ctypes.c_uint * 3)(*(*grid, 1, 1)[:3]), block, ctypes.c_size_t(shared),
            pointers, (ctypes.c_long * len(sizes))(*sizes), len(values), orders,
        )  # fmt: skip
        problems = {1: "there is no such kernel", 2: "it takes another number of arguments", 3: "its threads race"}
        assert result == 0, f"{kernel}: {problems[result]}"

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        return work


def _argument(value: Any) -> tuple[np.ndarray, int]:
    """An argument as memory that holds it, and the size of the array it stands for; -1 for a value."""
    if value is None:
        return np.zeros(1, np.uint64), -1
    if isinstance(value, np.ndarray) and value.dtype.names is None:
        _refuse_host_arrays([value])
        assert value.flags.c_contiguous
        assert value.flags.writeable
        return np.array([value.ctypes.data], np.uint64), value.nbytes
    if isinstance(value, np.ndarray):
        assert value.size == 1
        return value, -1
    assert not isinstance(value, bool)
    types = {int: np.int32, float: np.float32}
    return np.array([value], types.get(type(value))), -1


@cache
def _library() -> ctypes.CDLL:
    """The kernels, compiled once for these sources."""
    source = f'#include "{HERE / "host.h"}"\n' + cuda.source()
    expanded = subprocess.run(
        [COMPILER, "-std=c++17", "-E", "-P", "-x", "c++", "-"], input=source, capture_output=True, text=True, check=True
    ).stdout
    names = re.findall(r'extern "C"\s+void\s+(\w+)\(', expanded)
    cases = "\n".join(f'  if (!strcmp(name, "{name}")) return host::launch({name}, LAUNCH);' for name in names)
    source += f"""
#define LAUNCH {{g[0], g[1], g[2]}}, block, shared, values, bytes, count, orders
extern "C" int host_launch(const char *name, const unsigned *g, unsigned block, size_t shared, void **values,
                           const long *bytes, unsigned count, int orders) {{
{cases}
  return 1;
}}
"""
    path = Path(tempfile.gettempdir()) / f"host_cuda-{hashlib.sha256(source.encode()).hexdigest()[:16]}.so"
    with FileLock(f"{path}.lock"):  # compiled by one process, while the others wait
        if not path.exists():
            _compile(source, path)
    return ctypes.CDLL(str(path))


def device_count() -> int:
    return 1


def _compile(source: str, path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / path.name
        subprocess.run(
            [str(COMPILER), OPTIMISED, *_OPTIONS, "-x", "c++", "-", "-o", made], input=source, text=True, check=True
        )
        shutil.move(made, path)


def host_ops(orders: int = 3, precision: str = "float32") -> Ops:
    """The GPU backend's operations on the CPU."""
    fields = {"device": "a CPU in its place", "device_count": device_count(), "max_processes": device_count}
    return make_ops(HostDevice(orders), precision, **fields, xp=XP, to_host=to_host)
