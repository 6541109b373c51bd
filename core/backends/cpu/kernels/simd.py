"""Vector code written out by hand: where speed is decided, LLVM's own vectoriser is not left to chance.

A program is a Python function over integers (addresses, strides in bytes, counts) and Vectors (LANES floats).
Decorated with @program it becomes an operation that kernels call with int64 arguments; its Python code runs once, while
the kernel is compiled, and leaves straight vector code behind, in which loops over constants are unrolled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import Signature, signature
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from core.backends.cpu.kernels.jit import LANES

FLOAT_BYTES = 4
VECTOR_BYTES = FLOAT_BYTES * LANES

_FLOAT, _INT, _BYTE, _INDEX = ir.FloatType(), ir.IntType(64), ir.IntType(8), ir.IntType(32)
_VECTOR, _BYTES = ir.VectorType(_FLOAT, LANES), ir.VectorType(_BYTE, LANES)
_FLAGS = ("contract", "nsz")


class Vector:
    """A vector of floats, one a lane; written like a number."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def __add__(self, other: Vector) -> Vector:
        return Vector(self.builder, self.builder.fadd(self.value, other.value, flags=_FLAGS))

    def __sub__(self, other: Vector) -> Vector:
        return Vector(self.builder, self.builder.fsub(self.value, other.value, flags=_FLAGS))

    def __mul__(self, other: Vector | float) -> Vector:
        return Vector(self.builder, self.builder.fmul(self.value, self._operand(other), flags=_FLAGS))

    def add(self, factor: Vector | float, other: Vector) -> Vector:
        """self + factor * other, rounded once where the processor can."""
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), f"llvm.fmuladd.v{LANES}f32"
        )
        return Vector(self.builder, self.builder.call(function, [self._operand(factor), other.value, self.value]))

    def __gt__(self, other: Vector | float) -> Any:
        return self.builder.fcmp_ordered(">", self.value, self._operand(other))

    def __le__(self, other: Vector | float) -> Any:
        return self.builder.fcmp_ordered("<=", self.value, self._operand(other))

    def exceeds(self, other: Vector) -> Any:
        """Lanes that are greater, or NaN."""
        nan = self.builder.fcmp_unordered("uno", self.value, self.value)
        return self.builder.or_(self > other, nan)

    def where(self, condition: Any, other: Vector | float) -> Vector:
        """self in the lanes where condition holds, other elsewhere."""
        return Vector(self.builder, self.builder.select(condition, self.value, self._operand(other)))

    def total(self) -> Any:
        """The sum over the lanes, in any order."""
        kind = ir.FunctionType(_FLOAT, [_FLOAT, _VECTOR])
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.vector.reduce.fadd.v{LANES}f32")
        return self.builder.call(function, [ir.Constant(_FLOAT, 0.0), self.value], fastmath=("reassoc",))

    def _operand(self, other: Vector | float) -> Any:
        return other.value if isinstance(other, Vector) else ir.Constant(_VECTOR, [ir.Constant(_FLOAT, other)] * LANES)


