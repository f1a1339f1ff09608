"""Rounding by a table of values: float32 by thresholds, and all numbers to the neighbours that the other modes choose
from."""

from functools import lru_cache
from typing import Any

import numpy as np
from numba import float32, float64, int32, int64, njit, uint16
from numpy.typing import NDArray

from formats.kernel import threads
from formats.kernel.bits import MAGNITUDE4, SIGN4, as_bits, as_double, as_float, i4, i8, largest_rounded
from formats.kernel.exact import DOWN, HYSTERESIS, MODES, STOCHASTIC, TOWARD_ZERO, UP
from formats.kernel.neighbours import goes_up
from formats.kernel.philox import fill
from formats.kernel.threads import share, task, task_for_each_size
from formats.kernel.tiling import CHUNK, TILING, cut, place, strides, tiles_of_thread
from formats.kernel.words import FLOATS, NUMBER, UNSIGNED, Words
from formats.rounding import ModeChoice

FEW_STEPS = 32
"""Up to so many thresholds it is quicker to count those that a number reaches than to search them."""


GROUP = 8
"""Thresholds that a pass over a chunk compares with, which then lie in registers with their values."""


@njit(nogil=True, inline="always")
def _step(steps, values, k):
    """A threshold and the value from there on; behind the last, one that nothing reaches."""
    return (steps[k], values[k + 1]) if k < steps.size else (np.float32(np.nan), np.float32(0))


@njit(nogil=True)
def _compare_group(x, mask, steps, values, k, found):
    """The values of those that reach one of the `GROUP` steps from number k on, into `found`."""
    (s0, v0), (s1, v1) = _step(steps, values, k), _step(steps, values, k + 1)
    (s2, v2), (s3, v3) = _step(steps, values, k + 2), _step(steps, values, k + 3)
    (s4, v4), (s5, v5) = _step(steps, values, k + 4), _step(steps, values, k + 5)
    (s6, v6), (s7, v7) = _step(steps, values, k + 6), _step(steps, values, k + 7)
    for i in range(x.size):
        number, y = as_float(i4(x[i] & mask)), found[i]
        y = v0 if number >= s0 else y
        y = v1 if number >= s1 else y
        y = v2 if number >= s2 else y
        y = v3 if number >= s3 else y
        y = v4 if number >= s4 else y
        y = v5 if number >= s5 else y
        y = v6 if number >= s6 else y
        found[i] = v7 if number >= s7 else y


@njit(nogil=True)
def _search(x, mask, steps, starts, one_each, values, found):
    """The values of those that reach steps, from where `starts` says on, into `found`."""
    if one_each:
        for i in range(x.size):
            bits = i4(x[i] & mask)
            at = np.uint64(starts[np.uint32(bits) >> np.uint32(16)])
            # Behind the last step stands one that nothing reaches.
            found[i] = values[at + np.uint64(as_float(bits) >= steps[at])]
        return
    for i in range(x.size):
        bits = i4(x[i] & mask)
        number, at = as_float(bits), i8(starts[np.uint32(bits) >> np.uint32(16)])
        while number >= steps[at]:
            at += 1
        found[i] = values[at]


@njit(nogil=True)
def _look_up(x, out, steps, count, starts, one_each, values, copy_sign, passing):
    """values[k] for each float32 bits of x, k the number of the `count` steps at or below it (of its magnitude where
    the sign is copied): to nearest as `formats.CodebookFormat` says, which makes the steps."""
    room = np.empty(CHUNK, np.float32)
    mask = i4(MAGNITUDE4) if copy_sign else i4(-1)
    for start in range(0, x.size, CHUNK):
        part, to = x[start : start + CHUNK], out[start : start + CHUNK]
        found = room[: part.size]
        if count <= FEW_STEPS:
            found[:] = values[0]
            for k in range(0, count, GROUP):
                _compare_group(part, mask, steps[:count], values, k, found)
        else:
            _search(part, mask, steps, starts, one_each, values, found)
        for i in range(part.size):
            u = part[i]
            a = i4(u & i4(MAGNITUDE4))
            y = as_bits(found[i])
            y = i4(y | i4(u & i4(SIGN4))) if copy_sign else y
            to[i] = u if a > passing else y


WORDS = Words(
    elements=NUMBER,
    x=int32[::1],
    out=int32[::1],
    steps=float32[::1],
    step_count=NUMBER,
    starts=uint16[::1],
    one_each=NUMBER,
    values=float32[::1],
    copy_sign=NUMBER,
    passing=NUMBER,
)


@task(WORDS)
def _look_up_share(w):
    first, last = share(w.elements)
    x, out, copies = w.x[first:last], w.out[first:last], w.copy_sign != 0
    _look_up(x, out, w.steps, w.step_count, w.starts, w.one_each != 0, w.values, copies, i4(w.passing))


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


