"""Rounding by a table of values: float32 by thresholds, and all numbers to the neighbours that the other modes choose
from."""

from functools import lru_cache
from typing import Any

import numpy as np
from numba import carray, njit
from numpy.typing import NDArray

from formats.kernel import threads
from formats.kernel.bits import INFINITY4, MAGNITUDE4, SIGN4, as_bits, as_double, as_float, i4, i8
from formats.kernel.exact import DOWN, HYSTERESIS, MODES, STOCHASTIC, TOWARD_ZERO, UP
from formats.kernel.memory import address_of, pointer4, pointer8, pointer_double, pointer_float, pointer_short
from formats.kernel.neighbours import goes_up
from formats.kernel.philox import fill
from formats.kernel.task import ANY, CHUNK, COLUMNS, ROWS, Task, layout, place, share, signed_word, strides
from formats.kernel.threads import thread_count, thread_number
from formats.rounding import ModeChoice

FEW_STEPS = 32
"""Up to so many thresholds it is quicker to count those that a number reaches than to search them."""


@njit(nogil=True)
def _look_up(x, out, steps, starts, values, copy_sign, passing):
    """values[k] for each float32 bits of x, k the number of `steps` at or below it (of its magnitude where the sign is
    copied).

    starts: that number for the smallest float of each upper half of the bits, from which the search goes on.
    """
    index = np.zeros(CHUNK, np.int32)
    mask = i4(MAGNITUDE4) if copy_sign else i4(-1)
    for start in range(0, x.size, CHUNK):
        count = min(CHUNK, x.size - start)
        part, to = x[start : start + count], out[start : start + count]
        if steps.size <= FEW_STEPS:
            index[:count] = 0
            for step in steps:
                for i in range(count):
                    index[i] += as_float(i4(part[i] & mask)) >= step
        else:
            for i in range(count):
                bits = i4(part[i] & mask)
                number, at = as_float(bits), i8(starts[np.uint32(bits) >> np.uint32(16)])
                while at < steps.size and number >= steps[at]:
                    at += 1
                index[i] = at
        for i in range(count):
            u = part[i]
            a = i4(u & i4(MAGNITUDE4))
            y = as_bits(values[index[i]])
            y = i4(y | i4(u & i4(SIGN4))) if copy_sign else y
            to[i] = u if a > passing else y


@Task
def _look_up_task(pointer):
    w = carray(pointer, (32,))
    number, count = i8(thread_number()), i8(thread_count())
    first, last = w[0] * number // count, w[0] * (number + 1) // count
    x, out = carray(pointer4(w[1]), (ANY,)), carray(pointer4(w[2]), (ANY,))
    steps, values = carray(pointer_float(w[3]), (ANY,))[: w[4]], carray(pointer_float(w[5]), (ANY,))
    starts = carray(pointer_short(w[8]), (ANY,))
    _look_up(x[first:last], out[first:last], steps, starts, values, w[6] != 0, i4(w[7]))


@lru_cache(maxsize=64)
def _starts(steps: bytes) -> NDArray[np.uint16]:
    """How many steps the smallest float32 with each upper half of its bits reaches; 0 for NaN, which does not
    matter."""
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    # Among negative numbers the one with all lower bits set is the smallest.
    smallest = np.where(upper >> 31, upper | 0xFFFF, upper).astype(np.uint32).view(np.float32)
    found = np.searchsorted(np.frombuffer(steps, np.float32), smallest, side="right")
    return np.where(np.isnan(smallest), 0, found).astype(np.uint16)