class Code:
    """What a program writes with. Addresses and strides are 64-bit integers, in bytes."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def at(self, address: Any, *steps: tuple[Any, int] | int) -> Any:
        """address + the sum of the steps: constants, or (stride, how often)."""
        for step in steps:
            stride, times = step if isinstance(step, tuple) else (_constant(step), 1)
            if times:
                address = self.builder.add(address, self.builder.mul(stride, _constant(times)))
        return address

    def load(self, address: Any) -> Vector:
        """The floats from there on, one a lane."""
        return Vector(self.builder, self._load(address, _VECTOR, FLOAT_BYTES))

    def load_integer(self, address: Any) -> Any:
        """The int64 there."""
        return self._load(address, _INT, 8)

    def load_bytes(self, address: Any) -> Any:
        """A vector of bytes, one a lane."""
        return self._load(address, _BYTES, 1)

    def broadcast(self, address: Any) -> Vector:
        """The one float there, in every lane."""
        empty = ir.Constant(_VECTOR, ir.Undefined)
        first = self.builder.insert_element(empty, self._load(address, _FLOAT, FLOAT_BYTES), ir.Constant(_INDEX, 0))
        zeros = ir.Constant(ir.VectorType(_INDEX, LANES), [ir.Constant(_INDEX, 0)] * LANES)
        return Vector(self.builder, self.builder.shuffle_vector(first, empty, zeros))

    def store(self, value: Vector, address: Any) -> None:
        """Put the lanes' floats there."""
        self._store(value.value, address, FLOAT_BYTES)

    def store_float(self, value: Any, address: Any) -> None:
        """Put one float there."""
        self._store(value, address, FLOAT_BYTES)

    def store_bytes(self, value: Any, address: Any) -> None:
        """Put a vector of bytes there."""
        self._store(value, address, 1)

    def zero(self) -> Vector:
        """A vector of zeros."""
        return Vector(self.builder, ir.Constant(_VECTOR, [ir.Constant(_FLOAT, 0.0)] * LANES))

    def byte(self, number: int) -> Any:
        """A vector of bytes, all this number."""
        return ir.Constant(_BYTES, [ir.Constant(_BYTE, number)] * LANES)

    def is_byte(self, values: Any, number: int) -> Any:
        """Lane by lane, whether the byte is this number."""
        return self.builder.icmp_unsigned("==", values, self.byte(number))

    def select(self, condition: Any, yes: Any, no: Any) -> Any:
        """Of two vectors of bytes, lane by lane."""
        return self.builder.select(condition, yes, no)

    def constant(self, number: int) -> Any:
        """An int64."""
        return _constant(number)

    def is_one(self, number: Any) -> Any:
        """Whether an int64 is 1."""
        return self.builder.icmp_signed("==", number, _constant(1))

    def loop(
        self,
        count: Any,
        addresses: Sequence[tuple[Any, Any]],
        sums: Sequence[Vector],
        body: Callable[..., list[Vector]],
    ) -> list[Vector]:
        """body(addresses, sums) -> new sums, count times (at least once); each address then moves by its stride."""
        builder = self.builder
        before, around = builder.block, builder.append_basic_block()
        after = builder.append_basic_block()
        builder.branch(around)
        builder.position_at_end(around)
        index = builder.phi(_INT)
        moving = [builder.phi(_INT) for _ in addresses]
        carried = [builder.phi(_VECTOR) for _ in sums]
        results = body(moving, [Vector(builder, phi) for phi in carried])
        index.add_incoming(_constant(0), before)
        following = builder.add(index, _constant(1))
        index.add_incoming(following, builder.block)
        for phi, (start, stride) in zip(moving, addresses, strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(self.at(phi, stride if isinstance(stride, int) else (stride, 1)), builder.block)
        for phi, start, result in zip(carried, sums, results, strict=True):
            phi.add_incoming(start.value, before)
            phi.add_incoming(result.value, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, count), around, after)
        builder.position_at_end(after)
        return results

    def _load(self, address: Any, kind: Any, align: int) -> Any:
        value = self.builder.load(self.builder.inttoptr(address, kind.as_pointer()))
        value.align = align
        return value

    def _store(self, value: Any, address: Any, align: int) -> None:
        self.builder.store(value, self.builder.inttoptr(address, value.type.as_pointer())).align = align


def _constant(number: int) -> Any:
    return ir.Constant(_INT, number)


def _operation(define: Callable[..., Any]) -> Callable[..., Any]:
    """What kernels can call, without the context that define is given."""
    made: Callable[..., Any] = intrinsic(define)
    return made


def program(emit: Callable[..., None]) -> Any:
    """Make emit(code, integer, ...) an operation that kernels can call."""

    def typed(context: Any, *arguments: Any) -> Any:
        def generate(context: Any, builder: Any, typing: Any, values: Any) -> Any:
            emit(Code(builder), *values)
            return context.get_dummy_value()

        return types.void(*[types.int64] * len(arguments)), generate

    typed.__name__ = emit.__name__
    typed.__signature__ = Signature(list(signature(emit).parameters.values()))  # type: ignore[attr-defined]
    return _operation(typed)


@_operation
def address(context: Any, array: Any) -> Any:
    """Where an array's first number lies, int64."""

    def generate(context: Any, builder: Any, typing: Any, values: Any) -> Any:
        return builder.ptrtoint(context.make_array(typing.args[0])(context, builder, values[0]).data, _INT)

    return types.int64(array), generate
