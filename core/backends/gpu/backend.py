"""The operations on the current GPU. Not yet run on one: see core/backends/gpu/cupy_device.py."""

from __future__ import annotations

from core.backends.gpu.cupy_device import CupyDevice, compute_capability, device_count, device_name, require_device
from core.backends.gpu.operations import make_ops
from core.errors import InputError
from core.ops import Ops

_TENSOR_CORES = 80  # the compute capability that brought TF32


def with_precision(precision: str) -> Ops:
    """The backend for "float32" or "tf32". Raises InputError for "tf32" on a GPU that has no such tensor cores."""
    capability = compute_capability()
    if precision == "tf32" and capability < _TENSOR_CORES:
        raise InputError(f'precision is "tf32", but the GPU is of compute capability {capability / 10}: use float32')
    return make_ops(
        DEVICE,
        precision,
        device=device_name(),
        device_count=device_count(),
        max_processes=device_count,
        free_memory=DEVICE.free_memory,
        xp=DEVICE.xp,
        to_host=DEVICE.to_host,
    )


require_device()
DEVICE = CupyDevice()
OPS = with_precision("float32")
