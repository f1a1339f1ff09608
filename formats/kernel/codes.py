"""Codes of values, and values of codes."""

from typing import Any

import numpy as np
from numba import carray, njit
from numpy.typing import NDArray

from formats import threads
from formats.arrays import address_of
from formats.kernel.bits import (
    INFINITY4,
    MAGNITUDE4,
    as_float,
    i4,
    i8,
    pointer4,
    pointer8,
    pointer_byte,
    pointer_double,
    pointer_float,
    pointer_short,
)
from formats.kernel.grid import BINADES, CHANGE1, CHANGE2, CHANGES_LOOP, LOOP, PROFILE, TAIL, is_fast
from formats.kernel.nearest import round4
from formats.kernel.task import ANY, CHUNK, Task, layout, place, share, strides


@njit(nogil=True)
def _index4(y, codes, top, grid, half, wrap):
    """Codes of float32 bits y that are values of the format: magnitude index, plus `half` or taken from `wrap` where negative.

    Where steps are equal (the tail) the index is the number of steps; where precision is constant it grows with the bits themselves.
    """
    first = top + 127
    if not (is_fast(grid, first) and grid[LOOP] == CHANGES_LOOP):
        _index_slowly(y, codes, top, grid, half, wrap)
        return
    tail, binades = grid[TAIL], grid[BINADES]
    per_step = np.float32(2.0 ** float(binades - 1 - top))
    bounds, shifts, starts = np.empty(3, np.int32), np.empty(3, np.int32), np.empty(3, np.int32)
    # From the tail up: binades of the tail's precision, those above the lower change, those above the upper one.
    for k, d in enumerate((tail - 1, grid[CHANGE2], grid[CHANGE1])):
        bounds[k], shifts[k], starts[k] = i4(MAGNITUDE4), i4(0), i4(0)
        if 0 <= d < tail:
            p = grid[PROFILE + d]
            bounds[k], shifts[k] = i4((first - d) << 23), i4(24 - p)
            starts[k] = i4(grid[PROFILE + binades + d] - ((first - d) << (p - 1)))
    b0, b1, b2 = bounds
    s0, s1, s2 = shifts
    c0, c1, c2 = starts
    for i in range(y.size):
        a = i4(y[i] & i4(MAGNITUDE4))
        steps = i4(np.float32(as_float(a) * per_step)) if a < b0 else i4(0)
        index = i4(i4(a >> s0) + c0) if a >= b0 else steps
        index = i4(i4(a >> s1) + c1) if a >= b1 else index
        index = i4(i4(a >> s2) + c2) if a >= b2 else index
        negative = y[i] < i4(0) and index > i4(0)
        if wrap:
            codes[i] = i4(wrap - index) if negative else index
        else:
            codes[i] = i4(index + half) if negative else index


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
        if y[i] < 0 and index:
            index = wrap - index if wrap else index + half
        codes[i] = index


@njit(nogil=True)
def _encode_tiles(w, x, codes, tops, grid, nan):
    """Arguments: x and its strides, codes and their strides, tops and their strides, grid, half, wrap, where to note a NaN."""
    first, last = share(w)
    y = np.empty(CHUNK, np.int32)
    for tile in range(first, last):
        batch, down, across, row, end, left, width = place(w, tile)
        top = tops[batch * w[14] + down * w[15] + across * w[16]]
        for r in range(row, end):
            for column in range(left, left + width, CHUNK):
                count = min(CHUNK, left + width - column)
                at, to = batch * w[8] + r * w[9] + column, batch * w[11] + r * w[12] + column
                round4(x[at : at + count], y[:count], top, grid, INFINITY4)
                lost = i4(0)
                for i in range(count):
                    lost |= i4(i4(y[i] & i4(MAGNITUDE4)) > i4(INFINITY4))
                if lost:
                    nan[0] = 1
                    return
                _index4(y[:count], codes[to : to + count], top, grid, i4(w[18]), i4(w[19]))


