"""Values of a profile times a scale that is any float32 number: x / step is rounded, and the value times step is the
result.

The exact quotient decides. It is made a float32 number by rounding to odd: towards zero, and the last bit then says
whether anything was lost. Rounding that to fewer bits by at least two gives what rounding the quotient gives (S. Boldo,
G. Melquiond, "Emulation of a FMA and Correctly Rounded Sums", 2008), so the fast loops serve.
"""

import numpy as np
from numba import float32, float64, int64, njit
from numpy.typing import NDArray

from formats.kernel import threads
from formats.kernel.addition import round4
from formats.kernel.bits import INFINITY4, MAGNITUDE4, as_bits, as_float, i4, i8, largest_rounded, signed
from formats.kernel.exact import MODES, NEAREST, STOCHASTIC, TOWARD_ZERO, UP
from formats.kernel.grid import has_normal_steps, highest_bits
from formats.kernel.modes import mode4, powers
from formats.kernel.neighbours import reaches, weigh
from formats.kernel.philox import fill
from formats.kernel.threads import share_of_multiples, task
from formats.kernel.tiling import CHUNK, TILING, cut, strides
from formats.kernel.words import NUMBER, UNSIGNED, Words
from formats.rounding import ModeChoice

HALF_OF_POWER = np.float32(2.0**-24)
"""What makes half a step of the power that is added."""
KEEPS_SIGN = 2.0**200
"""What makes a float32 number other than zero of every remainder, infinities included."""


@njit(nogil=True, error_model="numpy")  # a division that raises is none of vectors
def _to_odd(x, steps, quotient):
    """Bits of x / step rounded to odd, element by element."""
    for i in range(x.size):
        bits = as_bits(np.float32(x[i] / steps[i]))
        # Exact: the product has 48 bits, and what remains of a quotient to nearest is a float64. All that matters is
        # its sign.
        rest = np.float64(x[i]) - np.float64(as_float(bits)) * np.float64(steps[i])
        sign = np.float32(rest * KEEPS_SIGN)
        lost = i4(-i4(sign != np.float32(0)))
        away = i4(i4(as_bits(sign) ^ bits) >> i4(31))
        # Where it was rounded away from zero, one back; then odd. A finite number's infinite quotient becomes the
        # largest finite one.
        odd = i4(i4(bits + i4(away & lost)) | i4(lost & i4(1)))
        u = as_bits(x[i])
        quotient[i] = u if i4(u & i4(MAGNITUDE4)) >= i4(INFINITY4) else odd


@njit(nogil=True)
def _times(values, steps, out):
    for i in range(values.size):
        out[i] = as_float(values[i]) * steps[i]


# Rounded to float32, a quotient lies on the same side of every tie and of every value as the exact one, or on it. So
# that is enough, and quicker, where nothing lies on one; the functions below say whether something does.


@njit(nogil=True, error_model="numpy")
def _quotients(x, steps, quotient):
    """Bits of |x| / step, rounded to nearest."""
    for i in range(x.size):
        quotient[i] = as_bits(np.float32(abs(x[i]) / steps[i]))


@njit(nogil=True)
def _nearest(x, steps, out, clamped, power, passing):
    """x / step to nearest, times step, of what `powers` has made of quotients. Returns how many lie on a tie."""
    ties = i4(0)
    for i in range(x.size):
        c, big = as_float(clamped[i]), as_float(power[i])
        y = np.float32(np.float32(c + big) - big)
        ties += i4(abs(np.float32(c - y)) == np.float32(big * HALF_OF_POWER))
        out[i] = as_float(signed(np.float32(y * steps[i]), as_bits(x[i]), passing))
    return ties


@njit(nogil=True)
def _values_around(x, steps, low, high, clamped, power, highest):
    """The values at or below |x| and above it. Returns how many are too high, since x is just below a value."""
    above = i4(0)
    for i in range(x.size):
        c = clamped[i]
        drop = i4(i4(power[i] - max(i4(c & i4(INFINITY4)), i4(1 << 23))) >> i4(23))
        step = i4(i4(1) << i4(drop & i4(31)))
        under = i4(c & i4(-step))
        over = min(i4(under + step), highest)
        if drop > i4(23):  # between zero and the smallest
            under, over = i4(0), i4(power[i] - i4(23 << 23))
        low[i], high[i] = np.float32(as_float(under) * steps[i]), np.float32(as_float(over) * steps[i])
        above += i4(low[i] > abs(x[i]))
    return above


