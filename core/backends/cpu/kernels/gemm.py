"""The one matrix product under every convolution: C (rows, columns) = or += A (rows, depth) @ B (depth, columns).

A's entry (r, k) lies row_offsets[r] + k_offsets[k] bytes behind a. Offsets make one product out of many: with a row
for each output pixel and a k for each tap of the filter it is a convolution without copies of patches (Dukhan
2019, "The indirect convolution algorithm"); with the two swapped it is the gradient of the filters.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from core.backends.cpu.kernels.jit import LANES, ROWS, kernel
from core.backends.cpu.kernels.simd import VECTOR_BYTES, Code, Vector, program


def _tile(vectors: int) -> Any:
    """A program for ROWS rows of C and so many vectors of columns, which stay in registers over the whole depth."""

    def tile(
        code: Code,
        a: Any,
        row_offsets: Any,
        k_offsets: Any,
        depth: Any,
        b: Any,
        b_stride: Any,
        c: Any,
        c_stride: Any,
        overwrite: Any,
    ) -> None:
        rows = [code.builder.add(a, code.load_integer(code.at(row_offsets, 8 * r))) for r in range(ROWS)]
        targets = [code.at(c, (c_stride, r), v * VECTOR_BYTES) for r in range(ROWS) for v in range(vectors)]
        fresh = code.is_one(overwrite)
        before = [code.zero().where(fresh, code.load(target)) for target in targets]

        def add_outer_product(addresses: list[Any], sums: list[Vector]) -> list[Vector]:
            k_offset, b_row = addresses
            offset = code.load_integer(k_offset)
            columns = [code.load(code.at(b_row, v * VECTOR_BYTES)) for v in range(vectors)]
            result = []
            for r, row in enumerate(rows):
                value = code.broadcast(code.builder.add(row, offset))
                result += [sums[r * vectors + v].add(value, columns[v]) for v in range(vectors)]
            return result

        sums = code.loop(depth, [(k_offsets, 8), (b, b_stride)], before, add_outer_product)
        for target, total in zip(targets, sums, strict=True):
            code.store(total, target)

    return program(tile)


_two_vectors = _tile(2)
_one_vector = _tile(1)


@kernel(f"void({', '.join(['int64'] * 11)})")
def gemm(  # type: ignore[no-untyped-def]
    a, row_offsets, rows, k_offsets, depth, b, b_stride, columns, c, c_stride, overwrite
):
    """All sizes in numbers, all strides in bytes.

    rows       rounded up to a multiple of ROWS: as many are read and written
    b_stride   from row to row of B; 0: B is packed in panels of two vectors' width, one after another (see packed)
    columns    a multiple of LANES
    overwrite  1: C becomes the product; 0: the product is added to C
    """
    step = 4 if b_stride else 4 * depth  # from column to column
    stride = b_stride if b_stride else 2 * VECTOR_BYTES
    for j in range(0, columns - LANES, 2 * LANES):
        for r in range(0, rows, ROWS):
            to = c + r * c_stride + 4 * j
            _two_vectors(a, row_offsets + 8 * r, k_offsets, depth, b + step * j, stride, to, c_stride, overwrite)
    if columns % (2 * LANES):
        j = columns - LANES
        stride = b_stride if b_stride else VECTOR_BYTES
        for r in range(0, rows, ROWS):
            to = c + r * c_stride + 4 * j
            _one_vector(a, row_offsets + 8 * r, k_offsets, depth, b + step * j, stride, to, c_stride, overwrite)


@kernel("int64(int64, int64, int64, int64)")
def packed(row, column, rows, columns):  # type: ignore[no-untyped-def]
    """Where in a packed matrix B (rows, columns) a vector lies, in floats; column is a multiple of LANES."""
    panel = column // (2 * LANES) * (2 * LANES)
    return panel * rows + row * min(2 * LANES, columns - panel) + column - panel


def rounded(count: int, multiple: int) -> int:
    """The smallest multiple that is not below count."""
    return -(-count // multiple) * multiple


@lru_cache(maxsize=256)
def strided(count: int, stride: int) -> np.ndarray:
    """Offsets in bytes of count floats that lie stride floats apart; rows beyond them read the last."""
    return padded_rows(np.arange(count) * stride)


def padded_rows(offsets: np.ndarray) -> np.ndarray:
    """Offsets in floats to bytes, with the last repeated up to a multiple of ROWS."""
    missing = rounded(len(offsets), ROWS) - len(offsets)
    return np.pad(np.asarray(offsets, np.int64) * 4, (0, missing), mode="edge")