@njit(nogil=True)
def _decode_tiles(w, codes, out, tops, table, nan):
    """Arguments: codes and their strides, out and its strides, tops and their strides, table, where to note a code of no value."""
    first, last = share(w)
    values, known = np.empty(table.size, np.float32), i8(1 << 62)
    for tile in range(first, last):
        batch, down, across, row, end, left, width = place(w, tile)
        top = tops[batch * w[14] + down * w[15] + across * w[16]]
        factor = 2.0 ** float(top)
        if top != known and width * (end - row) < values.size:
            # Too small a tile for a table of its own.
            for r in range(row, end):
                at, to = batch * w[8] + r * w[9] + left, batch * w[11] + r * w[12] + left
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
            at, to = batch * w[8] + r * w[9] + left, batch * w[11] + r * w[12] + left
            from_codes, to_values = codes[at : at + width], out[to : to + width]
            lost = False
            for i in range(width):
                value = values[from_codes[i]]
                lost |= value != value
                to_values[i] = value
            if lost:
                nan[0] = 1


@Task
def _encode_bytes(pointer):
    w = carray(pointer, (32,))
    tops, grid, nan = carray(pointer8(w[13]), (ANY,)), carray(pointer8(w[17]), (ANY,)), carray(pointer8(w[20]), (1,))
    _encode_tiles(w, carray(pointer4(w[7]), (ANY,)), carray(pointer_byte(w[10]), (ANY,)), tops, grid, nan)


@Task
def _encode_shorts(pointer):
    w = carray(pointer, (32,))
    tops, grid, nan = carray(pointer8(w[13]), (ANY,)), carray(pointer8(w[17]), (ANY,)), carray(pointer8(w[20]), (1,))
    _encode_tiles(w, carray(pointer4(w[7]), (ANY,)), carray(pointer_short(w[10]), (ANY,)), tops, grid, nan)


@Task
def _decode_bytes(pointer):
    w = carray(pointer, (32,))
    tops, table, nan = carray(pointer8(w[13]), (ANY,)), carray(pointer_double(w[17]), (1 << 8,)), carray(pointer8(w[18]), (1,))
    _decode_tiles(w, carray(pointer_byte(w[7]), (ANY,)), carray(pointer_float(w[10]), (ANY,)), tops, table, nan)


@Task
def _decode_shorts(pointer):
    w = carray(pointer, (32,))
    tops, table, nan = carray(pointer8(w[13]), (ANY,)), carray(pointer_double(w[17]), (1 << 16,)), carray(pointer8(w[18]), (1,))
    _decode_tiles(w, carray(pointer_short(w[7]), (ANY,)), carray(pointer_float(w[10]), (ANY,)), tops, table, nan)


def encode_tiles(
    x: NDArray[Any], codes: NDArray[Any], tile: tuple[int, int], tops: NDArray[np.int64], grid: NDArray[np.int64], wrap: int, half: int
) -> bool:
    """Codes of the nearest values to x (float32) into `codes` (uint8 or uint16), both laid out as for `round_tiles`; False for a NaN in x.

    A negative value has code index + half, or wrap - index where wrap is not 0.
    """
    nan = np.zeros(1, np.int64)
    if x.size:
        threads.run(
            _encode_bytes if codes.itemsize == 1 else _encode_shorts,
            [
                *layout(x, tile, tops.shape),
                *(address_of(x), *strides(x)[:2]),
                *(address_of(codes), *strides(codes)[:2]),
                *(address_of(tops), *strides(tops)),
                *(address_of(grid), half, wrap, address_of(nan)),
            ],
            x.size,
        )
    return not nan[0]


def decode_tiles(
    codes: NDArray[Any], out: NDArray[np.float32], tile: tuple[int, int], tops: NDArray[np.int64], table: NDArray[np.float64]
) -> bool:
    """Values of codes below the table's length into `out`, laid out as for `round_tiles`; False where one is NaN in the table."""
    nan = np.zeros(1, np.int64)
    if codes.size:
        threads.run(
            _decode_bytes if codes.itemsize == 1 else _decode_shorts,
            [
                *layout(codes, tile, tops.shape),
                *(address_of(codes), *strides(codes)[:2]),
                *(address_of(out), *strides(out)[:2]),
                *(address_of(tops), *strides(tops)),
                *(address_of(table), address_of(nan)),
            ],
            codes.size,
        )
    return not nan[0]