@njit(nogil=True)
def _spread(steps, w, first, each):
    """The step of each element from `first` on, of rows of tiles."""
    i = i8(0)
    row, place = first // w.columns, first % w.columns
    while i < each.size:
        own = steps[row // w.rows * w.steps_batch + row % w.rows // w.tile_rows * w.steps_down :]
        last = min(i + w.columns - place, each.size)
        if w.tile_columns == 1:
            each[i:last] = own[place : place + last - i]
            i = last
        while i < last:
            k = place // w.tile_columns
            end = min(i + (k + 1) * w.tile_columns - place, last)
            each[i:end] = own[k]
            i, place = end, (k + 1) * w.tile_columns
        row, place = row + 1, i8(0)


@njit(nogil=True)
def _draw(x, out, low, high, random, passing):
    """One of two values around each |x|, at random; out: no memory of x's."""
    doubtful = i4(0)
    for i in range(x.size):
        a = abs(x[i])
        given, needed, clear = weigh(np.float64(a), np.float64(low[i]), np.float64(high[i]), random[i])
        doubtful += i4(low[i] < a and low[i] < high[i] and not clear)
        out[i] = as_float(signed(high[i] if given > needed else low[i], as_bits(x[i]), passing))
    if doubtful:
        for i in range(x.size):
            a, under, over = np.float64(abs(x[i])), np.float64(low[i]), np.float64(high[i])
            goes = under < a and under < over and reaches(a, under, over, random[i])
            out[i] = as_float(signed(high[i] if goes else low[i], as_bits(x[i]), passing))


WORDS = Words(
    elements=NUMBER,
    x=float32[::1],
    out=float32[::1],
    steps=float64[::1],
    steps_strides="steps_batch steps_down",
    tiling=TILING,
    top=NUMBER,
    grid=int64[::1],
    passing=NUMBER,
    mode=NUMBER,
    between=NUMBER,
    seed=UNSIGNED,
    stream=UNSIGNED,
)


@task(WORDS)
def _round_scaled(w):
    x, out, steps, grid, mode = w.x, w.out, w.steps, w.grid, w.mode
    first, last = share_of_multiples(w.elements, CHUNK)
    clamped, power = np.empty(CHUNK, np.int32), np.empty(CHUNK, np.int32)
    random, each = np.zeros(CHUNK, np.uint32), np.empty(CHUNK, np.float32)
    quotients, values = np.empty(CHUNK, np.int32), np.empty(CHUNK, np.int32)
    low, high = np.empty(CHUNK, np.float32), np.empty(CHUNK, np.float32)
    field, passing = w.top + 127, i4(w.passing)
    fast, highest = has_normal_steps(grid, field) and (w.between or mode == NEAREST), highest_bits(grid, field)
    if w.tiles == 1:
        each[:] = steps[0]
    for at in range(first, last, CHUNK):
        count = min(CHUNK, last - at)
        own, to, quotient = x[at : at + count], out[at : at + count], quotients[:count]
        if w.tiles > 1:
            _spread(steps, w, at, each[:count])
        doubtful = i4(1)
        if fast:
            _quotients(own, each, quotient)
            powers(quotient, clamped, power, highest, grid, field)
            if w.between:
                doubtful = _values_around(own, each, low, high, clamped, power, highest)
            else:
                doubtful = _nearest(own, each, to, clamped, power, passing)
        if doubtful:
            _to_odd(own, each, quotient)
        if w.between:
            if doubtful:
                for i in range(count):
                    quotient[i] &= i4(MAGNITUDE4)
                mode4(quotient, values, own, w.top, grid, w.passing, TOWARD_ZERO, random, clamped, power)
                _times(values[:count], each, low)
                mode4(quotient, values, own, w.top, grid, w.passing, UP, random, clamped, power)
                _times(values[:count], each, high)
            fill(random[: (count + 3) // 4 * 4], at // 4, w.seed, w.stream)
            _draw(own, to, low, high, random, passing)
        elif doubtful:
            if mode == NEAREST:
                round4(quotient, values, w.top, grid, w.passing)
            else:
                if mode == STOCHASTIC:
                    fill(random[: (count + 3) // 4 * 4], at // 4, w.seed, w.stream)
                mode4(quotient, values, own, w.top, grid, w.passing, mode, random, clamped, power)
            _times(values[:count], each, to)


def round_scaled(
    x: NDArray[np.float32],
    out: NDArray[np.float32],
    steps: NDArray[np.float64],
    tile: tuple[int, int],
    top: int,
    grid: NDArray[np.int64],
    keep_infinities: bool,
    mode: ModeChoice,
    between: bool,
) -> None:
    """Round x / step to the values at `top` by `formats.rounding.rounded`, times step, into out; NaN stays.

    Args:
        x: float32 of shape (batch, rows, columns), C-contiguous.
        out: The same.
        steps: Positive float32 numbers, as float64 of shape (batch, tiles down, tiles across), with unit stride across.
        tile: Rows and columns that share a step.
        top: Such that values are normal float32 numbers of at most 22 bits.
        grid: As for `round_tiles`.
        keep_infinities: As for `round_tiles`.
        mode: Any but hysteresis; random numbers go by an element's place.
        between: Of stochastic rounding: whether it chooses between the two values around x, else between those around
            the quotient; out is then no memory of x's.
    """
    if not x.size:
        return
    words = WORDS.pack(
        elements=x.size,
        x=x,
        out=out,
        steps=steps,
        steps_strides=strides(steps)[:2],
        tiling=cut(x, tile, steps.shape),
        top=top,
        grid=grid,
        passing=largest_rounded(x, keep_infinities),
        mode=MODES[mode.rounding],
        between=int(between),
        seed=mode.seed,
        stream=mode.stream,
    )
    threads.run(_round_scaled, words, x.size)
