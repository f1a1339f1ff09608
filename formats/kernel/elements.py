"""The eight magnitudes of E2M1 times scales that are products: to nearest and stochastic rounding of float32 numbers in
NVFP4.

A tie between two elements, times a scale, is a float64 number, as is a value before it is rounded to float32; so
comparing decides everything, and no number is divided (formats/kinds/nvfp4.py says why that is exact). For each tile
the smallest float32 number that becomes each element is found once, and so are the values: what is left for each
element are comparisons of float32 numbers.
"""

import numpy as np
from numba import float64, int32, int64, njit
from numpy.typing import NDArray

from formats.kernel import threads
from formats.kernel.bits import INFINITY4, MAGNITUDE4, as_bits, as_float, i4, i8, signed
from formats.kernel.exact import MODES, NEAREST
from formats.kernel.largest import stretch_at, stretches_of
from formats.kernel.neighbours import reaches, weigh
from formats.kernel.philox import fill
from formats.kernel.threads import share, task
from formats.kernel.tiling import TILING, cut
from formats.kernel.words import NUMBER, UNSIGNED, Words
from formats.rounding import ModeChoice

ELEMENTS = 8
"""How many magnitudes there are, zero first."""
SIDE = 16
"""The usual length of a block."""


@njit(nogil=True)
def _find_values(scales, elements, values):
    """Each element times each tile's scale, rounded to float32; values: (elements, tiles)."""
    for t in range(ELEMENTS):
        for k in range(scales.size):
            values[t, k] = np.float32(elements[t] * scales[k])


@njit(nogil=True)
def _find_limits(scales, ties, up, limits):
    """The smallest float32 number that goes to element t + 1 or a larger one, in row t + 1; (elements, tiles)."""
    for t in range(ELEMENTS - 1):
        strict = up[t] == 0
        for k in range(scales.size):
            tie = ties[t] * scales[k]
            limit = np.float32(tie)
            below = np.float64(limit) <= tie if strict else np.float64(limit) < tie
            limits[t + 1, k] = as_float(i4(as_bits(limit) + i4(below)))


@njit(nogil=True, inline="always")
def _chosen(a, l1, l2, l3, l4, l5, l6, l7, v0, v1, v2, v3, v4, v5, v6, v7):
    """The value of the last limit that a reaches; v0 below all, and for NaN."""
    y = v1 if a >= l1 else v0
    y = v2 if a >= l2 else y
    y = v3 if a >= l3 else y
    y = v4 if a >= l4 else y
    y = v5 if a >= l5 else y
    y = v6 if a >= l6 else y
    return v7 if a >= l7 else y


@njit(nogil=True, inline="always")
def _nearest(x, out, width, at, limits, values, passing):
    """Round the first `width` numbers, all with the scale of tile `at`."""
    l1, l2, l3, l4 = limits[1, at], limits[2, at], limits[3, at], limits[4, at]
    l5, l6, l7 = limits[5, at], limits[6, at], limits[7, at]
    v0, v1, v2, v3 = values[0, at], values[1, at], values[2, at], values[3, at]
    v4, v5, v6, v7 = values[4, at], values[5, at], values[6, at], values[7, at]
    for i in range(np.uint64(width)):
        u = x[i]
        a = as_float(i4(u & i4(MAGNITUDE4)))
        out[i] = signed(_chosen(a, l1, l2, l3, l4, l5, l6, l7, v0, v1, v2, v3, v4, v5, v6, v7), u, passing)


@njit(nogil=True)
def _nearest_in_columns(x, out, limits, values, passing):
    """Round numbers each of which has the scale of its column."""
    l1, l2, l3, l4, l5, l6, l7 = limits[1], limits[2], limits[3], limits[4], limits[5], limits[6], limits[7]
    v0, v1, v2, v3 = values[0], values[1], values[2], values[3]
    v4, v5, v6, v7 = values[4], values[5], values[6], values[7]
    for i in range(x.size):
        u = x[i]
        a = as_float(i4(u & i4(MAGNITUDE4)))
        y = _chosen(
            a, l1[i], l2[i], l3[i], l4[i], l5[i], l6[i], l7[i], v0[i], v1[i], v2[i], v3[i], v4[i], v5[i], v6[i], v7[i]
        )
        out[i] = signed(y, u, passing)


@njit(nogil=True, inline="always")
def _drawn(x, out, width, at, values, random, passing):
    """Round the first `width` numbers stochastically, all with the scale of tile `at`. Returns how many are so close to
    their random number that float64 does not tell."""
    v0, v1, v2, v3 = values[0, at], values[1, at], values[2, at], values[3, at]
    v4, v5, v6, v7 = values[4, at], values[5, at], values[6, at], values[7, at]
    doubtful = i4(0)
    for i in range(np.uint64(width)):
        u = x[i]
        a = as_float(i4(u & i4(MAGNITUDE4)))
        low = _chosen(a, v1, v2, v3, v4, v5, v6, v7, v0, v1, v2, v3, v4, v5, v6, v7)
        high = _chosen(a, v1, v2, v3, v4, v5, v6, v7, v1, v2, v3, v4, v5, v6, v7, v7)
        given, needed, clear = weigh(np.float64(a), np.float64(low), np.float64(high), random[i])
        doubtful += i4(low < a and low < high and not clear)
        out[i] = signed(high if given > needed else low, u, passing)
    return doubtful


