"""Rounding in the modes other than to nearest: directed, stochastic and hysteresis."""

from typing import Any

import numpy as np
from numba import int64, njit
from numpy.typing import NDArray

from formats.kernel import threads
from formats.kernel.bits import (
    INFINITY4,
    MAGNITUDE4,
    MAGNITUDE8,
    SIGN4,
    SIGN8,
    as_double,
    as_float,
    by_width,
    i4,
    i8,
    largest_rounded,
    u4,
)
from formats.kernel.exact import DOWN, HYSTERESIS, MODES, NEAREST_AWAY, STOCHASTIC, UP, round_magnitude
from formats.kernel.grid import (
    BINADES,
    CHANGE1,
    CHANGE2,
    CHANGES_LOOP,
    DELTA1,
    DELTA2,
    LOOP,
    PACKED,
    PACKED_BINADES,
    TAIL,
    TAIL_SHIFT,
    change_bits,
    has_normal_steps,
    highest_bits,
)
from formats.kernel.largest import BLOCK, stretch_at, stretches_of
from formats.kernel.philox import fill, one
from formats.kernel.threads import share, task_for_each_size
from formats.kernel.tiling import CHUNK, TILING, cut, cut_flat, strides
from formats.kernel.words import BITS, FLOATS, NUMBER, UNSIGNED, Words
from formats.rounding import ModeChoice


