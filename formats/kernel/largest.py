"""The largest finite magnitude of each tile, from which its scale follows."""

from typing import Any

import numpy as np
from numba import carray, njit, types
from numba.extending import overload
from numpy.typing import NDArray

from formats.kernel import threads
from formats.kernel.bits import INFINITY4, INFINITY8, MAGNITUDE4, MAGNITUDE8, i4, i8
from formats.kernel.memory import address_of, pointer4, pointer8
from formats.kernel.task import ANY, TILES, Task, flat, layout, place, share, strides


@njit(nogil=True)
def _largest4(x):
    """The largest finite magnitude's bits of a run of float32."""
    largest = i4(0)
    for i in range(x.size):
        a = i4(x[i] & i4(MAGNITUDE4))
        a = a if a < i4(INFINITY4) else i4(0)
        largest = max(largest, a)
    return largest


@njit(nogil=True)
def _largest8(x):
    """The largest finite magnitude's bits of a run of float64."""
    largest = i8(0)
    for i in range(x.size):
        a = x[i] & i8(MAGNITUDE8)
        a = a if a < i8(INFINITY8) else i8(0)
        largest = max(largest, a)
    return largest


# The loop for the width of the bits, chosen when compiled.


def largest_of_run(x):
    raise NotImplementedError("compiled code only")


@overload(largest_of_run)
def _choose_largest(x):
    if x.dtype == types.int32:
        return lambda x: _largest4(x)
    return lambda x: _largest8(x)


@njit(nogil=True, inline="always")
def top_of(largest, fraction_bits, bias, above, headroom, low, high):
    """The top exponent for a largest magnitude with these bits; one more where its fraction is more than `above` steps
    of 2^-52."""
    if largest == 0:
        return min(max(i8(0), low), high)
    field, fraction = largest >> fraction_bits, largest & ((i8(1) << fraction_bits) - 1)
    if field == 0:
        field = i8(1)
        while not fraction >> fraction_bits:
            fraction <<= 1
            field -= 1
        fraction -= i8(1) << fraction_bits
    more = fraction << (52 - fraction_bits) > above
    return min(max(field - bias + i8(more) + headroom, low), high)


@njit(nogil=True)
def _largest_of_tiles(w, x, out):
    """Arguments: x and its batch and row stride, out (one number per tile, in order)."""
    first, last = share(w)
    for tile in range(first, last):
        batch, _, _, row, end, column, width = place(w, tile)
        largest = i8(0)
        for r in range(row, end):
            at = batch * w[8] + r * w[9] + column
            largest = max(largest, i8(largest_of_run(x[at : at + width])))
        out[tile] = largest


@Task
def _largest_tiles4(pointer):
    w = carray(pointer, (32,))
    _largest_of_tiles(w, carray(pointer4(w[7]), (ANY,)), carray(pointer8(w[10]), (ANY,)))


@Task
def _largest_tiles8(pointer):
    w = carray(pointer, (32,))
    _largest_of_tiles(w, carray(pointer8(w[7]), (ANY,)), carray(pointer8(w[10]), (ANY,)))


def largest_flat(x: NDArray[Any]) -> float:
    """The largest finite magnitude of a C-contiguous array, 0 where there is none."""
    if not x.size:
        return 0.0
    wide = x.itemsize == 8
    words = flat(x)
    bits = np.zeros(words[TILES], np.int64)
    threads.run(_largest_tiles8 if wide else _largest_tiles4, [*words, address_of(bits)], x.size)
    largest = bits.max()
    return float(largest.view(np.float64) if wide else largest.astype(np.int32).view(np.float32))


def largest_of_tiles(x: NDArray[Any], tile: tuple[int, int], tiles: tuple[int, int, int]) -> NDArray[Any]:
    """The largest finite magnitude of each tile, shape `tiles`, in x's dtype; 0 where there is none."""
    bits = np.zeros(tiles, np.int64)
    if x.size:
        wide = x.dtype == np.float64
        threads.run(
            _largest_tiles8 if wide else _largest_tiles4,
            [*layout(x, tile, tiles), address_of(x), *strides(x)[:2], address_of(bits)],
            x.size,
        )
    return bits.view(np.float64) if x.dtype == np.float64 else bits.astype(np.int32).view(np.float32)
