"""Rounding to nearest with the scale of each tile found on the way, while the tile is in the cache."""

from typing import Any

import numpy as np
from numba import carray, njit, types
from numba.extending import overload
from numpy.typing import NDArray

from formats.kernel import threads
from formats.kernel.bits import INFINITY4, INFINITY8, MAGNITUDE4, MAGNITUDE8, i4, i8, largest_of_32
from formats.kernel.grid import CHANGES_LOOP, DELTA1, DELTA2, LOOP, TAIL_SHIFT, change_bits, highest_bits, is_fast
from formats.kernel.largest import top_of
from formats.kernel.memory import address_of, pointer4, pointer8
from formats.kernel.nearest import finish, round4, round8
from formats.kernel.task import ACROSS, ANY, COLUMNS, DOWN, ROWS, TILE_COLUMNS, TILE_ROWS, TILES, Task, layout, strides
from formats.kernel.threads import thread_count, thread_number

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
        largest[k] = max(largest[k], i8(found))


@njit(nogil=True)
def _largest_of_line4(x, largest, width):
    """The same for float32 bits, with blocks of 32 as a case of their own."""
    if width != BLOCK:
        _largest_of_line(x, largest, width)
        return
    for k in range(x.size // BLOCK):
        found = largest_of_32(x, k * BLOCK)
        if found < i4(INFINITY4):
            largest[k] = max(largest[k], i8(found))
        else:
            _largest_of_line(x[k * BLOCK : (k + 1) * BLOCK], largest[k : k + 1], BLOCK)
    done = x.size // BLOCK
    _largest_of_line(x[done * BLOCK :], largest[done:], BLOCK)


@njit(nogil=True, inline="always")
def _round_blocks4(x, out, tops, count, width, grid, passing):
    """Round `count` whole blocks of `width` neighbours."""
    shift, delta1, delta2 = i4(grid[TAIL_SHIFT] << 23), i4(grid[DELTA1] << 23), i4(grid[DELTA2] << 23)
    for k in range(count):
        first = np.uint64(k * width)
        field = tops[k] + 127
        if not (is_fast(grid, field) and grid[LOOP] == CHANGES_LOOP):
            round4(x[k * width : (k + 1) * width], out[k * width : (k + 1) * width], tops[k], grid, passing)
            continue
        highest = highest_bits(grid, field)
        tail, _, change1, _, change2, _ = change_bits(grid, field)
        for i in range(width):
            u = x[first + np.uint64(i)]
            a = i4(u & i4(MAGNITUDE4))
            c = min(a, highest)
            power = i4(max(i4(c & i4(INFINITY4)), tail) + shift)
            power = i4(power + (delta1 if c >= change1 else i4(0)))
            power = i4(power + (delta2 if c >= change2 else i4(0)))
            out[first + np.uint64(i)] = finish(u, a, c, power, passing)


@njit(nogil=True)
def _round_line4(x, out, tops, width, grid, passing):
    """Round each `width` neighbours of float32 bits with a scale of their own."""
    passing = i4(passing)
    count = x.size // width
    if width == BLOCK:
        _round_blocks4(x, out, tops, count, BLOCK, grid, passing)
    else:
        _round_blocks4(x, out, tops, count, width, grid, passing)
    if count * width < x.size:
        round4(x[count * width :], out[count * width :], tops[count], grid, passing)


@njit(nogil=True)
def _round_line8(x, out, tops, width, grid, passing):
    """The same for float64 bits."""
    for k in range(-(-x.size // width)):
        first, last = k * width, min((k + 1) * width, x.size)
        round8(x[first:last], out[first:last], tops[k], grid, passing)


# The loop for the width of the bits, chosen when compiled.


def _find_line(x, largest, width):
    raise NotImplementedError("compiled code only")


@overload(_find_line)
def _choose_find(x, largest, width):
    if x.dtype == types.int32:
        return lambda x, largest, width: _largest_of_line4(x, largest, width)
    return lambda x, largest, width: _largest_of_line(x, largest, width)


def _round_line(x, out, tops, width, grid, passing):
    raise NotImplementedError("compiled code only")


@overload(_round_line)
def _choose_line(x, out, tops, width, grid, passing):
    if x.dtype == types.int32:
        return lambda x, out, tops, width, grid, passing: _round_line4(x, out, tops, width, grid, passing)
    return lambda x, out, tops, width, grid, passing: _round_line8(x, out, tops, width, grid, passing)


@njit(nogil=True)
def _block_tiles(w, x, out, grid):
    """Find the scale of each tile and round it while it is in the cache. The unit of work is a stretch of neighbouring
    tiles, so that memory is read in order.

    Arguments: x and its strides, out and its strides, tiles in a stretch, stretches, fraction bits, bias, above,
    headroom, lowest and highest top, grid, passing.
    """
    number, count = i8(thread_number()), i8(thread_count())
    units = w[14] * (w[TILES] // w[ACROSS])
    largest = np.empty(w[13], np.int64)
    for unit in range(units * number // count, units * (number + 1) // count):
        line, begin = unit // w[14], unit % w[14] * w[13]
        batch, down = line // w[DOWN], line % w[DOWN]
        tiles = min(w[13], w[ACROSS] - begin)
        row, end = down * w[TILE_ROWS], min((down + 1) * w[TILE_ROWS], w[ROWS])
        largest[:tiles] = 0
        column = begin * w[TILE_COLUMNS]
        width = min(tiles * w[TILE_COLUMNS], w[COLUMNS] - column)
        for r in range(row, end):
            at = batch * w[8] + r * w[9] + column
            _find_line(x[at : at + width], largest, w[TILE_COLUMNS])
        for k in range(tiles):
            largest[k] = top_of(largest[k], w[15], w[16], w[17], w[18], w[19], w[20])
        for r in range(row, end):
            at, to = batch * w[8] + r * w[9] + column, batch * w[11] + r * w[12] + column
            _round_line(x[at : at + width], out[to : to + width], largest, w[TILE_COLUMNS], grid, w[22])


@Task
def _block_tiles4(pointer):
    w = carray(pointer, (32,))
    _block_tiles(w, carray(pointer4(w[7]), (ANY,)), carray(pointer4(w[10]), (ANY,)), carray(pointer8(w[21]), (ANY,)))


@Task
def _block_tiles8(pointer):
    w = carray(pointer, (32,))
    _block_tiles(w, carray(pointer8(w[7]), (ANY,)), carray(pointer8(w[10]), (ANY,)), carray(pointer8(w[21]), (ANY,)))


STRETCH = 1 << 15
"""Elements, about, whose scales are found before they are rounded: they stay in the second-level cache."""


def round_blocks(
    x: NDArray[Any],
    out: NDArray[Any],
    tile: tuple[int, int],
    tiles: tuple[int, int, int],
    grid: NDArray[np.int64],
    keep_infinities: bool,
    rule: tuple[int, int, int, int],
) -> None:
    """Round x into out as `round_tiles` does, with the scale of each tile found on the way.

    rule: how many 2^-52 above a power of two a tile's largest magnitude may be before T is one more, headroom, lowest
    and highest T.
    """
    if not x.size:
        return
    wide = x.dtype == np.float64
    passing = (INFINITY8 if wide else INFINITY4) - int(keep_infinities)
    stretch = min(max(1, STRETCH // (tile[0] * tile[1])), tiles[2])
    threads.run(
        _block_tiles8 if wide else _block_tiles4,
        [
            *layout(x, tile, tiles),
            *(address_of(x), *strides(x)[:2]),
            *(address_of(out), *strides(out)[:2]),
            *(stretch, -(-tiles[2] // stretch)),
            *((52, 1023) if wide else (23, 127)),
            *(*rule, address_of(grid), passing),
        ],
        x.size,
    )
