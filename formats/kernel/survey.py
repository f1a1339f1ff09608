"""What rounding did to a tensor, counted in one pass over it and its rounded values."""

import math
import struct
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import int64, njit
from numpy.typing import NDArray

from formats.kernel import threads
from formats.kernel.addition import round_run
from formats.kernel.bits import (
    INFINITY4,
    INFINITY8,
    MAGNITUDE4,
    MAGNITUDE8,
    by_width,
    exponent_layout,
    i4,
    i8,
    largest_rounded,
)
from formats.kernel.exact import NEAREST, round_magnitude
from formats.kernel.threads import task_for_each_size
from formats.kernel.tiling import TILING, cut_flat, tiles_of_thread
from formats.kernel.words import BITS, NUMBER, Words

COUNTS = 4
"""Numbers that a tile gives: the largest finite rounded magnitude's bits, whether there is a NaN, overflows,
underflows."""


@njit(nogil=True)
def _survey4(x, q, limit):
    """Counts of a run of float32 bits. Every sum goes back to 32 bits, so that the loops become vector code."""
    bound = i4(limit)
    # Most runs hold nothing beyond the limit: then the largest is finite, and underflows are all that is to be counted.
    most, largest, underflows = i4(0), i4(0), i4(0)
    for i in range(x.size):
        a, b = i4(x[i] & i4(MAGNITUDE4)), i4(q[i] & i4(MAGNITUDE4))
        most = max(most, a)
        largest = max(largest, b)
        zero = a if b == i4(0) else i4(0)
        underflows = i4(underflows + (i4(1) if zero > i4(0) else i4(0)))
    if most <= bound and most < i4(INFINITY4) and largest < i4(INFINITY4):
        return largest, i4(0), i4(0), underflows
    largest, greatest, overflows, underflows = i4(0), i4(0), i4(0), i4(0)
    for i in range(x.size):
        a, b = i4(x[i] & i4(MAGNITUDE4)), i4(q[i] & i4(MAGNITUDE4))
        largest = max(largest, b if b < i4(INFINITY4) else i4(0))
        greatest = max(greatest, b)
        a = a if a <= i4(INFINITY4) else i4(0)
        overflows = i4(overflows + (i4(1) if a > bound else i4(0)))
        zero = a if b == i4(0) else i4(0)
        underflows = i4(underflows + (i4(1) if zero > i4(0) else i4(0)))
    return largest, i4(greatest > i4(INFINITY4)), overflows, underflows


@njit(nogil=True)
def _look4(x, vanishing):
    """The largest magnitude's bits of a run of float32 bits, and how many, but zero, are at most `vanishing`."""
    most, underflows, bound = i4(0), i4(0), i4(vanishing)
    for i in range(x.size):
        a = i4(x[i] & i4(MAGNITUDE4))
        most = max(most, a)
        underflows = i4(underflows + (i4(1) if (a > i4(0)) & (a <= bound) else i4(0)))
    return most, underflows


@njit(nogil=True)
def _look8(x, vanishing):
    """The same of float64 bits."""
    most, underflows = i8(0), i8(0)
    for i in range(x.size):
        a = x[i] & i8(MAGNITUDE8)
        most = max(most, a)
        underflows += i8(1) if (a > 0) & (a <= vanishing) else i8(0)
    return most, underflows


@njit(nogil=True)
def _survey8(x, q, limit):
    """The same of float64 bits."""
    largest, greatest, overflows, underflows = i8(0), i8(0), i8(0), i8(0)
    for i in range(x.size):
        a, b = x[i] & i8(MAGNITUDE8), q[i] & i8(MAGNITUDE8)
        largest = max(largest, b if b < i8(INFINITY8) else i8(0))
        greatest = max(greatest, b)
        a = a if a <= i8(INFINITY8) else i8(0)
        overflows += i8(1) if a > limit else i8(0)
        underflows += i8(1) if b == 0 and a > 0 else i8(0)
    return largest, i8(greatest > i8(INFINITY8)), overflows, underflows


_survey_of_run = by_width(_survey4, _survey8)
_look = by_width(_look4, _look8)

WORDS = Words(
    tiling=TILING,
    x=BITS,
    q=BITS,
    limit=NUMBER,
    counts=int64[::1],
    rounds=NUMBER,
    grid=int64[::1],
    passing=NUMBER,
    top=NUMBER,
    vanishing=NUMBER,
)


