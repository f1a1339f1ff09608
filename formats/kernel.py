"""The loops that round: float32 and float64 of any bits, one loop for every profile.

The definition that they follow is in formats.md, section 3; tests/formats/reference.py holds a slow one that shares
nothing with this file.

How the fast loop works. Adding a power of two, 2^23 times the step, to a magnitude below it makes the processor round the magnitude to a
multiple of that step, to nearest with ties to the even multiple; subtracting it again is exact. So rounding is: clamp to the largest
value, find the step of the binade from the exponent bits, add, subtract, put the sign back. This is exact wherever
the sums are normal numbers, and it goes to zero below the smallest value as the definition asks, since the step there is that value.

Going down, a gradual-underflow tail loses one bit a binade, so its step stays the same: the exponent is just not taken below where
the tail begins. Going up from there, each change of precision shifts the step from that binade on; up to two changes (all
of the catalogue) are two comparisons, and others are looked up in four words of eight four-bit precisions each. Nothing is looked
up in memory, and the loops compile to vector instructions.

The exact loop does the same step by step in 64-bit integers: for float64, for float32 where values are subnormal or close to
overflow, and for profiles that fit neither way.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, cfunc, njit, types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from formats import threads
from formats.arrays import address_of
from formats.philox import fill, one
from formats.profile import Profile
from formats.rounding import Rounding
from formats.threads import thread_count, thread_number

_i4 = np.int32
_i8 = np.int64

# A row that describes a grid, independent of T: binades, largest magnitude as a multiple of the top step, which loop, the exponent bias of the
# largest power of two to add, where the tail begins and 24 less its precision, where precision changes and by how much, twice,
# the exponent bias of the smallest power to add, four words of precisions, the profile, and for each of its binades the magnitude index of the first value.
BINADES, LARGEST, LOOP, BIGGEST, TAIL, TAIL_SHIFT, CHANGE1, DELTA1, CHANGE2, DELTA2, SMALLEST, WORDS, PROFILE = (*range(12), 15)
EXACT_LOOP, CHANGES_LOOP, WORDS_LOOP = 0, 1, 2
WORDS_BINADES, WORDS_PRECISION = 32, 15
SIGN4, MAGNITUDE4, INFINITY4 = -(1 << 31), (1 << 31) - 1, 0x7F800000
SIGN8, MAGNITUDE8, INFINITY8 = -(1 << 63), (1 << 63) - 1, 0x7FF0000000000000
NEVER = -1000
"""A binade so far up that no float32 lies in it."""


def _words(extended: Profile) -> list[int]:
    """Precisions, four bits a binade, counted from the binade below the bottom one (which keeps 0)."""
    upward = extended[::-1]
    words = [0, 0, 0, 0]
    for j in range(WORDS_BINADES):
        words[j // 8] |= upward[min(j, len(upward) - 1)] << (4 * (j % 8))
    return [word - (1 << 32) if word >> 31 else word for word in words]


@lru_cache(maxsize=4096)
def describe(profile: Profile, largest: int) -> NDArray[np.int64]:
    """The grid as the loops read it; `largest` is the largest magnitude as a multiple of the top binade's step."""
    extended = (*profile, 0)  # below the smallest value the step is that value, as if no bit were kept there
    tail = len(profile)
    while tail and extended[tail - 1] == len(profile) - tail + 1:
        tail -= 1
    changes = [(d, extended[d + 1] - extended[d]) for d in range(tail) if extended[d] != extended[d + 1]]
    loop, words = EXACT_LOOP, [0] * 4
    if len(changes) <= 2:
        loop = CHANGES_LOOP
    elif max(profile) <= WORDS_PRECISION and len(set(extended[::-1][WORDS_BINADES - 1 :])) <= 1:
        loop, words = WORDS_LOOP, _words(extended)
    biases = [24 - p - d for d, p in enumerate(extended)]
    (change1, delta1), (change2, delta2) = (changes + [(NEVER, 0)] * 2)[:2]
    head = [len(profile), largest, loop, max(biases), tail, 24 - extended[tail], change1, delta1, change2, delta2, min(biases)]
    below = [1 + sum(1 << (p - 1) for p in profile[d + 1 :]) for d in range(len(profile))]
    return np.array([*head, *words, *profile, *below], np.int64)


def _pointer_maker(item: Any, kind: Any) -> Any:
    """A function for compiled code that takes an address as a pointer to `item`."""

    @intrinsic
    def pointer(typing_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], kind.as_pointer())

        return types.CPointer(item)(types.int64), generate

    return pointer


_pointer4 = _pointer_maker(types.int32, ir.IntType(32))
_pointer8 = _pointer_maker(types.int64, ir.IntType(64))
_pointer_byte = _pointer_maker(types.uint8, ir.IntType(8))
_pointer_short = _pointer_maker(types.uint16, ir.IntType(16))
_pointer_float = _pointer_maker(types.float32, ir.FloatType())
_pointer_double = _pointer_maker(types.float64, ir.DoubleType())


