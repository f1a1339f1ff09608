"""Rounding to nearest with the scale of each tile found on the way, while the tile is in the cache."""

import math
from typing import Any

import numpy as np
from numba import int64, njit
from numpy.typing import NDArray

from formats.kernel import threads
from formats.kernel.addition import finish, round4, round8
from formats.kernel.bits import INFINITY4, MAGNITUDE4, by_width, i4, i8, largest_rounded
from formats.kernel.grid import (
    CHANGE1,
    CHANGE2,
    CHANGES_LOOP,
    DELTA1,
    DELTA2,
    LOOP,
    TAIL,
    TAIL_SHIFT,
    change_bits,
    highest_bits,
    is_fast,
)
from formats.kernel.largest import BLOCK, RULE, largest_of_line, stretch_at, stretches_of, top_of
from formats.kernel.threads import share, task_for_each_size
from formats.kernel.tiling import TILING, cut, strides
from formats.kernel.words import BITS, NUMBER, Words


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


@njit(nogil=True)
def _levels4(x, tops, levels, width, grid):
    """Whether `_round_levels4` serves for blocks of float32; `levels` then becomes the exponent fields, as bits, of the
    top binades of every element. It has room for 32 more than there are."""
    if width == BLOCK or grid[LOOP] != CHANGES_LOOP:
        return False
    if not (is_fast(grid, tops.min() + 127) and is_fast(grid, tops.max() + 127)):
        return False
    for k in range(tops.size):
        field = i4((tops[k] + 127) << 23)
        if width == 1:
            levels[k] = field
        elif width < BLOCK:
            # All that a block may have, the next one's elements too, which come after.
            for i in range(BLOCK):
                levels[np.uint64(k * width + i)] = field
        else:
            levels[k * width : (k + 1) * width] = field
    return True


@njit(nogil=True)
def _levels8(x, tops, levels, width, grid):
    """Float64 bits are rounded block by block."""
    return False


@njit(nogil=True)
def _round_levels4(x, out, levels, grid, passing):
    """Round float32 bits, each with the exponent field of its own block's top binade."""
    passing = i4(passing)
    highest, tail = highest_bits(grid, i8(0)), i4(-grid[TAIL] << 23)
    # Without a change nothing is added, wherever it would begin.
    change1, change2 = (i4(-max(grid[CHANGE1], 0) << 23), i4(-max(grid[CHANGE2], 0) << 23))
    shift, delta1, delta2 = i4(grid[TAIL_SHIFT] << 23), i4(grid[DELTA1] << 23), i4(grid[DELTA2] << 23)
    for i in range(x.size):
        u, level = x[i], levels[i]
        a = i4(u & i4(MAGNITUDE4))
        c = min(a, i4(level + highest))
        power = i4(max(i4(c & i4(INFINITY4)), i4(level + tail)) + shift)
        power = i4(power + (delta1 if c >= i4(level + change1) else i4(0)))
        power = i4(power + (delta2 if c >= i4(level + change2) else i4(0)))
        out[i] = finish(u, a, c, power, passing)


@njit(nogil=True)
def _round_levels8(x, out, levels, grid, passing):
    """There are none."""


_round_line = by_width(_round_line4, _round_line8)
_find_levels = by_width(_levels4, _levels8)
_round_levels = by_width(_round_levels4, _round_levels8)

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
    largest, tops = np.empty(w.stretch, x.dtype), np.empty(w.stretch, np.int64)
    levels = np.empty(w.stretch * w.tile_columns + BLOCK, np.int32)
    first, last = share(w.stretches * (w.tiles // w.across))
    for unit in range(first, last):
        batch, down, _, tiles, column, width = stretch_at(w, unit)
        row, end = down * w.tile_rows, min((down + 1) * w.tile_rows, w.rows)
        largest[:tiles] = 0
        for r in range(row, end):
            at = batch * w.x_batch + r * w.x_row + column
            largest_of_line(x[at : at + width], largest, w.tile_columns)
        for k in range(tiles):
            tops[k] = top_of(i8(largest[k]), x, w)
        level = _find_levels(x, tops[:tiles], levels, w.tile_columns, grid)
        for r in range(row, end):
            at, to = batch * w.x_batch + r * w.x_row + column, batch * w.out_batch + r * w.out_row + column
            if level:
                _round_levels(x[at : at + width], out[to : to + width], levels, grid, w.passing)
            else:
                _round_line(x[at : at + width], out[to : to + width], tops, w.tile_columns, grid, w.passing)


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
    if tile[0] == 1 and x.shape[2] % tile[1] == 0 and x.flags.c_contiguous and out.flags.c_contiguous:
        # Lines of whole blocks lie one after the other: one long line instead of many short ones.
        x, out, tiles = x.reshape(1, 1, -1), out.reshape(1, 1, -1), (1, 1, math.prod(tiles))
    stretch, stretches = stretches_of(tile, tiles)
    words = WORDS.pack(
        tiling=cut(x, tile, tiles),
        x=x,
        x_strides=strides(x)[:2],
        out=out,
        out_strides=strides(out)[:2],
        stretch=stretch,
        stretches=stretches,
        rule=rule,
        grid=grid,
        passing=largest_rounded(x, keep_infinities),
    )
    threads.run(_round_blocks[x.itemsize], words, x.size)
