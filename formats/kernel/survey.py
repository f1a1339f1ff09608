"""What rounding did to a tensor, counted in one pass over it and its rounded values."""

from typing import Any, NamedTuple

import numpy as np
from numba import carray, njit, types
from numba.extending import overload
from numpy.typing import NDArray

from formats.kernel import threads
from formats.kernel.bits import INFINITY4, INFINITY8, MAGNITUDE4, MAGNITUDE8, i4, i8
from formats.kernel.memory import address_of, pointer4, pointer8
from formats.kernel.nearest import round_run
from formats.kernel.task import ANY, COLUMNS, TILE_COLUMNS, TILES, Task, flat, share

COUNTS = 4
"""Numbers that a tile gives: the largest finite rounded magnitude's bits, whether there is a NaN, overflows,
underflows."""


@njit(nogil=True)
def _survey4(x, q, limit):
    """Counts of a run of float32 bits. Every sum goes back to 32 bits, so that the loop becomes vector code."""
    largest, greatest, overflows, underflows = i4(0), i4(0), i4(0), i4(0)
    for i in range(x.size):
        a, b = i4(x[i] & i4(MAGNITUDE4)), i4(q[i] & i4(MAGNITUDE4))
        largest = max(largest, b if b < i4(INFINITY4) else i4(0))
        greatest = max(greatest, b)
        a = a if a <= i4(INFINITY4) else i4(0)
        overflows = i4(overflows + (i4(1) if a > limit else i4(0)))
        zero = a if b == i4(0) else i4(0)
        underflows = i4(underflows + (i4(1) if zero > i4(0) else i4(0)))
    return largest, i4(greatest > i4(INFINITY4)), overflows, underflows


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


def survey_of_run(x, q, limit):
    raise NotImplementedError("compiled code only")


@overload(survey_of_run)
def _choose(x, q, limit):
    if x.dtype == types.int32:
        return lambda x, q, limit: _survey4(x, q, i4(limit))
    return lambda x, q, limit: _survey8(x, q, limit)


@njit(nogil=True)
def _survey_of_tiles(w, x, q, out, grid):
    """Words after those of `flat`: q, the limit's bits, out (COUNTS numbers a tile), whether q is still to be rounded;
    grid, passing, T."""
    first, last = share(w)
    for tile in range(first, last):
        begin = tile * w[TILE_COLUMNS]
        end = min(begin + w[TILE_COLUMNS], w[COLUMNS])
        if w[13]:
            round_run(x[begin:end], q[begin:end], w[16], grid, w[15])
        largest, broken, overflows, underflows = survey_of_run(x[begin:end], q[begin:end], w[11])
        at = tile * COUNTS
        out[at], out[at + 1], out[at + 2], out[at + 3] = largest, broken, overflows, underflows


@Task
def _survey_tiles4(pointer):
    w = carray(pointer, (32,))
    x, q = carray(pointer4(w[7]), (ANY,)), carray(pointer4(w[10]), (ANY,))
    _survey_of_tiles(w, x, q, carray(pointer8(w[12]), (ANY,)), carray(pointer8(w[14]), (ANY,)))


@Task
def _survey_tiles8(pointer):
    w = carray(pointer, (32,))
    x, q = carray(pointer8(w[7]), (ANY,)), carray(pointer8(w[10]), (ANY,))
    _survey_of_tiles(w, x, q, carray(pointer8(w[12]), (ANY,)), carray(pointer8(w[14]), (ANY,)))


class Survey(NamedTuple):
    """What rounding did to an array.

    largest: the largest finite rounded magnitude; NaN where a rounded value is NaN. overflows: elements beyond the
    limit; infinite ones are beyond every finite one, NaN beyond none. underflows: nonzero elements that were rounded to
    zero.
    """

    largest: float
    overflows: int
    underflows: int


def survey(x: NDArray[Any], q: NDArray[Any], limit: float) -> Survey:
    """Compare an array with its rounded values. Both C-contiguous, of one shape and dtype, float32 or float64."""
    return _survey(x, q, limit, [0, 0, 0, 0])


def round_and_survey(
    x: NDArray[Any], out: NDArray[Any], top: int, grid: NDArray[np.int64], keep_infinities: bool, limit: float
) -> Survey:
    """`round_flat` and the survey of what it did, while each tile is in the cache."""
    passing = (INFINITY8 if x.itemsize == 8 else INFINITY4) - int(keep_infinities)
    return _survey(x, out, limit, [1, address_of(grid), passing, top])


def _survey(x: NDArray[Any], q: NDArray[Any], limit: float, rounding: list[int]) -> Survey:
    if not x.size:
        return Survey(0.0, 0, 0)
    wide = x.itemsize == 8
    words = flat(x)
    counts = np.zeros((words[TILES], COUNTS), np.int64)
    bound = int(np.array(limit, x.dtype).view(np.int64 if wide else np.int32))
    words += [address_of(q), bound, address_of(counts), *rounding]
    threads.run(_survey_tiles8 if wide else _survey_tiles4, words, x.size)
    largest = counts[:, 0].max()
    value = float(largest.view(np.float64) if wide else largest.astype(np.int32).view(np.float32))
    _, broken, overflows, underflows = (int(count) for count in counts.sum(0))
    return Survey(np.nan if broken else value, overflows, underflows)
