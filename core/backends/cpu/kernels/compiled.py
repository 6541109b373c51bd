"""The kernels, compiled, or found compiled, as this file is imported: their files are to be taken from here."""

from __future__ import annotations

from core.backends.cpu.kernels.cache import compiling

with compiling():
    from core.backends.cpu.kernels import (
        batch_norm,
        crop_flip,
        first_block,
        gemm,
        head,
        philox,
        pointwise,
        update,
        winograd,
    )

__all__ = ["batch_norm", "crop_flip", "first_block", "gemm", "head", "philox", "pointwise", "update", "winograd"]
