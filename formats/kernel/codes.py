"""Codes of values, and values of codes."""

from typing import Any

import numpy as np
from numba import float32, float64, int32, int64, njit
from numpy.typing import NDArray

from formats.kernel import threads
from formats.kernel.addition import round4
from formats.kernel.bits import INFINITY4, MAGNITUDE4, as_bits, as_float, i4, i8
from formats.kernel.grid import (
    BINADES,
    CHANGE1,
    CHANGE2,
    CHANGES_LOOP,
    LOOP,
    PROFILE,
    TAIL,
    TAIL_SHIFT,
    change_bits,
    highest_bits,
    is_fast,
)
from formats.kernel.largest import NO_RULE, RULE, largest_of_run, top_of
from formats.kernel.threads import task_for_each_size
from formats.kernel.tiling import CHUNK, TILING, cut, cut_flat, place, strides, tiles_of_thread
from formats.kernel.words import CODES, NUMBER, Words


@njit(nogil=True, inline="always")
def _signed(index, u, half, wrap):
    """The code of a magnitude index with the sign of u: plus `half`, or taken from `wrap` where that is not 0; zero has
    no sign."""
    negative = u < i4(0) and index > i4(0)
    if wrap:
        return i4(wrap - index) if negative else index
    return i4(index + half) if negative else index


@njit(nogil=True)
def _run_codes(x, codes, highest, steps, bounds, half, wrap):
    """Codes of float32 bits x in the loop of changes; returns the largest magnitude's bits, by which a NaN shows.

    The rule is `formats.rounding.rounded`. As in `nearest`, 2^23 steps are added to the magnitude. Less the bits of
    what was added, the bits of the sum are the rounded magnitude as a multiple of the step. Its index is that and what
    lies below the binade: within one precision 2^(p-1) more for each binade, which is its exponent shifted, and a
    constant. All of it grows steadily over the seams, so rounding up to the next binade comes out right.

    steps: of the runs of equal precision from the bottom up, what takes an exponent to the power added, by how much to
    shift it right, the constant.
    bounds: the exponent at which the tail ends, and where the second and third run begin.
    """
    tail, bound1, bound2 = bounds
    (shift0, shift1, shift2), (drop0, drop1, drop2), (below0, below1, below2) = steps
    # Shifts that are seen to be below 32 keep to 32 bits.
    drop0, drop1, drop2 = i4(drop0 & i4(31)), i4(drop1 & i4(31)), i4(drop2 & i4(31))
    largest = i4(0)
    for i in range(x.size):
        u = x[i]
        a = i4(u & i4(MAGNITUDE4))
        largest = max(largest, a)
        c = min(a, highest)
        binade = max(i4(c & i4(INFINITY4)), tail)
        shift = shift1 if c >= bound1 else shift0
        drop = drop1 if c >= bound1 else drop0
        below = below1 if c >= bound1 else below0
        shift = shift2 if c >= bound2 else shift
        drop = drop2 if c >= bound2 else drop
        below = below2 if c >= bound2 else below
        power = i4(binade + shift)
        multiple = i4(as_bits(np.float32(as_float(c) + as_float(power))) - power)
        index = i4(i4(multiple + i4(binade >> drop)) + below)
        codes[i] = _signed(index, u, half, wrap)
    return largest


@njit(nogil=True, inline="always")
def _steps_below(grid, first, d):
    """The shift and the constant of `_run_codes` for the run of equal precision whose lowest binade is d."""
    p = grid[PROFILE + d]
    start = grid[PROFILE + grid[BINADES] + d] - (i8(1) << (p - 1))
    return i4(24 - p), i4(start - ((first - d) << (p - 1)))


@njit(nogil=True)
def _encode4(x, codes, top, grid, half, wrap, y):
    """Codes of a run of float32 bits; False where one is NaN. y: memory for CHUNK numbers."""
    first = top + 127
    if not (is_fast(grid, first) and grid[LOOP] == CHANGES_LOOP):
        return _encode_slowly(x, codes, top, grid, half, wrap, y)
    tail, shift0, change1, delta1, change2, delta2 = change_bits(grid, first)
    # From the bottom up: the tail with what goes on in its precision, from the lower change on, from the upper one on.
    drop0, below0 = i4(31), i4(0)
    if grid[TAIL_SHIFT] < 24:
        drop0 = i4(grid[TAIL_SHIFT])
        below0 = i4(-((first - grid[TAIL]) << (23 - grid[TAIL_SHIFT])))
    drop1, below1, drop2, below2 = i4(0), i4(0), i4(0), i4(0)
    shift1 = shift0
    if grid[CHANGE2] >= 0:
        shift1 = i4(shift0 + delta2)
        drop1, below1 = _steps_below(grid, first, grid[CHANGE2])
    if grid[CHANGE1] >= 0:
        drop2, below2 = _steps_below(grid, first, grid[CHANGE1])
    steps = ((shift0, shift1, i4(shift1 + delta1)), (drop0, drop1, drop2), (below0, below1, below2))
    largest = _run_codes(x, codes, highest_bits(grid, first), steps, (tail, change2, change1), i4(half), i4(wrap))
    return largest <= i4(INFINITY4)