@njit(nogil=True)
def powers(x, clamped, power, highest, grid, first):
    """The magnitude of each element of float32 bits x, at most the largest value, and the bits of 2^23 times its step;
    clamped may be x itself."""
    if grid[LOOP] == CHANGES_LOOP:
        tail, shift, change1, delta1, change2, delta2 = change_bits(grid, first)
        for i in range(x.size):
            c = min(i4(x[i] & i4(MAGNITUDE4)), highest)
            bits = i4(max(i4(c & i4(INFINITY4)), tail) + shift)
            bits = i4(bits + (delta1 if c >= change1 else i4(0)))
            clamped[i], power[i] = c, i4(bits + (delta2 if c >= change2 else i4(0)))
        return
    bottom = first - grid[BINADES]
    for i in range(x.size):
        c = min(i4(x[i] & i4(MAGNITUDE4)), highest)
        field = max(i8(c >> i4(23)), bottom)
        j = min(field - bottom, PACKED_BINADES - 1)
        clamped[i], power[i] = c, i4((field + 24 - (grid[PACKED + j // 8] >> (4 * (j % 8)) & 15)) << 23)


@njit(nogil=True)
def _powers_at_levels(x, clamped, power, levels, grid):
    """The same where the grid has at most two changes and each element the scale of the exponent field at `levels`."""
    highest, tail = highest_bits(grid, i8(0)), i4(-grid[TAIL] << 23)
    # Without a change nothing is added, wherever it would begin.
    change1, change2 = i4(-max(grid[CHANGE1], 0) << 23), i4(-max(grid[CHANGE2], 0) << 23)
    shift, delta1, delta2 = i4(grid[TAIL_SHIFT] << 23), i4(grid[DELTA1] << 23), i4(grid[DELTA2] << 23)
    for i in range(x.size):
        level = levels[i]
        c = min(i4(x[i] & i4(MAGNITUDE4)), i4(level + highest))
        bits = i4(max(i4(c & i4(INFINITY4)), i4(level + tail)) + shift)
        bits = i4(bits + (delta1 if c >= i4(level + change1) else i4(0)))
        clamped[i], power[i] = c, i4(bits + (delta2 if c >= i4(level + change2) else i4(0)))


@njit(nogil=True, inline="always")
def _directed4(u, c, power, passing, mode, random, above):
    """Float32 bits u rounded by `formats.rounding.between` in a mode other than nearest; c, power: as `powers` finds
    them.

    Where the step is a bit of the magnitude, it is added to: as many of the bits below as the mode lets carry into it,
    which then are dropped. So a carry goes into the exponent. Where the step lies above, it is that or zero.
    """
    a = i4(u & i4(MAGNITUDE4))
    drop = i4(i4(power - max(i4(c & i4(INFINITY4)), i4(1 << 23))) >> i4(23))
    step = i4(i4(1) << i4(drop & i4(31)))
    if mode == STOCHASTIC:
        # random < rest * 2^(32 - drop), and so the upper bits of `random` are below the rest, which is a carry.
        added = i4(u4(u4(~random) >> u4(1)) >> u4(i4(i4(31) - drop) & i4(31)))
        significand = u4(u4(c << i4(8)) | u4(0x80000000 if c >= i4(1 << 23) else 0))
        up = drop < i4(56) and random < u4(significand >> u4(i4(drop - i4(24)) & i4(31)))
    elif mode == NEAREST_AWAY:
        added = i4(step >> i4(1))
        up = drop == i4(24) and c >= i4(1 << 23)
    else:
        away = False
        if mode == UP:
            away = u >= i4(0)
        elif mode == DOWN:
            away = u < i4(0)
        elif mode == HYSTERESIS:
            away = above != (u < i4(0))
        added = i4(step - i4(1)) if away else i4(0)
        up = away and c > i4(0)
    y = i4(i4(c + added) & i4(-step))
    if drop > i4(23):
        y = i4(power - i4(23 << 23)) if up else i4(0)
    y = a if a > passing else y
    return i4(y | i4(u & i4(SIGN4)))


@njit(nogil=True)
def _run4(x, out, previous, clamped, power, passing, mode, random):
    """Round float32 bits whose magnitudes and powers `powers` has found."""
    if mode == HYSTERESIS:
        for i in range(x.size):
            above = previous[i] > as_float(x[i])
            out[i] = _directed4(x[i], clamped[i], power[i], passing, HYSTERESIS, u4(0), above)
    elif mode == STOCHASTIC:
        for i in range(x.size):
            out[i] = _directed4(x[i], clamped[i], power[i], passing, STOCHASTIC, random[i], False)
    else:
        for i in range(x.size):
            out[i] = _directed4(x[i], clamped[i], power[i], passing, mode, u4(0), False)


@njit(nogil=True)
def mode4(x, out, previous, top, grid, passing, mode, random, clamped, power):
    """Round at most CHUNK float32 bits. random: a number for each; previous: float32, read by hysteresis alone;
    clamped, power: room for as many."""
    first = top + 127
    if has_normal_steps(grid, first):
        powers(x, clamped, power, highest_bits(grid, first), grid, first)
        _run4(x, out, previous, clamped, power, i4(passing), mode, random)
        return
    for i in range(x.size):
        a = i8(x[i] & i4(MAGNITUDE4))
        above = mode == HYSTERESIS and previous[i] > as_float(x[i])
        y = a if a > passing else round_magnitude(a, top, grid, 23, 127, mode, x[i] < 0, i8(random[i]), above)
        out[i] = i4(y) | (x[i] & i4(SIGN4))


@njit(nogil=True)
def _mode8(x, out, previous, top, grid, passing, mode, random, clamped, power):
    """The same for float64 bits."""
    for i in range(x.size):
        a = x[i] & i8(MAGNITUDE8)
        above = mode == HYSTERESIS and previous[i] > as_double(x[i])
        y = a if a > passing else round_magnitude(a, top, grid, 52, 1023, mode, x[i] < 0, i8(random[i]), above)
        out[i] = y | (x[i] & i8(SIGN8))


@njit(nogil=True)
def _levels(w, tops, start, end, levels):
    """The exponent field, as bits, of the top binade of each element of a row, columns `start` to `end`. Whether they
    are all such that `_powers_at_levels` serves; levels has room for a block more."""
    if w.grid[LOOP] != CHANGES_LOOP:
        return False
    column = start
    while column < end:
        across = column // w.tile_columns
        field = tops[across * w.tops_across] + 127
        if not has_normal_steps(w.grid, field):
            return False
        behind = min((across + 1) * w.tile_columns, end)
        for i in range(column - start, behind - start, BLOCK):
            # A block at a time, the next tile's elements too, which come after.
            for j in range(BLOCK):
                levels[np.uint64(i + j)] = i4(field << 23)
        column = behind
    return True


@njit(nogil=True)
def _many_tiles4(x, out, previous, tops, w, start, random, clamped, power, levels):
    """Round at most CHUNK float32 bits of a row from column `start` on that have many scales, if quick loops serve;
    whether they did."""
    if not _levels(w, tops, start, start + x.size, levels):
        return False
    _powers_at_levels(x, clamped, power, levels, w.grid)
    _run4(x, out, previous, clamped, power, i4(w.passing), w.mode, random)
    return True


@njit(nogil=True)
def _many_tiles8(x, out, previous, tops, w, start, random, clamped, power, levels):
    """Float64 bits are rounded tile by tile."""
    return False


_mode_run = by_width(mode4, _mode8)
_many_tiles = by_width(_many_tiles4, _many_tiles8)

WORDS = Words(
    tiling=TILING,
    x=BITS,
    x_strides="x_batch x_row",
    out=BITS,
    out_strides="out_batch out_row",
    stretch=NUMBER,
    stretches=NUMBER,
    previous=FLOATS,
    previous_strides="previous_batch previous_row",
    tops=int64[::1],
    tops_strides="tops_batch tops_down tops_across",
    grid=int64[::1],
    passing=NUMBER,
    mode=NUMBER,
    seed=UNSIGNED,
    stream=UNSIGNED,
    logical="logical_batch logical_row logical_column",
)


@njit(nogil=True)
def _fill_for_row(random, w, element, count):
    """Numbers for `count` elements of a row from the one at a logical place on; returns how many are to be skipped."""
    if w.logical_column != 1:
        for i in range(count):
            random[i] = one(element + i * w.logical_column, w.seed, w.stream)
        return i8(0)
    skip = element % 4
    fill(random[: (count + skip + 3) // 4 * 4], element // 4, w.seed, w.stream)
    return skip


@task_for_each_size(WORDS)
def _round_tiles_in_mode(w):
    x, out, previous, grid = w.x, w.out, w.previous, w.grid
    first, last = share(w.stretches * (w.tiles // w.across))
    random, skip = np.zeros(CHUNK + 4, np.uint32), i8(0)
    clamped, power, levels = np.empty(CHUNK, np.int32), np.empty(CHUNK, np.int32), np.empty(CHUNK + BLOCK, np.int32)
    for unit in range(first, last):
        batch, down, _, _, left, width = stretch_at(w, unit)
        tops = w.tops[batch * w.tops_batch + down * w.tops_down :]
        for r in range(down * w.tile_rows, min((down + 1) * w.tile_rows, w.rows)):
            for start in range(left, left + width, CHUNK):
                count = min(CHUNK, left + width - start)
                at, to = batch * w.x_batch + r * w.x_row + start, batch * w.out_batch + r * w.out_row + start
                before = batch * w.previous_batch + r * w.previous_row + start
                if w.mode == STOCHASTIC:
                    element = batch * w.logical_batch + r * w.logical_row + start * w.logical_column
                    skip = _fill_for_row(random, w, element, count)
                own, made, old = x[at : at + count], out[to : to + count], previous[before : before + count]
                drawn = random[skip : skip + count]
                if w.tile_columns < CHUNK and _many_tiles(
                    own, made, old, tops, w, start, drawn, clamped, power, levels
                ):
                    continue
                i = i8(0)
                while i < count:
                    # What lies in one tile.
                    across = (start + i) // w.tile_columns
                    end = min((across + 1) * w.tile_columns - start, count)
                    top, part = tops[across * w.tops_across], slice(i, end)
                    _mode_run(
                        own[part], made[part], old[part], top, grid, w.passing, w.mode, drawn[part], clamped, power
                    )
                    i = end


def round_tiles_in_mode(
    x: NDArray[Any],
    out: NDArray[Any],
    tile: tuple[int, int],
    tops: NDArray[np.int64],
    grid: NDArray[np.int64],
    keep_infinities: bool,
    mode: ModeChoice,
    logical: tuple[int, int, int],
) -> None:
    """`round_tiles` in any mode; the rule is `formats.rounding.rounded`.

    Args:
        x: As for `round_tiles`.
        out: As for `round_tiles`.
        tile: As for `round_tiles`.
        tops: As for `round_tiles`.
        grid: As for `round_tiles`.
        keep_infinities: As for `round_tiles`.
        mode: With previous values, where it has any, of x's shape and dtype and unit stride along columns.
        logical: By how much an element's place in the logical order, which decides its random number, grows with batch,
            row and column.
    """
    if not x.size:
        return
    previous = x if mode.previous is None else mode.previous
    stretch, stretches = stretches_of(tile, tops.shape)
    words = WORDS.pack(
        tiling=cut(x, tile, tops.shape),
        x=x,
        x_strides=strides(x)[:2],
        out=out,
        out_strides=strides(out)[:2],
        stretch=stretch,
        stretches=stretches,
        previous=previous,
        previous_strides=strides(previous)[:2],
        tops=tops,
        tops_strides=strides(tops),
        grid=grid,
        passing=largest_rounded(x, keep_infinities),
        mode=MODES[mode.rounding],
        seed=mode.seed,
        stream=mode.stream,
        logical=logical,
    )
    threads.run(_round_tiles_in_mode[x.itemsize], words, x.size)


def round_flat_in_mode(
    x: NDArray[Any], out: NDArray[Any], top: int, grid: NDArray[np.int64], keep_infinities: bool, mode: ModeChoice
) -> None:
    """`round_tiles_in_mode` of arrays with one scale, quicker to call; the rule is `formats.rounding.rounded`.

    Args:
        x: float32 or float64, C-contiguous.
        out: Of x's shape and dtype, C-contiguous; may be x itself.
        top: T.
        grid: As for `round_tiles`.
        keep_infinities: As for `round_tiles`.
        mode: With previous values, where it has any, of x's shape and dtype, C-contiguous.
    """
    if not x.size:
        return
    tops, tiling = np.array(top, np.int64), cut_flat(x.size)
    words = WORDS.pack(
        tiling=tiling,
        x=x,
        x_strides=(0, 0),
        out=out,
        out_strides=(0, 0),
        stretch=1,
        stretches=tiling[-1],
        previous=x if mode.previous is None else mode.previous,
        previous_strides=(0, 0),
        tops=tops,
        tops_strides=(0, 0, 0),
        grid=grid,
        passing=largest_rounded(x, keep_infinities),
        mode=MODES[mode.rounding],
        seed=mode.seed,
        stream=mode.stream,
        logical=(0, 0, 1),
    )
    threads.run(_round_tiles_in_mode[x.itemsize], words, x.size)