@njit(nogil=True)
def _drawn_one_by_one(x, out, width, at, values, random, passing):
    """The same, with all the bits that it takes."""
    for i in range(width):
        u = x[i]
        a = as_float(i4(u & i4(MAGNITUDE4)))
        low = high = values[0, at]
        for t in range(ELEMENTS):
            if a >= values[t, at]:
                low, high = values[t, at], values[min(t + 1, ELEMENTS - 1), at]
        goes = low < a and low < high and reaches(np.float64(a), np.float64(low), np.float64(high), random[i])
        out[i] = signed(high if goes else low, u, passing)


WORDS = Words(
    tiling=TILING,
    x=int32[::1],
    out=int32[::1],
    stretch=NUMBER,
    stretches=NUMBER,
    scales=float64[::1],
    magnitudes=float64[::1],
    ties=float64[::1],
    up=int64[::1],
    passing=NUMBER,
    mode=NUMBER,
    seed=UNSIGNED,
    stream=UNSIGNED,
)


@njit(nogil=True)
def _row(x, out, w, limits, values, random):
    """Round a row of a stretch of tiles."""
    passing, width = i4(w.passing), w.tile_columns
    if w.mode == NEAREST and width == 1:
        _nearest_in_columns(x, out, limits, values, passing)
        return
    for k in range(-(-x.size // width)):
        first = k * width
        count = min(width, x.size - first)
        own, to = x[first:], out[first:]
        if w.mode == NEAREST:
            if count == SIDE:
                _nearest(own, to, SIDE, k, limits, values, passing)
            else:
                _nearest(own, to, count, k, limits, values, passing)
        else:
            if count == SIDE:
                doubtful = _drawn(own, to, SIDE, k, values, random[first:], passing)
            else:
                doubtful = _drawn(own, to, count, k, values, random[first:], passing)
            if doubtful:
                _drawn_one_by_one(own, to, count, k, values, random[first:], passing)


@task(WORDS)
def _round_elements(w):
    x, out = w.x, w.out
    limits, values = np.empty((ELEMENTS, w.stretch), np.float32), np.empty((ELEMENTS, w.stretch), np.float32)
    random = np.zeros(0 if w.mode == NEAREST else w.stretch * w.tile_columns + 8, np.uint32)
    first, last = share(w.stretches * (w.tiles // w.across))
    for unit in range(first, last):
        batch, down, at, tiles, column, width = stretch_at(w, unit)
        scales = w.scales[at : at + tiles]
        _find_values(scales, w.magnitudes, values)
        if w.mode == NEAREST:
            _find_limits(scales, w.ties, w.up, limits)
        for r in range(down * w.tile_rows, min((down + 1) * w.tile_rows, w.rows)):
            place = (batch * w.rows + r) * w.columns + column
            skip = i8(0)
            if w.mode != NEAREST:
                skip = place % 4
                fill(random[: (width + skip + 3) // 4 * 4], place // 4, w.seed, w.stream)
            _row(x[place : place + width], out[place : place + width], w, limits, values, random[skip:])


def round_elements(
    x: NDArray[np.float32],
    out: NDArray[np.float32],
    scales: NDArray[np.float64],
    tile: tuple[int, int],
    elements: NDArray[np.float64],
    ties: NDArray[np.float64],
    up: NDArray[np.bool_],
    keep_infinities: bool,
    mode: ModeChoice,
) -> None:
    """Each number to an element times its scale, by `formats.rounding.rounded` of their quotient, rounded to float32,
    into out; NaN stays.

    Args:
        x: float32 of shape (batch, rows, columns), C-contiguous.
        out: The same; shares no memory with x.
        scales: Nonnegative, such that products with elements and ties are exact; float64 of shape (batch, tiles down,
            tiles across), C-contiguous.
        tile: Rows and columns that share a scale.
        elements: Eight magnitudes, ascending, zero first.
        ties: Their midpoints.
        up: Whether a tie goes to the upper of the two.
        keep_infinities: Else they saturate.
        mode: To nearest or stochastic, with random numbers by an element's place.
    """
    if not x.size:
        return
    if tile[0] == 1 and x.shape[2] % tile[1] == 0:
        # Lines of whole blocks lie one after the other: one long line instead of many short ones.
        x, out, scales = (each.reshape(1, 1, -1) for each in (x, out, scales))
    stretch, stretches = stretches_of(tile, scales.shape)
    words = WORDS.pack(
        tiling=cut(x, tile, scales.shape),
        x=x,
        out=out,
        stretch=stretch,
        stretches=stretches,
        scales=scales,
        magnitudes=elements,
        ties=ties,
        up=up.astype(np.int64),
        passing=INFINITY4 - int(keep_infinities),
        mode=MODES[mode.rounding],
        seed=mode.seed,
        stream=mode.stream,
    )
    threads.run(_round_elements, words, x.size)
