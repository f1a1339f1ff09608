"""The largest finite magnitude of each tile, from which its scale follows."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from formats.kernel import threads
from formats.kernel.bits import (
    INFINITY4,
    INFINITY8,
    MAGNITUDE4,
    MAGNITUDE8,
    by_width,
    exponent_layout,
    i4,
    i8,
    largest_of_32,
)
from formats.kernel.threads import share, task_for_each_size
from formats.kernel.tiling import TILING, cut, cut_flat, strides
from formats.kernel.words import BITS, NUMBER, Words


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

BLOCK = 32
"""The usual length of a block; loops of a length known when compiled have no ends to treat on their own."""

# Indices below are unsigned, since numba lets a signed one count from the end, which costs a test in every step.


@njit(nogil=True)
def _largest_of_line(x, largest, width):
    """The largest finite magnitude's bits of each `width` neighbours (the last may be short), where larger than
    before."""
    mask, infinity = (i4(MAGNITUDE4), i4(INFINITY4)) if x.itemsize == 4 else (i8(MAGNITUDE8), i8(INFINITY8))
    for k in range(-(-x.size // width)):
        first, last = np.uint64(k * width), np.uint64(min((k + 1) * width, x.size))
        found = mask ^ mask
        for i in range(first, last):
            a = x[i] & mask
            found = max(found, a if a < infinity else mask ^ mask)
        largest[k] = max(largest[k], found)


@njit(nogil=True, inline="always")
def _largest_of_whole_blocks4(x, largest, count, width):
    """The same of `count` blocks of at most 32 neighbours, where 32 can be read from the beginning of each."""
    for k in range(count):
        found = largest_of_32(x, k * width, width)
        if found < i4(INFINITY4):
            largest[k] = max(largest[k], found)
        else:
            _largest_of_line(x[k * width : (k + 1) * width], largest[k : k + 1], width)


@njit(nogil=True)
def _largest_of_line4(x, largest, width):
    """The same as `_largest_of_line` for float32 bits, with single elements and blocks of up to 32 as cases of their
    own."""
    done = 0
    if width == 1:
        for i in range(x.size):
            a = i4(x[i] & i4(MAGNITUDE4))
            largest[i] = max(largest[i], a if a < i4(INFINITY4) else i4(0))
        return
    if width == BLOCK:
        done = x.size // BLOCK
        _largest_of_whole_blocks4(x, largest, done, BLOCK)
    elif width < BLOCK and x.size >= BLOCK:
        done = (x.size - BLOCK) // width + 1
        _largest_of_whole_blocks4(x, largest, done, width)
    _largest_of_line(x[done * width :], largest[done:], width)


largest_of_line = by_width(_largest_of_line4, _largest_of_line)
"""Of bits x, into an array of x's type, by width."""

STRETCH = 1 << 15
"""Elements, about, of neighbouring tiles that are read together, a row at a time; they stay in the second-level
cache."""


def stretches_of(tile: tuple[int, int], tiles: tuple[int, int, int]) -> tuple[int, int]:
    """How many tiles a stretch has, and how many stretches a row of tiles."""
    stretch = min(max(1, STRETCH // (tile[0] * tile[1])), max(tiles[2], 1))
    return stretch, -(-tiles[2] // stretch)


@njit(nogil=True, inline="always")
def stretch_at(w, unit):
    """Batch, tile row, first of all tiles, how many tiles, first column and width of a stretch."""
    line, begin = unit // w.stretches, unit % w.stretches * w.stretch
    tiles = min(w.stretch, w.across - begin)
    column = begin * w.tile_columns
    width = min(tiles * w.tile_columns, w.columns - column)
    return line // w.down, line % w.down, line * w.across + begin, tiles, column, width


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


WORDS = Words(
    tiling=TILING,
    x=BITS,
    x_strides="x_batch x_row",
    stretch=NUMBER,
    stretches=NUMBER,
    found=BITS,
)


@task_for_each_size(WORDS)
def _largest_of_tiles(w):
    """The largest of each tile, in their order, into `found`, which is zero."""
    x, found = w.x, w.found
    first, last = share(w.stretches * (w.tiles // w.across))
    for unit in range(first, last):
        batch, down, to, tiles, column, width = stretch_at(w, unit)
        for r in range(down * w.tile_rows, min((down + 1) * w.tile_rows, w.rows)):
            at = batch * w.x_batch + r * w.x_row + column
            largest_of_line(x[at : at + width], found[to : to + tiles], w.tile_columns)


def largest_flat(x: NDArray[Any]) -> float:
    """The largest finite magnitude of a C-contiguous array, 0 where there is none."""
    if not x.size:
        return 0.0
    tiling = cut_flat(x.size)
    bits = _bits(x, tiling[-1])
    words = WORDS.pack(tiling=tiling, x=x, x_strides=(0, 0), stretch=1, stretches=tiling[-1], found=bits)
    threads.run(_largest_of_tiles[x.itemsize], words, x.size)
    found = bits.view(x.dtype)
    return float(found[0] if found.size == 1 else found.max())


def largest_of_tiles(x: NDArray[Any], tile: tuple[int, int], tiles: tuple[int, int, int]) -> NDArray[Any]:
    """The largest finite magnitude of each tile.

    Args:
        x: As for `round_tiles`.
        tile: As for `round_tiles`.
        tiles: Batch, tiles down, tiles across.

    Returns:
        x's dtype, of shape `tiles`; 0 where a tile has none.
    """
    bits = _bits(x, tiles)
    if x.size:
        stretch, stretches = stretches_of(tile, tiles)
        words = WORDS.pack(
            tiling=cut(x, tile, tiles),
            x=x,
            x_strides=strides(x)[:2],
            stretch=stretch,
            stretches=stretches,
            found=bits,
        )
        threads.run(_largest_of_tiles[x.itemsize], words, x.size)
    return bits.view(x.dtype)


def _bits(x: NDArray[Any], shape: int | tuple[int, ...]) -> NDArray[Any]:
    """Zeros for the bits of numbers of x's type."""
    return np.zeros(shape, np.int32 if x.itemsize == 4 else np.int64)
