"""Where arrays lie in memory: addresses as callers find them, and arrays as compiled code makes them of addresses."""

import ctypes
from typing import Any

from numba import types
from numba.np.arrayobj import populate_array
from numpy.typing import NDArray

ANY = 1 << 62
"""The length given to arrays made from a bare address."""


def address_of(array: NDArray[Any]) -> int:
    """Where an array's memory begins; three times faster than `array.ctypes.data` for what is writable and contiguous,
    as most here is."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))  # type: ignore[arg-type]  # not in the stubs
    except (TypeError, ValueError):
        return int(array.__array_interface__["data"][0])


def array_at(context: Any, builder: Any, kind: types.Array, address: Any) -> Any:
    """Code for a one-dimensional array of this type, without an end, at an address."""
    item = context.get_data_type(kind.dtype)
    size = context.get_constant(types.intp, context.get_abi_sizeof(item))
    made = context.make_array(kind)(context, builder)
    data = builder.inttoptr(address, item.as_pointer())
    populate_array(made, data, [context.get_constant(types.intp, ANY)], [size], size, meminfo=None)
    return made._getvalue()