@task_for_each_size(WORDS)
def _survey_tiles(w):
    """Put COUNTS numbers a tile into `counts`; limit, vanishing: their bits; rounds: whether q is still to be
    rounded."""
    x, q, counts = w.x, w.q, w.counts
    first, last = tiles_of_thread(w)
    bits, bias = exponent_layout(x)
    for tile in range(first, last):
        at, begin, end = tile * COUNTS, tile * w.tile_columns, min((tile + 1) * w.tile_columns, w.columns)
        if w.rounds:
            round_run(x[begin:end], q[begin:end], w.top, w.grid, w.passing)
            # What is within the limit tells all by itself: rounding keeps the order of magnitudes.
            largest, underflows = _look(x[begin:end], w.vanishing)
            if largest <= w.limit < (2 * bias + 1) << bits:
                most = round_magnitude(i8(largest), w.top, w.grid, bits, bias, NEAREST, False, i8(0), False)
                counts[at], counts[at + 3] = most, underflows
                continue
        largest, broken, overflows, underflows = _survey_of_run(x[begin:end], q[begin:end], w.limit)
        counts[at], counts[at + 1], counts[at + 2], counts[at + 3] = largest, broken, overflows, underflows


class Survey(NamedTuple):
    """What rounding did to an array.

    Attributes:
        largest: The largest finite rounded magnitude; NaN where a rounded value is NaN.
        overflows: Elements beyond the limit; infinite ones are beyond every finite one, NaN beyond none.
        underflows: Nonzero elements that were rounded to zero.
    """

    largest: float
    overflows: int
    underflows: int


def survey_rounded(x: NDArray[Any], q: NDArray[Any], limit: float) -> Survey:
    """Compare an array with its rounded values.

    Args:
        x: float32 or float64, C-contiguous.
        q: The rounded values, of x's shape and dtype, C-contiguous.
        limit: The largest value of the format.
    """
    return _survey(x, q, limit)


def round_and_survey(
    x: NDArray[Any],
    out: NDArray[Any],
    top: int,
    grid: NDArray[np.int64],
    keep_infinities: bool,
    limit: float,
    vanishing: float,
) -> Survey:
    """`round_flat` (by `formats.rounding.rounded`) and the survey of what it did, while each tile is in the cache.

    Args:
        x: As for `round_flat`.
        out: As for `round_flat`.
        top: T.
        grid: As for `round_tiles`.
        keep_infinities: As for `round_tiles`.
        limit: As for `survey_rounded`.
        vanishing: The largest magnitude that is rounded to zero, half of the smallest value: a power of two.
    """
    return _survey(x, out, limit, (grid, largest_rounded(x, keep_infinities), top, vanishing))


def _survey(
    x: NDArray[Any],
    q: NDArray[Any],
    limit: float,
    rounding: tuple[NDArray[np.int64], int, int, float] | None = None,
) -> Survey:
    """The survey of q, which is made first where a grid, the largest magnitude's bits to round, T and what vanishes are
    given."""
    if not x.size:
        return Survey(0.0, 0, 0)
    tiling = cut_flat(x.size)
    counts = np.zeros((tiling[-1], COUNTS), np.int64)
    grid, passing, top, vanishing = rounding or (counts, 0, 0, 0.0)
    words = WORDS.pack(
        tiling=tiling,
        x=x,
        q=q,
        limit=_bits_of(limit, x.itemsize),
        counts=counts,
        rounds=rounding is not None,
        grid=grid,
        passing=passing,
        top=top,
        vanishing=_bits_of(vanishing, x.itemsize),
    )
    threads.run(_survey_tiles[x.itemsize], words, x.size)
    rows = counts.tolist()  # few, and Python's sums of a few are faster than numpy's
    value = _number_of(max(row[0] for row in rows), x.itemsize)
    _, broken, overflows, underflows = rows[0] if len(rows) == 1 else map(sum, zip(*rows, strict=True))
    return Survey(math.nan if broken else value, overflows, underflows)


_INTEGER, _FLOAT = {4: struct.Struct("i"), 8: struct.Struct("q")}, {4: struct.Struct("f"), 8: struct.Struct("d")}


@lru_cache(maxsize=1024)
def _bits_of(number: float, size: int) -> int:
    """Of the number in a float of so many bytes."""
    with np.errstate(over="ignore"):
        rounded = np.float32(number) if size == 4 else number
    return int(_INTEGER[size].unpack(_FLOAT[size].pack(rounded))[0])


def _number_of(bits: int, size: int) -> float:
    return float(_FLOAT[size].unpack(_INTEGER[size].pack(bits))[0])
