"""Between two convolutions: statistics, normalisation, shortcut, ReLU and pooling, and their gradients, pixel by pixel.

Programs work on one vector of channels; strides are in bytes.
"""

from __future__ import annotations

from typing import Any

from core.backends.cpu.kernels.simd import VECTOR_BYTES, Code, Vector, program


@program
def copy(code: Code, vectors: Any, source: Any, target: Any) -> None:
    """Copy so many vectors that lie one after another."""

    def one(addresses: list[Any], sums: list[Vector]) -> list[Vector]:
        code.store(code.load(addresses[0]), addresses[1])
        return []

    code.loop(vectors, [(source, VECTOR_BYTES), (target, VECTOR_BYTES)], [], one)


@program
def clear(code: Code, vectors: Any, target: Any) -> None:
    """Zero so many vectors that lie one after another."""

    def one(addresses: list[Any], sums: list[Vector]) -> list[Vector]:
        code.store(code.zero(), addresses[0])
        return []

    code.loop(vectors, [(target, VECTOR_BYTES)], [], one)


@program
def moments(code: Code, pixels: Any, z: Any, stride: Any, pivot: Any, sums: Any, sums_stride: Any) -> None:
    """sums += the sum of z - pivot and of its square: near the mean, the second loses no digits to the first."""
    about = code.load(pivot)

    def one(addresses: list[Any], sums: list[Vector]) -> list[Vector]:
        distance = code.load(addresses[0]) - about
        return [sums[0] + distance, sums[1].add(distance, distance)]

    targets = [sums, code.at(sums, (sums_stride, 1))]
    for target, total in zip(targets, code.loop(pixels, [(z, stride)], [code.zero()] * 2, one), strict=True):
        code.store(code.load(target) + total, target)


def _pool(size: int) -> Any:
    def pool(
        code: Code,
        z: Any,
        row: Any,
        column: Any,
        shortcut: Any,
        shortcut_row: Any,
        shortcut_column: Any,
        mean: Any,
        scale: Any,
        shift: Any,
        y: Any,
        raw: Any,
        argmax: Any,
    ) -> None:
        """y = max(0, the largest of (z - mean) * scale + shift + shortcut over the window); its z goes
        to raw, its index in the window to argmax.

        The first of equals counts; NaN anywhere makes y NaN.
        """
        centre, factor, offset = code.load(mean), code.load(scale), code.load(shift)
        for index, (i, j) in enumerate((i, j) for i in range(size) for j in range(size)):
            value = code.load(code.at(z, (row, i), (column, j)))
            added = code.load(code.at(shortcut, (shortcut_row, i), (shortcut_column, j)))
            normal = (offset + added).add(value - centre, factor)
            if index == 0:
                best, best_raw, best_index = normal, value, code.byte(0)
            else:
                better = normal.exceeds(best)
                best, best_raw = normal.where(better, best), value.where(better, best_raw)
                best_index = code.select(better, code.byte(index), best_index)
        code.store(code.zero().where(best <= 0.0, best), y)
        if size > 1:
            code.store(best_raw, raw)
            code.store_bytes(best_index, argmax)

    return program(pool)


def _scatter(size: int) -> Any:
    def scatter(code: Code, dy: Any, y: Any, argmax: Any, target: Any, row: Any, column: Any) -> None:
        """target = dy where y > 0 at the window's argmax, 0 elsewhere in the window."""
        passed = code.load(dy).where(code.load(y) > 0.0, 0.0)
        indices = code.load_bytes(argmax) if size > 1 else None
        for index, (i, j) in enumerate((i, j) for i in range(size) for j in range(size)):
            value = passed.where(code.is_byte(indices, index), 0.0) if size > 1 else passed
            code.store(value, code.at(target, (row, i), (column, j)))

    return program(scatter)


def _gradient(size: int) -> Any:
    def gradient(
        code: Code,
        dy: Any,
        y: Any,
        argmax: Any,
        z: Any,
        row: Any,
        column: Any,
        constants: Any,
        constants_stride: Any,
        target: Any,
        target_row: Any,
        target_column: Any,
    ) -> None:
        """target = scale * scattered dy + slope * (z - mean) + offset, batch normalisation's gradient.

        constants  the vectors mean, scale, slope and offset, a stride apart
        """
        mean, scale, slope, offset = (code.load(code.at(constants, (constants_stride, k))) for k in range(4))
        passed = code.load(dy).where(code.load(y) > 0.0, 0.0) * scale
        indices = code.load_bytes(argmax) if size > 1 else None
        for index, (i, j) in enumerate((i, j) for i in range(size) for j in range(size)):
            base = offset.add(code.load(code.at(z, (row, i), (column, j))) - mean, slope)
            value = passed.where(code.is_byte(indices, index), 0.0) if size > 1 else passed
            code.store(base + value, code.at(target, (target_row, i), (target_column, j)))

    return program(gradient)


pool1, pool2, pool3 = (_pool(size) for size in (1, 2, 3))
scatter1, scatter2, scatter3 = (_scatter(size) for size in (1, 2, 3))
gradient1, gradient2, gradient3 = (_gradient(size) for size in (1, 2, 3))


@program
def outside_gradient(
    code: Code, pixels: Any, z: Any, stride: Any, constants: Any, constants_stride: Any, target: Any
) -> None:
    """The gradient of pixels that no window holds: slope * (z - mean) + offset."""
    mean, _, slope, offset = (code.load(code.at(constants, (constants_stride, k))) for k in range(4))

    def one(addresses: list[Any], sums: list[Vector]) -> list[Vector]:
        code.store(offset.add(code.load(addresses[0]) - mean, slope), addresses[1])
        return []

    code.loop(pixels, [(z, stride), (target, stride)], [], one)


@program
def passed_sums(
    code: Code, pixels: Any, dy: Any, y: Any, raw: Any, stride: Any, mean: Any, sums: Any, sums_stride: Any
) -> None:
    """sums += the sum of dy where y > 0, and of that times raw - mean."""
    centre = code.load(mean)

    def one(addresses: list[Any], sums: list[Vector]) -> list[Vector]:
        passed = code.load(addresses[0]).where(code.load(addresses[1]) > 0.0, 0.0)
        return [sums[0] + passed, sums[1].add(passed, code.load(addresses[2]) - centre)]

    targets = [sums, code.at(sums, (sums_stride, 1))]
    addresses = [(dy, stride), (y, stride), (raw, stride)]
    for target, total in zip(targets, code.loop(pixels, addresses, [code.zero()] * 2, one), strict=True):
        code.store(code.load(target) + total, target)
