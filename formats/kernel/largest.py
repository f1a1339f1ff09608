"""The largest finite magnitude of each tile, from which its scale follows."""

from typing import Any

import numpy as np
from numba import int64, njit
from numpy.typing import NDArray

from formats.kernel import threads
from formats.kernel.bits import (
    INFINITY4,
    INFINITY8,
    MAGNITUDE4,
    MAGNITUDE8,
    as_numbers,
    by_width,
    exponent_layout,
    i4,
    i8,
)
from formats.kernel.threads import task_for_each_size
from formats.kernel.tiling import TILING, cut, cut_flat, place, strides, tiles_of_thread
from formats.kernel.words import BITS, Words


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


largest_of_run = by_width(_largest4, _largest8)

RULE = "above headroom lowest_top highest_top"
"""Words that say how T follows from the largest magnitude: how many steps of 2^-52 above a power of two that may be
before T is one more, headroom, the lowest and the highest T."""
NO_RULE = (0, 0, 0, 0)
"""What is packed for them where T is given."""


@njit(nogil=True, inline="always")
def top_of(largest, x, w):
    """The top exponent for a largest magnitude with these bits among x, by the rule in words w."""
    fraction_bits, bias = exponent_layout(x)
    if largest == 0:
        return min(max(i8(0), w.lowest_top), w.highest_top)
    field, fraction = largest >> fraction_bits, largest & ((i8(1) << fraction_bits) - 1)
    if field == 0:
        field = i8(1)
        while not fraction >> fraction_bits:
            fraction <<= 1
            field -= 1
        fraction -= i8(1) << fraction_bits
    more = fraction << (52 - fraction_bits) > w.above
    return min(max(field - bias + i8(more) + w.headroom, w.lowest_top), w.highest_top)


WORDS = Words(tiling=TILING, x=BITS, x_strides="x_batch x_row", found=int64[::1])


@task_for_each_size(WORDS)
def _largest_of_tiles(w):
    """The largest of each tile, in their order, into `found`."""
    x, found = w.x, w.found
    first, last = tiles_of_thread(w)
    for tile in range(first, last):
        batch, _, _, row, end, column, width = place(w, tile)
        largest = i8(0)
        for r in range(row, end):
            at = batch * w.x_batch + r * w.x_row + column
            largest = max(largest, i8(largest_of_run(x[at : at + width])))
        found[tile] = largest


def largest_flat(x: NDArray[Any]) -> float:
    """The largest finite magnitude of a C-contiguous array, 0 where there is none."""
    if not x.size:
        return 0.0
    tiling = cut_flat(x.size)
    bits = np.zeros(tiling[-1], np.int64)
    words = WORDS.pack(tiling=tiling, x=x, x_strides=(0, 0), found=bits)
    threads.run(_largest_of_tiles[x.itemsize], words, x.size)
    return float(as_numbers(bits.max(), x))


def largest_of_tiles(x: NDArray[Any], tile: tuple[int, int], tiles: tuple[int, int, int]) -> NDArray[Any]:
    """The largest finite magnitude of each tile.

    Args:
        x: As for `round_tiles`.
        tile: As for `round_tiles`.
        tiles: Batch, tiles down, tiles across.

    Returns:
        x's dtype, of shape `tiles`; 0 where a tile has none.
    """
    bits = np.zeros(tiles, np.int64)
    if x.size:
        words = WORDS.pack(tiling=cut(x, tile, tiles), x=x, x_strides=strides(x)[:2], found=bits)
        threads.run(_largest_of_tiles[x.itemsize], words, x.size)
    return as_numbers(bits, x)
