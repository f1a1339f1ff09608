"""Rounding to nearest with the scale of each tile found on the way, while the tile is in the cache."""

from typing import Any

import numpy as np
from numba import int64, njit
from numpy.typing import NDArray

from formats.kernel import threads
from formats.kernel.addition import finish, round4, round8
from formats.kernel.bits import (
    INFINITY4,
    INFINITY8,
    MAGNITUDE4,
    MAGNITUDE8,
    by_width,
    i4,
    i8,
    largest_of_32,
    largest_rounded,
)
from formats.kernel.grid import CHANGES_LOOP, DELTA1, DELTA2, LOOP, TAIL_SHIFT, change_bits, highest_bits, is_fast
from formats.kernel.largest import RULE, top_of
from formats.kernel.threads import share, task_for_each_size
from formats.kernel.tiling import TILING, cut, strides
from formats.kernel.words import BITS, NUMBER, Words

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
def _round_whole_blocks4(x, out, tops, count, width, grid, passing):
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
        _round_whole_blocks4(x, out, tops, count, BLOCK, grid, passing)
    else:
        _round_whole_blocks4(x, out, tops, count, width, grid, passing)
    if count * width < x.size:
        round4(x[count * width :], out[count * width :], tops[count], grid, passing)


@njit(nogil=True)
def _round_line8(x, out, tops, width, grid, passing):
    """The same for float64 bits."""
    for k in range(-(-x.size // width)):
        first, last = k * width, min((k + 1) * width, x.size)
        round8(x[first:last], out[first:last], tops[k], grid, passing)


_find_line = by_width(_largest_of_line4, _largest_of_line)
_round_line = by_width(_round_line4, _round_line8)

WORDS = Words(
    tiling=TILING,
    x=BITS,
    x_strides="x_batch x_row",
    out=BITS,
    out_strides="out_batch out_row",
    stretch=NUMBER,
    stretches=NUMBER,
    rule=RULE,
    grid=int64[::1],
    passing=NUMBER,
)


@task_for_each_size(WORDS)
def _round_blocks(w):
    """Find the scale of each tile and round it while it is in the cache. The unit of work is a stretch of neighbouring
    tiles, so that memory is read in order; `stretches` of so many tiles are a row of tiles."""
    x, out, grid = w.x, w.out, w.grid
    largest = np.empty(w.stretch, np.int64)
    first, last = share(w.stretches * (w.tiles // w.across))
    for unit in range(first, last):
        line, begin = unit // w.stretches, unit % w.stretches * w.stretch
        batch, down = line // w.down, line % w.down
        tiles = min(w.stretch, w.across - begin)
        row, end = down * w.tile_rows, min((down + 1) * w.tile_rows, w.rows)
        largest[:tiles] = 0
        column = begin * w.tile_columns
        width = min(tiles * w.tile_columns, w.columns - column)
        for r in range(row, end):
            at = batch * w.x_batch + r * w.x_row + column
            _find_line(x[at : at + width], largest, w.tile_columns)
        for k in range(tiles):
            largest[k] = top_of(largest[k], x, w)
        for r in range(row, end):
            at, to = batch * w.x_batch + r * w.x_row + column, batch * w.out_batch + r * w.out_row + column
            _round_line(x[at : at + width], out[to : to + width], largest, w.tile_columns, grid, w.passing)


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
    """`round_tiles` with the scale of each tile found on the way; the rule is `formats.rounding.rounded`.

    Args:
        x: As for `round_tiles`.
        out: As for `round_tiles`.
        tile: As for `round_tiles`.
        tiles: Batch, tiles down, tiles across.
        grid: As for `round_tiles`.
        keep_infinities: As for `round_tiles`.
        rule: How T follows from a tile's largest magnitude, the words of `RULE`.
    """
    if not x.size:
        return
    stretch = min(max(1, STRETCH // (tile[0] * tile[1])), tiles[2])
    words = WORDS.pack(
        tiling=cut(x, tile, tiles),
        x=x,
        x_strides=strides(x)[:2],
        out=out,
        out_strides=strides(out)[:2],
        stretch=stretch,
        stretches=-(-tiles[2] // stretch),
        rule=rule,
        grid=grid,
        passing=largest_rounded(x, keep_infinities),
    )
    threads.run(_round_blocks[x.itemsize], words, x.size)