@intrinsic
def _as_float(typing_context: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@intrinsic
def _as_double(typing_context: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), generate


@intrinsic
def _as_bits(typing_context: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


@njit(nogil=True, inline="always")
def _finish(u, a, c, power, passing):
    """Bits of the clamped magnitude c rounded by adding `power`; a itself above `passing`; the sign of u."""
    big = _as_float(power)
    y = _as_bits(np.float32(np.float32(_as_float(c) + big) - big))
    y = a if a > passing else y
    return _i4(y | _i4(u & _i4(SIGN4)))


@njit(nogil=True)
def _run_changes(x, out, highest, passing, tail, shift, change1, delta1, change2, delta2):
    for i in range(x.size):
        u = x[i]
        a = _i4(u & _i4(MAGNITUDE4))
        c = min(a, highest)
        power = _i4(max(_i4(c & _i4(INFINITY4)), tail) + shift)
        power = _i4(power + (delta1 if c >= change1 else _i4(0)))
        power = _i4(power + (delta2 if c >= change2 else _i4(0)))
        out[i] = _finish(u, a, c, power, passing)


@njit(nogil=True)
def _run_words(x, out, highest, passing, bottom, w0, w1, w2, w3):
    for i in range(x.size):
        u = x[i]
        a = _i4(u & _i4(MAGNITUDE4))
        c = min(a, highest)
        field = max(_i4(c >> _i4(23)), bottom)
        j = min(_i4(field - bottom), _i4(31))
        word = w1 if j >= _i4(8) else w0
        word = w2 if j >= _i4(16) else word
        word = w3 if j >= _i4(24) else word
        kept = _i4(_i4(word >> _i4(_i4(j << _i4(2)) & _i4(31))) & _i4(15))
        power = _i4(_i4(_i4(field + _i4(24)) - kept) << _i4(23))
        out[i] = _finish(u, a, c, power, passing)


@njit(nogil=True, inline="always")
def _is_fast(grid, first):
    """Whether all values and powers to add are normal numbers when the top binade has this exponent field."""
    return grid[LOOP] != EXACT_LOOP and first - grid[BINADES] >= 0 and first + grid[BIGGEST] <= 254


@njit(nogil=True, inline="always")
def _highest(grid, first):
    """Bits of the largest value."""
    return _i4(((first - 1) << 23) + (grid[LARGEST] << (24 - grid[PROFILE])))


@njit(nogil=True, inline="always")
def _changes(grid, first):
    """What the loop of changes takes, as bits: the tail and its shift, and twice where a change begins and its amount."""
    change1 = _i4(min((first - grid[CHANGE1]), 255) << 23)
    change2 = _i4(min((first - grid[CHANGE2]), 255) << 23)
    tail, shift = _i4((first - grid[TAIL]) << 23), _i4(grid[TAIL_SHIFT] << 23)
    return tail, shift, change1, _i4(grid[DELTA1] << 23), change2, _i4(grid[DELTA2] << 23)


@njit(nogil=True, inline="always")
def _compose(multiple, exponent, fraction_bits, bias):
    """Magnitude bits of multiple * 2^exponent, which is a number of the floating type."""
    if multiple == 0:
        return _i8(0)
    lead = _i8(0)
    while multiple >> (lead + 1):
        lead += 1
    field = lead + exponent + bias
    if field <= 0:
        return multiple << (exponent + bias - 1 + fraction_bits)
    return (field << fraction_bits) + ((multiple << (fraction_bits - lead)) - (_i8(1) << fraction_bits))


# Rounding modes as the loops know them, and words of what a mode needs beside x.
NEAREST, NEAREST_AWAY, TOWARD_ZERO, UP, DOWN, STOCHASTIC, HYSTERESIS = range(7)
MODES = {mode: number for number, mode in enumerate(Rounding)}


@njit(nogil=True, inline="always")
def _upward(mode, multiple, rest, drop, negative, random, above):
    """Whether a magnitude of `multiple` steps and a rest > 0, of `drop` bits, goes to the next multiple.

    random: the element's 32-bit number. above: hysteresis' "the previous value is above x".
    """
    if mode == STOCHASTIC:
        return random < (rest >> (drop - 32) if drop > 32 else rest << (32 - drop))
    if mode == TOWARD_ZERO:
        return False
    if mode == UP:
        return not negative
    if mode == DOWN:
        return negative
    if mode == HYSTERESIS:
        return above != negative
    half = _i8(1) << (drop - 1)
    return rest > half or (rest == half and (mode == NEAREST_AWAY or multiple & 1))


@njit(nogil=True)
def _exact(a, top, grid, fraction_bits, bias, mode, negative, random, above):
    """Magnitude bits of what the finite or infinite magnitude with bits a becomes, in 64-bit integers."""
    field = a >> fraction_bits
    significand = a & ((_i8(1) << fraction_bits) - 1)
    if field == 0:
        field = _i8(1)
    else:
        significand |= _i8(1) << fraction_bits
    if significand == 0:
        return _i8(0)
    lead = _i8(0)
    while significand >> (lead + 1):
        lead += 1
    unit = field - bias - fraction_bits  # the magnitude is significand * 2^unit
    top_unit = top - grid[PROFILE] + 1
    d = top - (lead + unit)
    if d < 0:
        return _compose(grid[LARGEST], top_unit, fraction_bits, bias)
    binades = grid[BINADES]
    # Below the smallest value the local step is that value.
    exponent = top - binades + 1 if d >= binades else top - d - grid[PROFILE + d] + 1
    drop = exponent - unit
    if drop <= 0:
        multiple, exponent = significand, unit
    else:
        kept = min(drop, 62)  # a 53-bit significand is gone long before
        multiple = significand >> kept
        rest = significand - (multiple << kept)
        if d == 0 and multiple >= grid[LARGEST]:
            multiple = grid[LARGEST]
        elif rest and drop > 62:
            # Less than 2^-9 steps: only the directed modes and hysteresis move it, and stochastic rounding where its 32 bits are left.
            shift = drop - 32
            chance = rest >> shift if shift < 63 else _i8(0)
            directed = mode in (UP, DOWN, HYSTERESIS) and _upward(mode, multiple, rest, kept, negative, random, above)
            multiple += _i8(directed or (mode == STOCHASTIC and random < chance))
        elif rest:
            multiple += _i8(_upward(mode, multiple, rest, drop, negative, random, above))
    if d == 0 and drop <= 0:
        # A finer number than the format's: it may still lie beyond the largest.
        behind = exponent - top_unit
        scaled = multiple << behind if behind >= 0 else multiple >> -behind
        if scaled >= grid[LARGEST]:
            return _compose(grid[LARGEST], top_unit, fraction_bits, bias)
    return _compose(multiple, exponent, fraction_bits, bias)


@njit(nogil=True)
def _round4(x, out, top, grid, passing):
    """Round a run of float32 bits whose scale is `top` to nearest."""
    first = top + 127  # the exponent field of the top binade
    if _is_fast(grid, first):
        highest = _highest(grid, first)
        if grid[LOOP] == CHANGES_LOOP:
            tail, shift, change1, delta1, change2, delta2 = _changes(grid, first)
            _run_changes(x, out, highest, _i4(passing), tail, shift, change1, delta1, change2, delta2)
        else:
            w0, w1, w2, w3 = _i4(grid[WORDS]), _i4(grid[WORDS + 1]), _i4(grid[WORDS + 2]), _i4(grid[WORDS + 3])
            _run_words(x, out, highest, _i4(passing), _i4(first - grid[BINADES]), w0, w1, w2, w3)
        return
    for i in range(x.size):
        a = _i8(x[i] & _i4(MAGNITUDE4))
        y = a if a > passing else _exact(a, top, grid, 23, 127, NEAREST, False, _i8(0), False)
        out[i] = _i4(y) | (x[i] & _i4(SIGN4))


@njit(nogil=True)
def _round8(x, out, top, grid, passing):
    """Round a run of float64 bits whose scale is `top` to nearest."""
    for i in range(x.size):
        a = x[i] & _i8(MAGNITUDE8)
        y = a if a > passing else _exact(a, top, grid, 52, 1023, NEAREST, False, _i8(0), False)
        out[i] = y | (x[i] & _i8(SIGN8))


CHUNK = 1024
"""Elements whose steps and random numbers are kept at a time, so that they stay in the first-level cache."""


@njit(nogil=True)
def _powers(x, power, highest, grid, first):
    """The bits of 2^23 times the local step of each element of float32 bits x."""
    if grid[LOOP] == CHANGES_LOOP:
        tail, shift, change1, delta1, change2, delta2 = _changes(grid, first)
        for i in range(x.size):
            c = min(_i4(x[i] & _i4(MAGNITUDE4)), highest)
            bits = _i4(max(_i4(c & _i4(INFINITY4)), tail) + shift)
            bits = _i4(bits + (delta1 if c >= change1 else _i4(0)))
            power[i] = _i4(bits + (delta2 if c >= change2 else _i4(0)))
        return
    bottom = first - grid[BINADES]
    for i in range(x.size):
        c = min(_i4(x[i] & _i4(MAGNITUDE4)), highest)
        field = max(_i8(c >> _i4(23)), bottom)
        j = min(field - bottom, WORDS_BINADES - 1)
        power[i] = _i4((field + 24 - (grid[WORDS + j // 8] >> (4 * (j % 8)) & 15)) << 23)


@njit(nogil=True, inline="always")
def _directed4(u, highest, power, passing, mode, random, above):
    """Float32 bits u rounded in a mode other than nearest; `power` as `_powers` finds it."""
    a = _i4(u & _i4(MAGNITUDE4))
    c = min(a, highest)
    negative = u < _i4(0)
    field = _i4(c >> _i4(23))
    significand = _i4(_i4(c & _i4(0x7FFFFF)) | (_i4(0x800000) if field > _i4(0) else _i4(0)))
    drop = _i4(_i4(power >> _i4(23)) - max(field, _i4(1)))
    kept = min(drop, _i4(31))
    multiple = _i4(significand >> kept)
    rest = _i4(significand - _i4(multiple << kept))
    if mode == STOCHASTIC:
        wide = np.uint32(rest)
        chance = np.uint32(wide << np.uint32(max(_i4(32) - drop, _i4(0)) & _i4(31)))
        if drop > _i4(32):
            chance = np.uint32(wide >> np.uint32(min(_i4(drop - _i4(32)), _i4(31))))
        up = random < chance
    elif mode == NEAREST_AWAY:
        up = drop <= _i4(24) and _i4(rest << _i4(1)) >= _i4(_i4(1) << kept)
    elif mode == UP:
        up = rest > _i4(0) and not negative
    elif mode == DOWN:
        up = rest > _i4(0) and negative
    elif mode == HYSTERESIS:
        up = rest > _i4(0) and above != negative
    else:
        up = False
    step = _as_float(_i4(power - _i4(23 << 23)))
    y = _as_bits(np.float32(np.float32(_i4(multiple + _i4(up))) * step))
    y = a if a > passing else y
    return _i4(y | _i4(u & _i4(SIGN4)))


@njit(nogil=True)
def _mode4(x, out, previous, top, grid, passing, mode, random, power):
    """Round at most CHUNK float32 bits; random: a number for each; previous: float32, read by hysteresis alone."""
    first = top + 127
    if _is_fast(grid, first) and first + grid[SMALLEST] >= 24:  # the steps themselves are normal numbers as well
        highest = _highest(grid, first)
        _powers(x, power, highest, grid, first)
        if mode == HYSTERESIS:
            for i in range(x.size):
                above = previous[i] > _as_float(x[i])
                out[i] = _directed4(x[i], highest, power[i], _i4(passing), HYSTERESIS, np.uint32(0), above)
        elif mode == STOCHASTIC:
            for i in range(x.size):
                out[i] = _directed4(x[i], highest, power[i], _i4(passing), STOCHASTIC, random[i], False)
        else:
            for i in range(x.size):
                out[i] = _directed4(x[i], highest, power[i], _i4(passing), mode, np.uint32(0), False)
        return
    for i in range(x.size):
        a = _i8(x[i] & _i4(MAGNITUDE4))
        above = mode == HYSTERESIS and previous[i] > _as_float(x[i])
        y = a if a > passing else _exact(a, top, grid, 23, 127, mode, x[i] < 0, _i8(random[i]), above)
        out[i] = _i4(y) | (x[i] & _i4(SIGN4))


@njit(nogil=True)
def _mode8(x, out, previous, top, grid, passing, mode, random, power):
    """The same for float64 bits."""
    for i in range(x.size):
        a = x[i] & _i8(MAGNITUDE8)
        above = mode == HYSTERESIS and previous[i] > _as_double(x[i])
        y = a if a > passing else _exact(a, top, grid, 52, 1023, mode, x[i] < 0, _i8(random[i]), above)
        out[i] = y | (x[i] & _i8(SIGN8))


@njit(nogil=True)
def _largest4(x):
    """The largest finite magnitude's bits of a run of float32."""
    largest = _i4(0)
    for i in range(x.size):
        a = _i4(x[i] & _i4(MAGNITUDE4))
        a = a if a < _i4(INFINITY4) else _i4(0)
        largest = max(largest, a)
    return largest


@njit(nogil=True)
def _largest8(x):
    """The largest finite magnitude's bits of a run of float64."""
    largest = _i8(0)
    for i in range(x.size):
        a = x[i] & _i8(MAGNITUDE8)
        a = a if a < _i8(INFINITY8) else _i8(0)
        largest = max(largest, a)
    return largest


@njit(nogil=True)
def _index4(y, codes, top, grid, half, wrap):
    """Codes of float32 bits y that are values of the format: magnitude index, plus `half` or taken from `wrap` where negative.

    Where steps are equal (the tail) the index is the number of steps; where precision is constant it grows with the bits themselves.
    """
    first = top + 127
    if not (_is_fast(grid, first) and grid[LOOP] == CHANGES_LOOP):
        _index_slowly(y, codes, top, grid, half, wrap)
        return
    tail, binades = grid[TAIL], grid[BINADES]
    per_step = np.float32(2.0 ** float(binades - 1 - top))
    bounds, shifts, starts = np.empty(3, np.int32), np.empty(3, np.int32), np.empty(3, np.int32)
    # From the tail up: binades of the tail's precision, those above the lower change, those above the upper one.
    for k, d in enumerate((tail - 1, grid[CHANGE2], grid[CHANGE1])):
        bounds[k], shifts[k], starts[k] = _i4(MAGNITUDE4), _i4(0), _i4(0)
        if 0 <= d < tail:
            p = grid[PROFILE + d]
            bounds[k], shifts[k] = _i4((first - d) << 23), _i4(24 - p)
            starts[k] = _i4(grid[PROFILE + binades + d] - ((first - d) << (p - 1)))
    b0, b1, b2 = bounds
    s0, s1, s2 = shifts
    c0, c1, c2 = starts
    for i in range(y.size):
        a = _i4(y[i] & _i4(MAGNITUDE4))
        steps = _i4(np.float32(_as_float(a) * per_step)) if a < b0 else _i4(0)
        index = _i4(_i4(a >> s0) + c0) if a >= b0 else steps
        index = _i4(_i4(a >> s1) + c1) if a >= b1 else index
        index = _i4(_i4(a >> s2) + c2) if a >= b2 else index
        negative = y[i] < _i4(0) and index > _i4(0)
        if wrap:
            codes[i] = _i4(wrap - index) if negative else index
        else:
            codes[i] = _i4(index + half) if negative else index


@njit(nogil=True)
def _index_slowly(y, codes, top, grid, half, wrap):
    for i in range(y.size):
        a = _i8(y[i] & _i4(MAGNITUDE4))
        index = _i8(0)
        if a:
            significand, field = a & 0x7FFFFF, a >> 23
            if field:
                significand |= 0x800000
            else:
                field = _i8(1)
                while significand < 0x800000:
                    significand <<= 1
                    field -= 1
            d = top + 127 - field
            p = grid[PROFILE + d]
            index = (significand >> (24 - p)) - (_i8(1) << (p - 1)) + grid[PROFILE + grid[BINADES] + d]
        if y[i] < 0 and index:
            index = wrap - index if wrap else index + half
        codes[i] = index


# The loop for the width of the bits, chosen when compiled.


def _round_run(x, out, top, grid, passing):
    raise NotImplementedError("compiled code only")


@overload(_round_run)
def _choose_round(x, out, top, grid, passing):
    if x.dtype == types.int32:
        return lambda x, out, top, grid, passing: _round4(x, out, top, grid, passing)
    return lambda x, out, top, grid, passing: _round8(x, out, top, grid, passing)


def _mode_run(x, out, previous, top, grid, passing, mode, random, power):
    raise NotImplementedError("compiled code only")


@overload(_mode_run)
def _choose_mode(x, out, previous, top, grid, passing, mode, random, power):
    if x.dtype == types.int32:
        return lambda x, out, previous, top, grid, passing, mode, random, power: _mode4(
            x, out, previous, top, grid, passing, mode, random, power
        )
    return lambda x, out, previous, top, grid, passing, mode, random, power: _mode8(
        x, out, previous, top, grid, passing, mode, random, power
    )


def _largest_of_run(x):
    raise NotImplementedError("compiled code only")


@overload(_largest_of_run)
def _choose_largest(x):
    if x.dtype == types.int32:
        return lambda x: _largest4(x)
    return lambda x: _largest8(x)


# Every task works on an array seen as (batch, rows, columns) with neighbouring columns side by side in memory, cut
# into tiles. Words: rows, columns, rows and columns of a tile, tiles down and across, all tiles, then as each task says.
ROWS, COLUMNS, TILE_ROWS, TILE_COLUMNS, DOWN, ACROSS, TILES = range(7)


@njit(nogil=True, inline="always")
def _share(w):
    """First and last tile of this thread."""
    number, count = _i8(thread_number()), _i8(thread_count())
    return w[TILES] * number // count, w[TILES] * (number + 1) // count


@njit(nogil=True, inline="always")
def _place(w, tile):
    """Batch, tile row, tile column, first and last row, first column and width of a tile."""
    batch, rest = tile // (w[DOWN] * w[ACROSS]), tile % (w[DOWN] * w[ACROSS])
    down, across = rest // w[ACROSS], rest % w[ACROSS]
    row, column = down * w[TILE_ROWS], across * w[TILE_COLUMNS]
    last = min(row + w[TILE_ROWS], w[ROWS])
    return batch, down, across, row, last, column, min(w[TILE_COLUMNS], w[COLUMNS] - column)


_task = types.void(types.CPointer(types.int64))
_ANY = 1 << 62  # the length given to arrays made from a bare address


@njit(nogil=True)
def _round_tiles(w, x, out, tops, grid):
    """Arguments: x and its batch and row stride, out and its strides, tops and their three strides, grid, passing."""
    first, last = _share(w)
    for tile in range(first, last):
        batch, down, across, row, end, column, width = _place(w, tile)
        top = tops[batch * w[14] + down * w[15] + across * w[16]]
        for r in range(row, end):
            at, to = batch * w[8] + r * w[9] + column, batch * w[11] + r * w[12] + column
            _round_run(x[at : at + width], out[to : to + width], top, grid, w[18])


@njit(nogil=True)
def _mode_tiles(w, x, out, previous, tops, grid):
    """Arguments: as for _round_tiles, then mode, previous and its strides, seed, stream, and by how much an element's place in the logical
    order grows with batch, row and column."""
    first, last = _share(w)
    power, random = np.empty(CHUNK, np.int32), np.zeros(CHUNK + 4, np.uint32)
    mode, seed, stream = w[19], w[23], w[24]
    for tile in range(first, last):
        batch, down, across, row, end, left, width = _place(w, tile)
        top = tops[batch * w[14] + down * w[15] + across * w[16]]
        for r in range(row, end):
            for column in range(left, left + width, CHUNK):
                count = min(CHUNK, left + width - column)
                skip = 0
                if mode == STOCHASTIC:
                    element = batch * w[25] + r * w[26] + column * w[27]
                    if w[27] == 1:
                        skip = element % 4
                        fill(random[: (count + skip + 3) // 4 * 4], element // 4, seed, stream)
                    else:
                        for i in range(count):
                            random[i] = one(element + i * w[27], seed, stream)
                at, to = batch * w[8] + r * w[9] + column, batch * w[11] + r * w[12] + column
                before = batch * w[21] + r * w[22] + column
                _mode_run(
                    x[at : at + count],
                    out[to : to + count],
                    previous[before : before + count],
                    top,
                    grid,
                    w[18],
                    mode,
                    random[skip : skip + count],
                    power,
                )


@njit(nogil=True)
def _largest_of_tiles(w, x, out):
    """Arguments: x and its batch and row stride, out (one number per tile, in order)."""
    first, last = _share(w)
    for tile in range(first, last):
        batch, _, _, row, end, column, width = _place(w, tile)
        largest = _i8(0)
        for r in range(row, end):
            at = batch * w[8] + r * w[9] + column
            largest = max(largest, _i8(_largest_of_run(x[at : at + width])))
        out[tile] = largest


@cfunc(_task, cache=True)
def _round_tiles4(pointer):
    w = carray(pointer, (32,))
    tops, grid = carray(_pointer8(w[13]), (_ANY,)), carray(_pointer8(w[17]), (_ANY,))
    _round_tiles(w, carray(_pointer4(w[7]), (_ANY,)), carray(_pointer4(w[10]), (_ANY,)), tops, grid)


@cfunc(_task, cache=True)
def _round_tiles8(pointer):
    w = carray(pointer, (32,))
    tops, grid = carray(_pointer8(w[13]), (_ANY,)), carray(_pointer8(w[17]), (_ANY,))
    _round_tiles(w, carray(_pointer8(w[7]), (_ANY,)), carray(_pointer8(w[10]), (_ANY,)), tops, grid)


@cfunc(_task, cache=True)
def _mode_tiles4(pointer):
    w = carray(pointer, (32,))
    tops, grid = carray(_pointer8(w[13]), (_ANY,)), carray(_pointer8(w[17]), (_ANY,))
    x, out, previous = carray(_pointer4(w[7]), (_ANY,)), carray(_pointer4(w[10]), (_ANY,)), carray(_pointer_float(w[20]), (_ANY,))
    _mode_tiles(w, x, out, previous, tops, grid)


@cfunc(_task, cache=True)
def _mode_tiles8(pointer):
    w = carray(pointer, (32,))
    tops, grid = carray(_pointer8(w[13]), (_ANY,)), carray(_pointer8(w[17]), (_ANY,))
    x, out, previous = carray(_pointer8(w[7]), (_ANY,)), carray(_pointer8(w[10]), (_ANY,)), carray(_pointer_double(w[20]), (_ANY,))
    _mode_tiles(w, x, out, previous, tops, grid)


@cfunc(_task, cache=True)
def _largest_tiles4(pointer):
    w = carray(pointer, (32,))
    _largest_of_tiles(w, carray(_pointer4(w[7]), (_ANY,)), carray(_pointer8(w[10]), (_ANY,)))


@cfunc(_task, cache=True)
def _largest_tiles8(pointer):
    w = carray(pointer, (32,))
    _largest_of_tiles(w, carray(_pointer8(w[7]), (_ANY,)), carray(_pointer8(w[10]), (_ANY,)))


@njit(nogil=True)
def _encode_tiles(w, x, codes, tops, grid, nan):
    """Arguments: x and its strides, codes and their strides, tops and their strides, grid, half, wrap, where to note a NaN."""
    first, last = _share(w)
    y = np.empty(CHUNK, np.int32)
    for tile in range(first, last):
        batch, down, across, row, end, left, width = _place(w, tile)
        top = tops[batch * w[14] + down * w[15] + across * w[16]]
        for r in range(row, end):
            for column in range(left, left + width, CHUNK):
                count = min(CHUNK, left + width - column)
                at, to = batch * w[8] + r * w[9] + column, batch * w[11] + r * w[12] + column
                _round4(x[at : at + count], y[:count], top, grid, INFINITY4)
                lost = _i4(0)
                for i in range(count):
                    lost |= _i4(_i4(y[i] & _i4(MAGNITUDE4)) > _i4(INFINITY4))
                if lost:
                    nan[0] = 1
                    return
                _index4(y[:count], codes[to : to + count], top, grid, _i4(w[18]), _i4(w[19]))


@njit(nogil=True)
def _decode_tiles(w, codes, out, tops, table, nan):
    """Arguments: codes and their strides, out and its strides, tops and their strides, table, where to note a code of no value."""
    first, last = _share(w)
    values, known = np.empty(table.size, np.float32), _i8(1 << 62)
    for tile in range(first, last):
        batch, down, across, row, end, left, width = _place(w, tile)
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


@cfunc(_task, cache=True)
def _encode_bytes(pointer):
    w = carray(pointer, (32,))
    tops, grid, nan = carray(_pointer8(w[13]), (_ANY,)), carray(_pointer8(w[17]), (_ANY,)), carray(_pointer8(w[20]), (1,))
    _encode_tiles(w, carray(_pointer4(w[7]), (_ANY,)), carray(_pointer_byte(w[10]), (_ANY,)), tops, grid, nan)


@cfunc(_task, cache=True)
def _encode_shorts(pointer):
    w = carray(pointer, (32,))
    tops, grid, nan = carray(_pointer8(w[13]), (_ANY,)), carray(_pointer8(w[17]), (_ANY,)), carray(_pointer8(w[20]), (1,))
    _encode_tiles(w, carray(_pointer4(w[7]), (_ANY,)), carray(_pointer_short(w[10]), (_ANY,)), tops, grid, nan)


@cfunc(_task, cache=True)
def _decode_bytes(pointer):
    w = carray(pointer, (32,))
    tops, table, nan = carray(_pointer8(w[13]), (_ANY,)), carray(_pointer_double(w[17]), (1 << 8,)), carray(_pointer8(w[18]), (1,))
    _decode_tiles(w, carray(_pointer_byte(w[7]), (_ANY,)), carray(_pointer_float(w[10]), (_ANY,)), tops, table, nan)


@cfunc(_task, cache=True)
def _decode_shorts(pointer):
    w = carray(pointer, (32,))
    tops, table, nan = carray(_pointer8(w[13]), (_ANY,)), carray(_pointer_double(w[17]), (1 << 16,)), carray(_pointer8(w[18]), (1,))
    _decode_tiles(w, carray(_pointer_short(w[7]), (_ANY,)), carray(_pointer_float(w[10]), (_ANY,)), tops, table, nan)


@njit(nogil=True, inline="always")
def _top_of(largest, fraction_bits, bias, above, headroom, low, high):
    """The top exponent for a largest magnitude with these bits; one more where its fraction is more than `above` steps of 2^-52."""
    if largest == 0:
        return min(max(_i8(0), low), high)
    field, fraction = largest >> fraction_bits, largest & ((_i8(1) << fraction_bits) - 1)
    if field == 0:
        field = _i8(1)
        while not fraction >> fraction_bits:
            fraction <<= 1
            field -= 1
        fraction -= _i8(1) << fraction_bits
    more = fraction << (52 - fraction_bits) > above
    return min(max(field - bias + _i8(more) + headroom, low), high)


# Indices below are unsigned, since numba lets a signed one count from the end, which costs a test in every step.


@njit(nogil=True)
def _largest_of_line(x, largest, width):
    """The largest finite magnitude's bits of each `width` neighbours (the last may be short), where larger than before."""
    mask, infinity = (_i4(MAGNITUDE4), _i4(INFINITY4)) if x.itemsize == 4 else (_i8(MAGNITUDE8), _i8(INFINITY8))
    for k in range(-(-x.size // width)):
        first, last = np.uint64(k * width), np.uint64(min((k + 1) * width, x.size))
        found = mask ^ mask
        for i in range(first, last):
            a = x[i] & mask
            found = max(found, a if a < infinity else mask ^ mask)
        largest[k] = max(largest[k], _i8(found))


@njit(nogil=True)
def _round_line4(x, out, tops, width, grid, passing):
    """Round each `width` neighbours of float32 bits with a scale of their own."""
    passing = _i4(passing)
    shift, delta1, delta2 = _i4(grid[TAIL_SHIFT] << 23), _i4(grid[DELTA1] << 23), _i4(grid[DELTA2] << 23)
    for k in range(-(-x.size // width)):
        first, last = np.uint64(k * width), np.uint64(min((k + 1) * width, x.size))
        field = tops[k] + 127
        if not (_is_fast(grid, field) and grid[LOOP] == CHANGES_LOOP):
            _round4(x[first:last], out[first:last], tops[k], grid, passing)
            continue
        highest = _highest(grid, field)
        tail, _, change1, _, change2, _ = _changes(grid, field)
        for i in range(first, last):
            u = x[i]
            a = _i4(u & _i4(MAGNITUDE4))
            c = min(a, highest)
            power = _i4(max(_i4(c & _i4(INFINITY4)), tail) + shift)
            power = _i4(power + (delta1 if c >= change1 else _i4(0)))
            power = _i4(power + (delta2 if c >= change2 else _i4(0)))
            out[i] = _finish(u, a, c, power, passing)


@njit(nogil=True)
def _round_line8(x, out, tops, width, grid, passing):
    """The same for float64 bits."""
    for k in range(-(-x.size // width)):
        first, last = k * width, min((k + 1) * width, x.size)
        _round8(x[first:last], out[first:last], tops[k], grid, passing)


def _round_line(x, out, tops, width, grid, passing):
    raise NotImplementedError("compiled code only")


@overload(_round_line)
def _choose_line(x, out, tops, width, grid, passing):
    if x.dtype == types.int32:
        return lambda x, out, tops, width, grid, passing: _round_line4(x, out, tops, width, grid, passing)
    return lambda x, out, tops, width, grid, passing: _round_line8(x, out, tops, width, grid, passing)


@njit(nogil=True)
def _block_tiles(w, x, out, grid):
    """Find the scale of each tile and round it while it is in the cache. The unit of work is a stretch of neighbouring tiles, so that memory is read in order.

    Arguments: x and its strides, out and its strides, tiles in a stretch, stretches, fraction bits, bias, above, headroom, lowest and highest top, grid, passing.
    """
    number, count = _i8(thread_number()), _i8(thread_count())
    units = w[14] * (w[TILES] // w[ACROSS])
    largest = np.empty(w[13], np.int64)
    for unit in range(units * number // count, units * (number + 1) // count):
        line, begin = unit // w[14], unit % w[14] * w[13]
        batch, down = line // w[DOWN], line % w[DOWN]
        tiles = min(w[13], w[ACROSS] - begin)
        row, end = down * w[TILE_ROWS], min((down + 1) * w[TILE_ROWS], w[ROWS])
        largest[:tiles] = 0
        column = begin * w[TILE_COLUMNS]
        width = min(tiles * w[TILE_COLUMNS], w[COLUMNS] - column)
        for r in range(row, end):
            at = batch * w[8] + r * w[9] + column
            _largest_of_line(x[at : at + width], largest, w[TILE_COLUMNS])
        for k in range(tiles):
            largest[k] = _top_of(largest[k], w[15], w[16], w[17], w[18], w[19], w[20])
        for r in range(row, end):
            at, to = batch * w[8] + r * w[9] + column, batch * w[11] + r * w[12] + column
            _round_line(x[at : at + width], out[to : to + width], largest, w[TILE_COLUMNS], grid, w[22])


@cfunc(_task, cache=True)
def _block_tiles4(pointer):
    w = carray(pointer, (32,))
    _block_tiles(w, carray(_pointer4(w[7]), (_ANY,)), carray(_pointer4(w[10]), (_ANY,)), carray(_pointer8(w[21]), (_ANY,)))


@cfunc(_task, cache=True)
def _block_tiles8(pointer):
    w = carray(pointer, (32,))
    _block_tiles(w, carray(_pointer8(w[7]), (_ANY,)), carray(_pointer8(w[10]), (_ANY,)), carray(_pointer8(w[21]), (_ANY,)))


def _layout(x: NDArray[Any], tile: tuple[int, int], tiles: tuple[int, int, int]) -> list[int]:
    return [x.shape[1], x.shape[2], *tile, tiles[1], tiles[2], tiles[0] * tiles[1] * tiles[2]]


def _strides(x: NDArray[Any]) -> list[int]:
    return [stride // x.itemsize for stride in x.strides]


def round_tiles(
    x: NDArray[Any],
    out: NDArray[Any],
    tile: tuple[int, int],
    tops: NDArray[np.int64],
    grid: NDArray[np.int64],
    keep_infinities: bool,
) -> None:
    """Round x into out, both (batch, rows, columns) float32 or float64 with unit stride along columns.

    tops: (batch, tiles down, tiles across), any strides, inside the profile's range.
    """
    if not x.size:
        return
    wide = x.dtype == np.float64
    passing = (INFINITY8 if wide else INFINITY4) - int(keep_infinities)
    threads.run(
        _round_tiles8 if wide else _round_tiles4,
        [
            *_layout(x, tile, tops.shape),  # type: ignore[arg-type]
            *(address_of(x), *_strides(x)[:2]),
            *(address_of(out), *_strides(out)[:2]),
            *(address_of(tops), *_strides(tops)),
            *(address_of(grid), passing),
        ],
        x.size,
    )


FLAT_TILE = 1 << 14
"""Elements of a tile where all have one scale: few enough to share among threads, enough to hide the cost of a call."""


def _flat(x: NDArray[Any]) -> list[int]:
    tiles = -(-x.size // FLAT_TILE)
    return [1, x.size, 1, FLAT_TILE, 1, tiles, tiles, address_of(x), 0, 0]


def largest_flat(x: NDArray[Any]) -> float:
    """The largest finite magnitude of a C-contiguous array, 0 where there is none."""
    if not x.size:
        return 0.0
    wide = x.itemsize == 8
    words = _flat(x)
    bits = np.zeros(words[TILES], np.int64)
    threads.run(_largest_tiles8 if wide else _largest_tiles4, [*words, address_of(bits)], x.size)
    largest = bits.max()
    return float(largest.view(np.float64) if wide else largest.astype(np.int32).view(np.float32))


def round_flat(x: NDArray[Any], out: NDArray[Any], top: int, grid: NDArray[np.int64], keep_infinities: bool) -> None:
    """`round_tiles` of C-contiguous arrays with one scale; quicker to call."""
    if not x.size:
        return
    wide = x.itemsize == 8
    tops = np.array(top, np.int64)
    passing = (INFINITY8 if wide else INFINITY4) - int(keep_infinities)
    words = [*_flat(x), address_of(out), 0, 0, address_of(tops), 0, 0, 0, address_of(grid), passing]
    threads.run(_round_tiles8 if wide else _round_tiles4, words, x.size)


FEW_STEPS = 32
"""Up to so many thresholds it is quicker to count those that a number reaches than to search them."""


@njit(nogil=True)
def _look_up(x, out, steps, starts, values, copy_sign, passing):
    """values[k] for each float32 bits of x, k the number of `steps` at or below it (of its magnitude where the sign is copied).

    starts: that number for the smallest float of each upper half of the bits, from which the search goes on.
    """
    index = np.zeros(CHUNK, np.int32)
    mask = _i4(MAGNITUDE4) if copy_sign else _i4(-1)
    for start in range(0, x.size, CHUNK):
        count = min(CHUNK, x.size - start)
        part, to = x[start : start + count], out[start : start + count]
        if steps.size <= FEW_STEPS:
            index[:count] = 0
            for step in steps:
                for i in range(count):
                    index[i] += _as_float(_i4(part[i] & mask)) >= step
        else:
            for i in range(count):
                bits = _i4(part[i] & mask)
                number, at = _as_float(bits), _i8(starts[np.uint32(bits) >> np.uint32(16)])
                while at < steps.size and number >= steps[at]:
                    at += 1
                index[i] = at
        for i in range(count):
            u = part[i]
            a = _i4(u & _i4(MAGNITUDE4))
            y = _as_bits(values[index[i]])
            y = _i4(y | _i4(u & _i4(SIGN4))) if copy_sign else y
            to[i] = u if a > passing else y


@cfunc(_task, cache=True)
def _look_up_task(pointer):
    w = carray(pointer, (32,))
    number, count = _i8(thread_number()), _i8(thread_count())
    first, last = w[0] * number // count, w[0] * (number + 1) // count
    x, out = carray(_pointer4(w[1]), (_ANY,)), carray(_pointer4(w[2]), (_ANY,))
    steps, values = carray(_pointer_float(w[3]), (_ANY,))[: w[4]], carray(_pointer_float(w[5]), (_ANY,))
    starts = carray(_pointer_short(w[8]), (_ANY,))
    _look_up(x[first:last], out[first:last], steps, starts, values, w[6] != 0, _i4(w[7]))


def look_up(
    x: NDArray[np.float32],
    out: NDArray[np.float32],
    steps: NDArray[np.float32],
    values: NDArray[np.float32],
    copy_sign: bool,
    keep_infinities: bool,
) -> None:
    """Round C-contiguous x into out by a table: values[k], where k is how many of the ascending `steps` a number reaches."""
    if not x.size:
        return
    starts = _starts(steps.tobytes()) if len(steps) > FEW_STEPS else np.zeros(1, np.uint16)
    passing = INFINITY4 - int(keep_infinities)
    words = [x.size, address_of(x), address_of(out), address_of(steps), len(steps), address_of(values), int(copy_sign), passing]
    threads.run(_look_up_task, [*words, address_of(starts)], x.size)


@lru_cache(maxsize=64)
def _starts(steps: bytes) -> NDArray[np.uint16]:
    """How many steps the smallest float32 with each upper half of its bits reaches; 0 for NaN, which does not matter."""
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    # Among negative numbers the one with all lower bits set is the smallest.
    smallest = np.where(upper >> 31, upper | 0xFFFF, upper).astype(np.uint32).view(np.float32)
    found = np.searchsorted(np.frombuffer(steps, np.float32), smallest, side="right")
    return np.where(np.isnan(smallest), 0, found).astype(np.uint16)


@dataclass(frozen=True)
class Mode:
    """A rounding mode with what it needs.

    previous: for hysteresis, of x's shape and dtype, unit stride along columns. seed, stream: for stochastic rounding, 64 bits each.
    logical: by how much an element's place in the logical order grows with batch, row and column.
    """

    rounding: Rounding
    previous: NDArray[Any] | None = None
    seed: int = 0
    stream: int = 0
    logical: tuple[int, int, int] = (0, 0, 1)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def round_tiles_in_mode(
    x: NDArray[Any],
    out: NDArray[Any],
    tile: tuple[int, int],
    tops: NDArray[np.int64],
    grid: NDArray[np.int64],
    keep_infinities: bool,
    mode: Mode,
) -> None:
    """`round_tiles` in any mode."""
    if not x.size:
        return
    wide = x.dtype == np.float64
    passing = (INFINITY8 if wide else INFINITY4) - int(keep_infinities)
    previous = x if mode.previous is None else mode.previous
    threads.run(
        _mode_tiles8 if wide else _mode_tiles4,
        [
            *_layout(x, tile, tops.shape),
            *(address_of(x), *_strides(x)[:2]),
            *(address_of(out), *_strides(out)[:2]),
            *(address_of(tops), *_strides(tops)),
            *(address_of(grid), passing),
            *(MODES[mode.rounding], address_of(previous), *_strides(previous)[:2]),
            *(_signed(mode.seed), _signed(mode.stream), *mode.logical),
        ],
        x.size,
    )


STRETCH = 1 << 15
"""Elements, about, whose scales are found before they are rounded: they stay in the second-level cache."""


def round_blocks(
    x: NDArray[Any],
    out: NDArray[Any],
    tile: tuple[int, int],
    tiles: tuple[int, int, int],
    grid: NDArray[np.int64],
    keep_infinities: bool,
    rule: tuple[int, int, int, int],
) -> None:
    """Round x into out as `round_tiles` does, with the scale of each tile found on the way.

    rule: how many 2^-52 above a power of two a tile's largest magnitude may be before T is one more, headroom, lowest and highest T.
    """
    if not x.size:
        return
    wide = x.dtype == np.float64
    passing = (INFINITY8 if wide else INFINITY4) - int(keep_infinities)
    stretch = min(max(1, STRETCH // (tile[0] * tile[1])), tiles[2])
    threads.run(
        _block_tiles8 if wide else _block_tiles4,
        [
            *_layout(x, tile, tiles),
            *(address_of(x), *_strides(x)[:2]),
            *(address_of(out), *_strides(out)[:2]),
            *(stretch, -(-tiles[2] // stretch)),
            *((52, 1023) if wide else (23, 127)),
            *(*rule, address_of(grid), passing),
        ],
        x.size,
    )


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
                *_layout(x, tile, tops.shape),
                *(address_of(x), *_strides(x)[:2]),
                *(address_of(codes), *_strides(codes)[:2]),
                *(address_of(tops), *_strides(tops)),
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
                *_layout(codes, tile, tops.shape),
                *(address_of(codes), *_strides(codes)[:2]),
                *(address_of(out), *_strides(out)[:2]),
                *(address_of(tops), *_strides(tops)),
                *(address_of(table), address_of(nan)),
            ],
            codes.size,
        )
    return not nan[0]


def largest_of_tiles(x: NDArray[Any], tile: tuple[int, int], tiles: tuple[int, int, int]) -> NDArray[Any]:
    """The largest finite magnitude of each tile, shape `tiles`, in x's dtype; 0 where there is none."""
    bits = np.zeros(tiles, np.int64)
    if x.size:
        wide = x.dtype == np.float64
        threads.run(
            _largest_tiles8 if wide else _largest_tiles4,
            [*_layout(x, tile, tiles), address_of(x), *_strides(x)[:2], address_of(bits)],
            x.size,
        )
    return bits.view(np.float64) if x.dtype == np.float64 else bits.astype(np.int32).view(np.float32)