@lru_cache(maxsize=64)
def _table(steps: bytes) -> tuple[NDArray[np.float32], bool, NDArray[np.uint16]]:
    """The steps and behind them NaN, which nothing reaches; whether no two have the same upper half of bits; and where
    to begin, as for `_look_up`."""
    table = np.frombuffer(steps, np.float32)
    one_each = bool((np.diff(table.view(np.uint32) >> 16) != 0).all())
    return np.append(table, np.float32(np.nan)), one_each, _starts_where_many(table)


def look_up(
    x: NDArray[np.float32],
    out: NDArray[np.float32],
    steps: NDArray[np.float32],
    values: NDArray[np.float32],
    copy_sign: bool,
    keep_infinities: bool,
) -> None:
    """Round x into out by a table: values[k], where k is how many of the steps a number reaches.

    So the steps decide ties; beyond the outermost values it is the rule `formats.rounding.rounded`.

    Args:
        x: float32, C-contiguous.
        out: Of x's shape, C-contiguous; may be x itself.
        steps: float32, ascending; where the sign is copied it is x's magnitude that reaches them.
        values: float32, one more than steps.
        copy_sign: Whether the result takes x's sign.
        keep_infinities: As for `round_tiles`.
    """
    if not x.size:
        return
    ended, one_each, starts = _table(steps.tobytes())
    words = WORDS.pack(
        elements=x.size,
        x=x,
        out=out,
        steps=ended,
        step_count=len(steps),
        starts=starts,
        one_each=one_each,
        values=values,
        copy_sign=copy_sign,
        passing=largest_rounded(x, keep_infinities),
    )
    threads.run(_look_up_share, words, x.size)


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
    """The value that a number between low <= number < high becomes by `formats.rounding.between`, or low where that is
    high as well. minus: whether it counts as negative."""
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


WORDS_IN_MODE = Words(
    tiling=TILING,
    x=FLOATS,
    out=FLOATS,
    previous=FLOATS,
    tops=int64[::1],
    tops_strides="tops_batch tops_down tops_across",
    values=float64[::1],
    value_count=NUMBER,
    starts=uint16[::1],
    lows=float64[::1],
    highs=float64[::1],
    copy_sign=NUMBER,
    apart=NUMBER,
    keep_infinities=NUMBER,
    mode=NUMBER,
    seed=UNSIGNED,
    stream=UNSIGNED,
)
"""x, out and previous lie in row-major order, without gaps."""


@task_for_each_size(WORDS_IN_MODE)
def _look_up_tiles_in_mode(w):
    x, out, previous, tops = w.x, w.out, w.previous, w.tops
    values, starts, lows, highs = w.values[: w.value_count], w.starts, w.lows, w.highs
    copy_sign, apart, keep, mode = w.copy_sign != 0, w.apart != 0, w.keep_infinities != 0, w.mode
    first, last = tiles_of_thread(w)
    random, relative, index = np.zeros(CHUNK + 4, np.uint32), np.empty(CHUNK), np.empty(CHUNK, np.int64)
    for tile in range(first, last):
        batch, down, across, row, end, left, width = place(w, tile)
        top = tops[batch * w.tops_batch + down * w.tops_down + across * w.tops_across]
        for r in range(row, end):
            for column in range(left, left + width, CHUNK):
                count = min(CHUNK, left + width - column)
                start = (batch * w.rows + r) * w.columns + column
                skip = start % 4
                if mode == STOCHASTIC:
                    fill(random[: (count + skip + 3) // 4 * 4], start // 4, w.seed, w.stream)
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
    """Round x into out, to values times 2^top, by `formats.rounding.rounded` in any mode but those to nearest.

    Args:
        x: float32 or float64 of shape (batch, rows, columns), C-contiguous.
        out: Of x's shape and dtype, C-contiguous.
        previous: For hysteresis, of x's shape and dtype, C-contiguous.
        tile: As for `round_tiles`.
        tops: As for `round_tiles`.
        values: float32 numbers, as float64, ascending, of both signs.
        mode: Any but those to nearest; its own previous values are not read.
        copy_sign: Whether a zero has x's sign.
        apart: Whether nothing but zero becomes zero.
        keep_infinities: As for `round_tiles`.
    """
    if not x.size:
        return
    lows, highs = _neighbours(values.tobytes(), apart)
    starts = _starts_where_many(values.astype(np.float32))
    words = WORDS_IN_MODE.pack(
        tiling=cut(x, tile, tops.shape),
        x=x,
        out=out,
        previous=x if previous is None else previous,
        tops=tops,
        tops_strides=strides(tops),
        values=values,
        value_count=len(values),
        starts=starts,
        lows=lows,
        highs=highs,
        copy_sign=copy_sign,
        apart=apart,
        keep_infinities=keep_infinities,
        mode=MODES[mode.rounding],
        seed=mode.seed,
        stream=mode.stream,
    )
    threads.run(_look_up_tiles_in_mode[x.itemsize], words, x.size)
