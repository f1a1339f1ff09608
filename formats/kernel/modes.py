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
    CHANGES_LOOP,
    LOOP,
    PACKED,
    PACKED_BINADES,
    SMALLEST,
    change_bits,
    highest_bits,
    is_fast,
)
from formats.kernel.philox import fill, one
from formats.kernel.threads import task_for_each_size
from formats.kernel.tiling import CHUNK, TILING, cut, cut_flat, place, strides, tiles_of_thread
from formats.kernel.words import BITS, FLOATS, NUMBER, UNSIGNED, Words
from formats.rounding import ModeChoice


@njit(nogil=True)
def _powers(x, power, highest, grid, first):
    """The bits of 2^23 times the local step of each element of float32 bits x."""
    if grid[LOOP] == CHANGES_LOOP:
        tail, shift, change1, delta1, change2, delta2 = change_bits(grid, first)
        for i in range(x.size):
            c = min(i4(x[i] & i4(MAGNITUDE4)), highest)
            bits = i4(max(i4(c & i4(INFINITY4)), tail) + shift)
            bits = i4(bits + (delta1 if c >= change1 else i4(0)))
            power[i] = i4(bits + (delta2 if c >= change2 else i4(0)))
        return
    bottom = first - grid[BINADES]
    for i in range(x.size):
        c = min(i4(x[i] & i4(MAGNITUDE4)), highest)
        field = max(i8(c >> i4(23)), bottom)
        j = min(field - bottom, PACKED_BINADES - 1)
        power[i] = i4((field + 24 - (grid[PACKED + j // 8] >> (4 * (j % 8)) & 15)) << 23)


@njit(nogil=True, inline="always")
def _directed4(u, highest, power, passing, mode, random, above):
    """Float32 bits u rounded by `formats.rounding.between` in a mode other than nearest; `power` as `_powers` finds it.

    Where the step is a bit of the magnitude, it is added to: as many of the bits below as the mode lets carry into it,
    which then are dropped. So a carry goes into the exponent. Where the step lies above, it is that or zero.
    """
    a = i4(u & i4(MAGNITUDE4))
    c = min(a, highest)
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
def mode4(x, out, previous, top, grid, passing, mode, random, power):
    """Round at most CHUNK float32 bits; random: a number for each; previous: float32, read by hysteresis alone."""
    first = top + 127
    if is_fast(grid, first) and first + grid[SMALLEST] >= 24:  # the steps themselves are normal numbers as well
        highest = highest_bits(grid, first)
        _powers(x, power, highest, grid, first)
        if mode == HYSTERESIS:
            for i in range(x.size):
                above = previous[i] > as_float(x[i])
                out[i] = _directed4(x[i], highest, power[i], i4(passing), HYSTERESIS, np.uint32(0), above)
        elif mode == STOCHASTIC:
            for i in range(x.size):
                out[i] = _directed4(x[i], highest, power[i], i4(passing), STOCHASTIC, random[i], False)
        else:
            for i in range(x.size):
                out[i] = _directed4(x[i], highest, power[i], i4(passing), mode, np.uint32(0), False)
        return
    for i in range(x.size):
        a = i8(x[i] & i4(MAGNITUDE4))
        above = mode == HYSTERESIS and previous[i] > as_float(x[i])
        y = a if a > passing else round_magnitude(a, top, grid, 23, 127, mode, x[i] < 0, i8(random[i]), above)
        out[i] = i4(y) | (x[i] & i4(SIGN4))


@njit(nogil=True)
def _mode8(x, out, previous, top, grid, passing, mode, random, power):
    """The same for float64 bits."""
    for i in range(x.size):
        a = x[i] & i8(MAGNITUDE8)
        above = mode == HYSTERESIS and previous[i] > as_double(x[i])
        y = a if a > passing else round_magnitude(a, top, grid, 52, 1023, mode, x[i] < 0, i8(random[i]), above)
        out[i] = y | (x[i] & i8(SIGN8))


_mode_run = by_width(mode4, _mode8)

WORDS = Words(
    tiling=TILING,
    x=BITS,
    x_strides="x_batch x_row",
    out=BITS,
    out_strides="out_batch out_row",
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


@task_for_each_size(WORDS)
def _round_tiles_in_mode(w):
    x, out, previous, tops, grid = w.x, w.out, w.previous, w.tops, w.grid
    first, last = tiles_of_thread(w)
    power, random = np.empty(CHUNK, np.int32), np.zeros(CHUNK + 4, np.uint32)
    mode, seed, stream = w.mode, w.seed, w.stream
    for tile in range(first, last):
        batch, down, across, row, end, left, width = place(w, tile)
        top = tops[batch * w.tops_batch + down * w.tops_down + across * w.tops_across]
        for r in range(row, end):
            for column in range(left, left + width, CHUNK):
                count = min(CHUNK, left + width - column)
                skip = 0
                if mode == STOCHASTIC:
                    element = batch * w.logical_batch + r * w.logical_row + column * w.logical_column
                    if w.logical_column == 1:
                        skip = element % 4
                        fill(random[: (count + skip + 3) // 4 * 4], element // 4, seed, stream)
                    else:
                        for i in range(count):
                            random[i] = one(element + i * w.logical_column, seed, stream)
                at, to = batch * w.x_batch + r * w.x_row + column, batch * w.out_batch + r * w.out_row + column
                before = batch * w.previous_batch + r * w.previous_row + column
                _mode_run(
                    x[at : at + count],
                    out[to : to + count],
                    previous[before : before + count],
                    top,
                    grid,
                    w.passing,
                    mode,
                    random[skip : skip + count],
                    power,
                )


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
    words = WORDS.pack(
        tiling=cut(x, tile, tops.shape),
        x=x,
        x_strides=strides(x)[:2],
        out=out,
        out_strides=strides(out)[:2],
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
    tops = np.array(top, np.int64)
    words = WORDS.pack(
        tiling=cut_flat(x.size),
        x=x,
        x_strides=(0, 0),
        out=out,
        out_strides=(0, 0),
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