@njit(nogil=True)
def _encode_slowly(x, codes, top, grid, half, wrap, y):
    for start in range(0, x.size, CHUNK):
        count = min(CHUNK, x.size - start)
        round4(x[start : start + count], y[:count], top, grid, INFINITY4)
        for i in range(count):
            if i4(y[i] & i4(MAGNITUDE4)) > i4(INFINITY4):
                return False
        _index_slowly(y[:count], codes[start : start + count], top, grid, half, wrap)
    return True


@njit(nogil=True)
def _index_slowly(y, codes, top, grid, half, wrap):
    for i in range(y.size):
        a = i8(y[i] & i4(MAGNITUDE4))
        index = i8(0)
        if a:
            significand, field = a & 0x7FFFFF, a >> 23
            if field:
                significand |= 0x800000
            else:
                field = i8(1)
                while significand < 0x800000:
                    significand <<= 1
                    field -= 1
            d = top + 127 - field
            p = grid[PROFILE + d]
            index = (significand >> (24 - p)) - (i8(1) << (p - 1)) + grid[PROFILE + grid[BINADES] + d]
        codes[i] = _signed(i4(index), y[i], i4(half), i4(wrap))


ENCODING = Words(
    tiling=TILING,
    x=int32[::1],
    x_strides="x_batch x_row",
    codes=CODES,
    codes_strides="codes_batch codes_row",
    tops=int64[::1],
    tops_strides="tops_batch tops_down tops_across",
    grid=int64[::1],
    half=NUMBER,
    wrap=NUMBER,
    nan=int64[::1],
    finds=NUMBER,
    rule=RULE,
)
"""nan: where to note one. finds: whether T of a flat array is to be found, by the rule, and put into tops."""


@task_for_each_size(ENCODING)
def _encode_tiles(w):
    x, codes, tops, grid = w.x, w.codes, w.tops, w.grid
    first, last = tiles_of_thread(w)
    if w.finds:
        tops[0] = top_of(i8(largest_of_run(x[: w.columns])), x, w)
    y = np.empty(CHUNK, np.int32)
    for tile in range(first, last):
        batch, down, across, row, end, left, width = place(w, tile)
        top = tops[batch * w.tops_batch + down * w.tops_down + across * w.tops_across]
        for r in range(row, end):
            at, to = batch * w.x_batch + r * w.x_row + left, batch * w.codes_batch + r * w.codes_row + left
            if not _encode4(x[at : at + width], codes[to : to + width], top, grid, w.half, w.wrap, y):
                w.nan[0] = 1
                return


DECODING = Words(
    tiling=TILING,
    codes=CODES,
    codes_strides="codes_batch codes_row",
    out=float32[::1],
    out_strides="out_batch out_row",
    tops=int64[::1],
    tops_strides="tops_batch tops_down tops_across",
    table=float64[::1],
    nan=int64[::1],
)
"""nan: where to note a code of no value."""


@task_for_each_size(DECODING)
def _decode_tiles(w):
    codes, out, tops, nan = w.codes, w.out, w.tops, w.nan
    table = w.table[: 1 << 8 * codes.itemsize]
    first, last = tiles_of_thread(w)
    values, known = np.empty(table.size, np.float32), i8(1 << 62)
    for tile in range(first, last):
        batch, down, across, row, end, left, width = place(w, tile)
        top = tops[batch * w.tops_batch + down * w.tops_down + across * w.tops_across]
        factor = 2.0 ** float(top)
        if top != known and width * (end - row) < values.size:
            # Too small a tile for a table of its own.
            for r in range(row, end):
                at, to = batch * w.codes_batch + r * w.codes_row + left, batch * w.out_batch + r * w.out_row + left
                for i in range(width):
                    out[to + i] = np.float32(table[codes[at + i]] * factor)
                    if np.isnan(out[to + i]):
                        nan[0] = 1
            continue
        if top != known:
            known = top
            for i in range(values.size):
                values[i] = np.float32(table[i] * factor)
        for r in range(row, end):
            at, to = batch * w.codes_batch + r * w.codes_row + left, batch * w.out_batch + r * w.out_row + left
            from_codes, to_values = codes[at : at + width], out[to : to + width]
            lost = False
            for i in range(width):
                value = values[from_codes[i]]
                lost |= value != value
                to_values[i] = value
            if lost:
                nan[0] = 1


