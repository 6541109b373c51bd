"""The GPU backend's kernels: compiled for GPUs, where nvcc is here; and, on the CPU, what only this backend has."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import host_gpu
import pytest
from cases import CASES, Case, worst_excess
from host_gpu import host_ops

from core.ops import cuda, reference

REFERENCE = reference.OPS
needs_compiler = pytest.mark.skipif(host_gpu.COMPILER is None, reason="g++ is not here")


@pytest.fixture(scope="module")
def gpu() -> Any:
    if host_gpu.COMPILER is None:
        pytest.skip("g++ is not here")
    return host_ops()


# ---------------------------------------------------------------------------------------------------------- compiled


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not here")
@pytest.mark.parametrize("capability", [75, 80, 90])
def test_the_kernels_compile_for_every_generation_of_gpus(tmp_path: Path, capability: int) -> None:
    """Without a warning, without spilling registers, and within what a block may have."""
    (tmp_path / "kernels.cu").write_text(cuda.source())
    command = ["nvcc", f"-arch=sm_{capability}", "-std=c++17", "-cubin", "--Werror", "all-warnings", "-Xptxas", "-v"]
    done = subprocess.run([*command, "kernels.cu", "-o", "k.cubin"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    spilled = [line for line in done.stderr.splitlines() if "spill" in line and "0 bytes spill stores" not in line]
    assert all(int(line.split("bytes stack")[0]) <= 16 for line in spilled), spilled


# ------------------------------------------------------------------------------------------------------- this checker

FAULTS = {
    "a barrier is missing": ("convolution.cu", "  __syncthreads(); // the memory may have been in use\n", "", "race"),
    "another barrier is missing": (
        "first.cu", "  load_picture(pixels, x, s, t, n, first, count + 2);\n  __syncthreads();",
        "  load_picture(pixels, x, s, t, n, first, count + 2);", "race",
    ),
    "a store beyond the end": ("normal.cu", "store4(y + to, best);", "store4(y + to + 4, best);", "crash"),
    "some threads miss a barrier": (
        "head.cu", "  memory[threadIdx.x] = sum;\n  __syncthreads();\n  if (lane > 0 || l >= classes) return;",
        "  memory[threadIdx.x] = sum;\n  if (lane > 0 || l >= classes) return;\n  __syncthreads();", "crash",
    ),
    "a value is left unwritten": ("update.cu", "sums[e] = square;", "if (i) sums[e] = square;", "wrong"),
    "a wrong index": ("convolution.cu", "turned_tap", "tap", "wrong"),
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------- operations

SEVERAL = ("conv2d", "block", "block_inference", "head", "head_inference", "augment")


@pytest.mark.parametrize("case", [case for case in CASES if case.operation in SEVERAL], ids=str)
def test_operations_err_little(gpu: Any, case: Case) -> None:
    assert worst_excess(case, gpu) <= 1
    if case.operation in ("conv2d", "block"):  # the kernels of the first layer
        assert worst_excess(case, gpu, need_dx=False) <= 1
