"""A GPU through CuPy: the only file that knows CuPy, which allocates, compiles, launches and records.

Not yet run on a GPU: the kernels were compiled for several, and run on a CPU (tests/helpers/host_gpu.py); this file was
not.
Everything runs on one stream, in the order it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from core.backends.gpu.cuda import source
from core.backends.gpu.device import Grid
from core.backends.gpu.tiles import SHARED
from core.errors import InputError, reason
from core.shell_commands import make, quoted

try:
    import cupy
except ImportError as error:
    why, setup = reason(error), quoted(make("setup"))
    raise InputError(f'backend is "gpu", but CuPy cannot be imported ({why}): {setup} installs it') from error

_OLDEST = {12: 70, 13: 75}  # compute capability that the compiler of a CUDA version knows
_SCALARS: dict[type, Callable[[Any], Any]] = {int: np.int32, float: np.float32, type(None): lambda none: np.uint64(0)}


def require_device() -> None:
    """Raise InputError unless there is a GPU that the installed CUDA can compile for."""
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise InputError(f'backend is "gpu", but no GPU answers ({reason(error)}): use --backend cpu') from error
    if count == 0:
        raise InputError('backend is "gpu", but there is no GPU: use --backend cpu')
    version = cupy.cuda.runtime.runtimeGetVersion() // 1000
    oldest, capability = _OLDEST.get(version, 75), compute_capability()
    if capability < oldest:
        raise InputError(
            f'backend is "gpu", but the GPU is of compute capability {capability / 10}: with CUDA {version} it must be '
            f"{oldest / 10} or newer"
        )


def device_count() -> int:
    """The GPUs that this process sees."""
    return int(cupy.cuda.runtime.getDeviceCount())


def device_name() -> str:
    """The current GPU's name."""
    return str(cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode())


def compute_capability() -> int:
    """The current GPU's, times ten: 80 is 8.0."""
    return int(cupy.cuda.Device().compute_capability)


class CupyDevice:
    """Runs kernels on the current GPU: a Device of core.backends.gpu.device."""

    xp = cupy

    def __init__(self) -> None:
        # A recording needs a stream of its own kind; all else takes the same one, so that nothing has to wait.
        # As a context that is never left: after `use`, the first context that others leave would leave ours too.
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.stream.__enter__()
        # Recordings share their arrays' memory: one runs after the other, and none keeps anything. But nobody else may
        # have it, since a recording knows its arrays by their addresses.
        self.scratch = cupy.cuda.MemoryPool(_allocate)
        self._module = cupy.RawModule(code=source())
        self._kernels: dict[str, Any] = {}

    def empty(self, shape: Grid, dtype: Any = np.float32) -> Any:
        """As Device.empty, from the pool that is current."""
        return cupy.empty(shape, dtype)

    def address(self, values: Any) -> int:
        """As Device.address."""
        return int(values.data.ptr)

    def to_host(self, values: Any) -> np.ndarray:
        """As Device.to_host; what lies there already is not copied."""
        return np.asarray(cupy.asnumpy(cupy.ascontiguousarray(values)) if isinstance(values, cupy.ndarray) else values)

    def launch(self, kernel: str, grid: Grid, block: int, shared: int, *arguments: Any) -> None:
        """As Device.launch, on the one stream."""
        function = self._kernels.get(kernel)
        if function is None:
            function = self._kernels[kernel] = self._module.get_function(kernel)
            function.max_dynamic_shared_size_bytes = SHARED
        values = tuple(_SCALARS[type(value)](value) if type(value) in _SCALARS else value for value in arguments)
        function(grid, (block,), values, shared_mem=shared)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """As Device.record: a CUDA graph."""
        return _Recording(self, work)

    def free_memory(self) -> int:
        """Bytes that the GPU still has, with those that CuPy keeps for later."""
        kept = cupy.get_default_memory_pool().free_bytes() + self.scratch.free_bytes()
        return int(cupy.cuda.runtime.memGetInfo()[0] + kept)

    def release_memory(self) -> None:
        """Return to the GPU what CuPy keeps for later. No recording may be in use."""
        cupy.get_default_memory_pool().free_all_blocks()
        self.scratch.free_all_blocks()


class _Recording:
    """Work that is done once as it is, so that all it needs is there, and from the second time on as a CUDA graph."""

    def __init__(self, gpu: CupyDevice, work: Callable[[], None]) -> None:
        self._gpu, self._work = gpu, work
        self._graph: Any = None
        self._warm = self._plain = False

    def __call__(self) -> None:
        if self._graph is None and self._warm and not self._plain:
            try:
                self._graph = self._captured()
            except (NotImplementedError, cupy.cuda.runtime.CUDARuntimeError):
                self._plain = True  # shapes that go to the reference need cuBLAS, which cannot be recorded
        if self._graph is not None:
            self._graph.launch(self._gpu.stream)
            return
        self._warm = True
        self._in_scratch()

    def _in_scratch(self) -> None:
        with cupy.cuda.using_allocator(self._gpu.scratch.malloc):
            self._work()

    def _captured(self) -> Any:
        if cupy.cuda.get_current_stream() != self._gpu.stream:  # then nothing would be recorded, and nothing trained
            raise RuntimeError("the stream of the GPU backend is not the current one")
        self._gpu.stream.begin_capture()
        try:
            self._in_scratch()
        except BaseException:
            with suppress(cupy.cuda.runtime.CUDARuntimeError):  # it is worth nothing now, and what broke it is raised
                self._gpu.stream.end_capture()
            raise
        return self._gpu.stream.end_capture()


def _allocate(size: int) -> Any:
    """Memory for recordings.

    A pool of CuPy's that is refused memory gives back all that it has free. Recordings know their arrays by addresses
    in just that memory. So others give back what they have free, and the error is one that the pool passes on.
    """
    for _ in range(2):
        try:
            return cupy.cuda.MemoryPointer(cupy.cuda.Memory(size), 0)
        except cupy.cuda.runtime.CUDARuntimeError as error:
            if error.status != cupy.cuda.runtime.errorMemoryAllocation:
                raise
        cupy.get_default_memory_pool().free_all_blocks()
    raise cupy.cuda.memory.OutOfMemoryError(size, 0)