def encode_tiles(
    x: NDArray[Any],
    codes: NDArray[Any],
    tile: tuple[int, int],
    tops: NDArray[np.int64],
    grid: NDArray[np.int64],
    wrap: int,
    half: int,
) -> bool:
    """Codes of the values nearest to x, by `formats.rounding.rounded`.

    Args:
        x: float32, laid out as for `round_tiles`.
        codes: Where to put them, uint8 or uint16, laid out as for `round_tiles`.
        tile: As for `round_tiles`.
        tops: As for `round_tiles`.
        grid: As for `round_tiles`.
        wrap: Where it is not 0, a negative value has code wrap - index.
        half: Where wrap is 0, a negative value has code index + half.

    Returns:
        False where x holds a NaN; `codes` may then be written in part.
    """
    if not codes.size:
        return True
    nan = np.zeros(1, np.int64)
    words = ENCODING.pack(
        tiling=cut(x, tile, tops.shape),
        x=x,
        x_strides=strides(x)[:2],
        codes=codes,
        codes_strides=strides(codes)[:2],
        tops=tops,
        tops_strides=strides(tops),
        grid=grid,
        half=half,
        wrap=wrap,
        nan=nan,
        finds=False,
        rule=NO_RULE,
    )
    threads.run(_encode_tiles[codes.itemsize], words, codes.size)
    return not nan[0]


def encode_flat(
    x: NDArray[Any],
    codes: NDArray[Any],
    top: NDArray[np.int64],
    grid: NDArray[np.int64],
    wrap: int,
    half: int,
    rule: tuple[int, int, int, int] | None = None,
) -> bool:
    """`encode_tiles` of arrays with one scale, quicker to call; the rule is `formats.rounding.rounded`.

    Args:
        x: float32, C-contiguous.
        codes: uint8 or uint16 of x's shape, C-contiguous.
        top: T, int64 of shape ().
        grid: As for `round_tiles`.
        wrap: As for `encode_tiles`.
        half: As for `encode_tiles`.
        rule: The words of `RULE` by which to find T, which is then put into `top`; one thread does it all.

    Returns:
        As `encode_tiles`.
    """
    if not codes.size:
        return True
    nan = np.zeros(1, np.int64)
    words = ENCODING.pack(
        tiling=cut_flat(x.size),
        x=x,
        x_strides=(0, 0),
        codes=codes,
        codes_strides=(0, 0),
        tops=top,
        tops_strides=(0, 0, 0),
        grid=grid,
        half=half,
        wrap=wrap,
        nan=nan,
        finds=rule is not None,
        rule=rule or NO_RULE,
    )
    threads.run(_encode_tiles[codes.itemsize], words, codes.size if rule is None else 1)
    return not nan[0]


def decode_tiles(
    codes: NDArray[Any],
    out: NDArray[np.float32],
    tile: tuple[int, int],
    tops: NDArray[np.int64],
    table: NDArray[np.float64],
) -> bool:
    """Values of codes.

    Args:
        codes: uint8 or uint16, laid out as for `round_tiles`.
        out: Where to put them, float32, laid out as for `round_tiles`.
        tile: As for `round_tiles`.
        tops: As for `round_tiles`.
        table: float64, the value at T = 0 of all that the codes' type holds; NaN where there is none.

    Returns:
        False where a code has none.
    """
    if not codes.size:
        return True
    nan = np.zeros(1, np.int64)
    words = DECODING.pack(
        tiling=cut(codes, tile, tops.shape),
        codes=codes,
        codes_strides=strides(codes)[:2],
        out=out,
        out_strides=strides(out)[:2],
        tops=tops,
        tops_strides=strides(tops),
        table=table,
        nan=nan,
    )
    threads.run(_decode_tiles[codes.itemsize], words, codes.size)
    return not nan[0]
