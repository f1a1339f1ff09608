"""Where arrays lie in memory: addresses as callers find them, and pointers as compiled code makes them."""

import ctypes
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray


def address_of(array: NDArray[Any]) -> int:
    """Where an array's memory begins; three times faster than `array.ctypes.data` for what is writable and contiguous,
    as most here is."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))  # type: ignore[arg-type]  # not in the stubs
    except (TypeError, ValueError):
        return int(array.__array_interface__["data"][0])


def _pointer_maker(item: Any, kind: Any) -> Any:
    """A function for compiled code that takes an address as a pointer to `item`."""

    @intrinsic
    def pointer(typing_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], kind.as_pointer())

        return types.CPointer(item)(types.int64), generate

    return pointer


pointer4 = _pointer_maker(types.int32, ir.IntType(32))
pointer8 = _pointer_maker(types.int64, ir.IntType(64))
pointer_byte = _pointer_maker(types.uint8, ir.IntType(8))
pointer_short = _pointer_maker(types.uint16, ir.IntType(16))
pointer_float = _pointer_maker(types.float32, ir.FloatType())
pointer_double = _pointer_maker(types.float64, ir.DoubleType())
