"""The kernels in CUDA C++, and their source as one text."""

from __future__ import annotations

from pathlib import Path

_FILES = (
    *("common.cuh", "gather.cu", "convolution.cu", "tensor_cores.cu"),
    *("batch_norm.cu", "first_block.cu", "head.cu", "update.cu"),
)


def source() -> str:
    """The kernels' source, as one text for the compiler."""
    folder = Path(__file__).parent
    return "".join(f'#line 1 "{name}"\n{(folder / name).read_text()}' for name in _FILES)