def _starts_where_many(steps: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The same where there are enough to search; else nothing to be read."""
    return _starts(steps.tobytes()) if len(steps) > FEW_STEPS else np.zeros(1, np.uint16)


def look_up(
    x: NDArray[np.float32],
    out: NDArray[np.float32],
    steps: NDArray[np.float32],
    values: NDArray[np.float32],
    copy_sign: bool,
    keep_infinities: bool,
) -> None:
    """Round C-contiguous x into out by a table: values[k], where k is how many of the ascending `steps` a number
    reaches."""
    if not x.size:
        return
    starts = _starts_where_many(steps)
    passing = INFINITY4 - int(keep_infinities)
    words = [
        x.size,
        address_of(x),
        address_of(out),
        address_of(steps),
        len(steps),
        address_of(values),
        int(copy_sign),
        passing,
    ]
    threads.run(_look_up_task, [*words, address_of(starts)], x.size)


# The modes other than to nearest.


@njit(nogil=True)
def _count_reached(numbers, index, values, starts):
    """How many of the values each number reaches, into index. starts: as for `_look_up`."""
    if values.size <= FEW_STEPS:
        index[: numbers.size] = 0
        for value in values:
            for i in range(numbers.size):
                index[i] += numbers[i] >= value
        return
    for i in range(numbers.size):
        at = i8(starts[np.uint32(as_bits(np.float32(numbers[i]))) >> np.uint32(16)])
        while at < values.size and numbers[i] >= values[at]:
            at += 1
        # Made a float32, a number may have passed a value.
        while at > 0 and values[at - 1] > numbers[i]:
            at -= 1
        index[i] = at


@njit(nogil=True, inline="always")
def _one_in_mode(number, low, high, minus, apart, mode, random, above):
    """The value that a number between low <= number < high becomes, or low where that is high as well. minus: whether
    it counts as negative."""
    a, near, far = (-number, -high, -low) if minus else (number, low, high)
    up = goes_up(a, near, far, mode, minus, random, above) != minus
    y = high if up and number != low else low
    return 0.0 if apart and number == 0 else y


@njit(nogil=True)
def _in_mode(x, out, previous, top, values, starts, lows, highs, copy_sign, apart, keep, mode, random, relative, index):
    """Round at most CHUNK numbers; random: a number for each; relative, index: room for as many."""
    larger, smaller = as_double(i8(1023 + top) << 52), as_double(i8(1023 - top) << 52)
    for i in range(x.size):
        number = np.float64(x[i]) * smaller
        # What became zero is still not zero; far from every value, and so not in need of more care.
        relative[i] = np.copysign(5e-324, number) if number == 0 and x[i] != 0 else number
    relative, index = relative[: x.size], index[: x.size]
    _count_reached(relative, index, values, starts)
    if mode == STOCHASTIC:
        for i in range(x.size):
            minus = relative[i] < 0 or (copy_sign and np.signbit(relative[i]))
            relative[i] = _one_in_mode(
                relative[i], lows[index[i]], highs[index[i]], minus, apart, STOCHASTIC, random[i], False
            )
    elif mode == HYSTERESIS:
        for i in range(x.size):
            minus, above = relative[i] < 0 or (copy_sign and np.signbit(relative[i])), previous[i] > x[i]
            relative[i] = _one_in_mode(
                relative[i], lows[index[i]], highs[index[i]], minus, apart, HYSTERESIS, random[i], above
            )
    else:
        directed = i8(mode)
        for i in range(x.size):
            minus = relative[i] < 0 or (copy_sign and np.signbit(relative[i]))
            # Told apart here, so that stochastic rounding is not compiled in.
            if directed == UP:
                y = _one_in_mode(relative[i], lows[index[i]], highs[index[i]], minus, apart, UP, random[i], False)
            elif directed == DOWN:
                y = _one_in_mode(relative[i], lows[index[i]], highs[index[i]], minus, apart, DOWN, random[i], False)
            else:
                y = _one_in_mode(
                    relative[i], lows[index[i]], highs[index[i]], minus, apart, TOWARD_ZERO, random[i], False
                )
            relative[i] = y
    for i in range(x.size):
        y = relative[i] * larger
        y = np.copysign(y, np.float64(x[i])) if copy_sign and y == 0 else y
        out[i] = x[i] if np.isnan(x[i]) or (keep and np.isinf(x[i])) else y


@njit(nogil=True)
def _in_mode_tiles(w, x, out, previous, tops, values, starts, lows, highs):
    """x, out and previous: all in row-major order, without gaps."""
    first, last = share(w)
    random, relative, index = np.zeros(CHUNK + 4, np.uint32), np.empty(CHUNK), np.empty(CHUNK, np.int64)
    copy_sign, apart, keep, mode, seed, stream = w[18] != 0, w[19] != 0, w[20] != 0, w[21], w[22], w[23]
    for tile in range(first, last):
        batch, down, across, row, end, left, width = place(w, tile)
        top = tops[batch * w[11] + down * w[12] + across * w[13]]
        for r in range(row, end):
            for column in range(left, left + width, CHUNK):
                count = min(CHUNK, left + width - column)
                start = (batch * w[ROWS] + r) * w[COLUMNS] + column
                skip = start % 4
                if mode == STOCHASTIC:
                    fill(random[: (count + skip + 3) // 4 * 4], start // 4, seed, stream)
                _in_mode(
                    x[start : start + count],
                    out[start : start + count],
                    previous[start : start + count],
                    top,
                    values,
                    starts,
                    lows,
                    highs,
                    copy_sign,
                    apart,
                    keep,
                    mode,
                    random[skip : skip + count],
                    relative,
                    index,
                )


@Task
def _in_mode_tiles4(pointer):
    w = carray(pointer, (32,))
    x, out, previous = (
        carray(pointer_float(w[7]), (ANY,)),
        carray(pointer_float(w[8]), (ANY,)),
        carray(pointer_float(w[9]), (ANY,)),
    )
    tops, values = carray(pointer8(w[10]), (ANY,)), carray(pointer_double(w[14]), (ANY,))[: w[15]]
    starts, lows, highs = (
        carray(pointer_short(w[24]), (ANY,)),
        carray(pointer_double(w[16]), (ANY,)),
        carray(pointer_double(w[17]), (ANY,)),
    )
    _in_mode_tiles(w, x, out, previous, tops, values, starts, lows, highs)


@Task
def _in_mode_tiles8(pointer):
    w = carray(pointer, (32,))
    x, out, previous = (
        carray(pointer_double(w[7]), (ANY,)),
        carray(pointer_double(w[8]), (ANY,)),
        carray(pointer_double(w[9]), (ANY,)),
    )
    tops, values = carray(pointer8(w[10]), (ANY,)), carray(pointer_double(w[14]), (ANY,))[: w[15]]
    starts, lows, highs = (
        carray(pointer_short(w[24]), (ANY,)),
        carray(pointer_double(w[16]), (ANY,)),
        carray(pointer_double(w[17]), (ANY,)),
    )
    _in_mode_tiles(w, x, out, previous, tops, values, starts, lows, highs)


@lru_cache(maxsize=64)
def _neighbours(values: bytes, apart: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The value below and the value above a number that reaches 0, 1, ... of the values; twice the same where there is
    one to go to."""
    table = np.frombuffer(values)
    lows, highs = np.concatenate([table[:1], table]), np.concatenate([table, table[-1:]])
    if apart:
        lows, highs = np.where(lows == 0, highs, lows), np.where(highs == 0, lows, highs)
    return lows, highs


def look_up_in_mode(
    x: NDArray[Any],
    out: NDArray[Any],
    previous: NDArray[Any] | None,
    tile: tuple[int, int],
    tops: NDArray[np.int64],
    values: NDArray[np.float64],
    mode: ModeChoice,
    *,
    copy_sign: bool,
    apart: bool,
    keep_infinities: bool,
) -> None:
    """Round x into out, both (batch, rows, columns) and C-contiguous, to values times 2^top, in any mode but those to
    nearest.

    tops: one a tile. values: float32 numbers, ascending, of both signs. previous: for hysteresis, as x.
    copy_sign: a zero has x's sign. apart: nothing but zero becomes zero.
    """
    if not x.size:
        return
    lows, highs = _neighbours(values.tobytes(), apart)
    starts = _starts_where_many(values.astype(np.float32))
    words = [
        *layout(x, tile, tops.shape),
        *(address_of(x), address_of(out), address_of(x if previous is None else previous)),
        *(address_of(tops), *strides(tops)),
        *(address_of(values), len(values), address_of(lows), address_of(highs)),
        *(int(copy_sign), int(apart), int(keep_infinities)),
        *(MODES[mode.rounding], signed_word(mode.seed), signed_word(mode.stream), address_of(starts)),
    ]
    threads.run(_in_mode_tiles8 if x.dtype == np.float64 else _in_mode_tiles4, words, x.size)
