"""The backends that tests run on. "gpu on a CPU" is the GPU's, its kernels compiled for the CPU (host_gpu.py).

Its tensor cores round nothing there, so that they are held to what float32 is held to.
"""

from __future__ import annotations

import pytest

from core.backends.registry import load
from core.errors import InputError
from core.ops import Ops
from tests.helpers import host_gpu

ON_HOST = "gpu on a CPU"
GPU = pytest.param("gpu", marks=pytest.mark.gpu)
TENSOR_CORES = "gpu on a CPU, tensor cores"
FAST = ["cpu", ON_HOST, GPU]


def loaded(name: str) -> Ops:
    """The backend called name; skips the test where this machine has not what it needs."""
    if name in (ON_HOST, TENSOR_CORES):
        if host_gpu.COMPILER is None:
            pytest.skip("g++ is not here")
        return host_gpu.host_ops() if name == ON_HOST else host_gpu.host_ops(orders=2, precision="tf32")
    try:
        return load(name)
    except InputError as error:
        pytest.skip(str(error))
