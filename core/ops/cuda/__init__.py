"""The operations as CUDA kernels: their source (*.cu), how work is cut for them, and how they are launched."""

from __future__ import annotations

from pathlib import Path

_FILES = ("common.cuh", "images.cu", "convolution.cu", "tensor.cu", "normal.cu", "first.cu", "head.cu", "update.cu")


def source() -> str:
    """The kernels' source, as one text for the compiler."""
    folder = Path(__file__).parent
    return "".join(f'#line 1 "{name}"\n{(folder / name).read_text()}' for name in _FILES)
