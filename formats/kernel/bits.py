"""Numbers as bits: masks, and floating-point numbers and their bit patterns for compiled code."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

i4 = np.int32
i8 = np.int64
u4 = np.uint32
SIGN4, MAGNITUDE4, INFINITY4 = -(1 << 31), (1 << 31) - 1, 0x7F800000
SIGN8, MAGNITUDE8, INFINITY8 = -(1 << 63), (1 << 63) - 1, 0x7FF0000000000000
FRACTION4, BIAS4 = 23, 127
FRACTION8, BIAS8 = 52, 1023


@njit(nogil=True, inline="always")
def exponent_layout(x):
    """Fraction bits and exponent bias of the floating-point numbers whose bits the array x holds."""
    return (FRACTION4, BIAS4) if x.itemsize == 4 else (FRACTION8, BIAS8)


def largest_rounded(x: NDArray[Any], keep_infinities: bool) -> int:
    """The largest magnitude's bits that are rounded, for an array of x's type; those above pass as they are."""
    return (INFINITY8 if x.itemsize == 8 else INFINITY4) - int(keep_infinities)


def by_width(narrow: Any, wide: Any) -> Any:
    """For compiled code, a function of arrays that calls `narrow` where the first is of 32-bit numbers, else `wide`."""

    def chosen(x, *rest):
        raise NotImplementedError("compiled code only")

    @overload(chosen)
    def choose(x, *rest):
        function = narrow if x.dtype.bitwidth == 32 else wide
        return lambda x, *rest: function(x, *rest)

    return chosen


@intrinsic
def as_float(typing_context: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@intrinsic
def as_double(typing_context: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), generate


@intrinsic
def as_bits(typing_context: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


@intrinsic
def largest_of_32(typing_context: Any, bits: Any, index: Any, count: Any) -> Any:
    """The largest magnitude's bits of the first `count` of the 32 float32 from an index on, all of which are
    read, NaN and infinities included.

    Said as one vector operation, since compilers unroll so short a loop into 32 single steps.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(ir.IntType(32), 32)
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        block = builder.bitcast(builder.gep(data, [arguments[1]]), vector.as_pointer())
        magnitudes = builder.and_(builder.load(block, align=4), ir.Constant(vector, [MAGNITUDE4] * 32))
        undefined, zeros = ir.Constant(vector, ir.Undefined), ir.Constant(vector, [0] * 32)
        one = builder.insert_element(undefined, builder.trunc(arguments[2], ir.IntType(32)), ir.IntType(32)(0))
        counts = builder.shuffle_vector(one, undefined, zeros)
        asked = builder.icmp_signed("<", ir.Constant(vector, list(range(32))), counts)
        reduce = builder.module.declare_intrinsic(
            "llvm.vector.reduce.smax.v32i32", (), ir.FunctionType(ir.IntType(32), [vector])
        )
        return builder.call(reduce, [builder.select(asked, magnitudes, zeros)])

    return types.int32(bits, types.int64, types.int64), generate


@njit(nogil=True, inline="always")
def signed(y, u, passing):
    """Bits of the magnitude y with the sign of u; u itself where its magnitude is above `passing`."""
    return u if i4(u & i4(MAGNITUDE4)) > passing else i4(as_bits(y) | i4(u & i4(SIGN4)))
