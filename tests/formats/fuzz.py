"""Random calls of round, encode, decode, matmul and the path of other devices, each compared with an exact reference of
its own.

Run as `python -m tests.formats.fuzz --calls N --seed S [--seconds T]`; call number k of seed S is repeated by `--seed S
--only k`.
"""

import argparse
import bisect
import sys
import time
import traceback
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import pairwise

import numpy as np
import torch

import formats
from formats import Granularity, Rounding, Scale, ScalePolicy
from formats.names import STANDARDS, standard
from formats.rounding import rounded
from formats.specials import NanCodes, Overflow
from formats.tensors import round_anywhere
from tests.formats import products
from tests.formats.reference import E2M1, E4M3, to_float32

WITHOUT: set[str] = set()
"""Cases to leave out (--without), so that a fuzz gets past a known bug: struct-out, overlap-out, even-float64, posit,
empty, fine-steps."""
MODES = [mode for mode in Rounding if mode is not Rounding.NEAREST]
P3109 = [
    f"P3109:{k}.{p}.{s}.{e}"
    for k, p in ((8, 4), (8, 3), (8, 1), (6, 1), (5, 2))
    for s in ("signed", "unsigned")
    for e in ("finite", "extended")
]


# The reference: everything in float64, where every step is exact (values of a format have at most 16 bits, steps are
# powers of two).


def philox(count, seed, stream):
    """Philox4x32-10 from its paper, on arrays of counters."""
    low = np.uint64(0xFFFFFFFF)
    block = np.arange(-(-count // 4), dtype=np.uint64)
    c = [
        block & low,
        block >> np.uint64(32),
        block * 0 + np.uint64(stream & 0xFFFFFFFF),
        block * 0 + np.uint64(stream >> 32),
    ]
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(b >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), b & low, (a >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), a & low]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, axis=1).reshape(-1)[:count]


@cache
def magnitudes_of(profile, largest=None):
    """All magnitudes at T = 0 in float64."""
    values = [0.0]
    for d in reversed(range(len(profile))):
        p = profile[d]
        top = (largest if largest is not None and d == 0 else (1 << p) - 1) + 1
        values += [j * 2.0 ** (1 - p - d) for j in range(1 << (p - 1), top)]
    return np.array(values)


def goes_up(a, low, high, index, profile, mode, negative, words, above):
    """Whether magnitudes a strictly between neighbours go to the upper one (T = 0)."""
    middle = (low + high) / 2
    if mode is Rounding.NEAREST:
        d = 1 - np.frexp(middle)[1]
        inside = np.clip(d, 0, len(profile) - 1)
        step = np.where(
            d >= len(profile), 2.0 ** (1 - len(profile)), np.ldexp(1.0, 1 - inside - np.array(profile)[inside])
        )
        return (a > middle) | ((a == middle) & ((low / step) % 2 == 1))
    if mode is Rounding.NEAREST_AWAY:
        return a >= middle
    if mode is Rounding.TOWARD_ZERO:
        return np.zeros(a.shape, bool)
    if mode is Rounding.UP:
        return ~negative
    if mode is Rounding.DOWN:
        return negative
    if mode is Rounding.STOCHASTIC:
        return words < np.floor(np.ldexp((a - low) / (high - low), 32))
    return above != negative


def round_profile(profile, largest, x, top, mode=Rounding.NEAREST, words=None, previous=None):
    """Values (float64, sign kept, NaN stays) and magnitude indexes of x at each element's top exponent."""
    values = magnitudes_of(profile, largest)
    wide, nan = x.astype(np.float64), np.isnan(x)
    scaled = np.ldexp(np.where(nan, 0, np.abs(wide)), -top)
    scaled = np.where((scaled == 0) & (wide != 0) & ~nan, 2.0**-1074, scaled)  # what ldexp lost is still not zero
    a = np.minimum(scaled, values[-1])
    index = np.searchsorted(values, a)
    high, low = values[index], values[np.maximum(index - 1, 0)]
    negative = np.signbit(x)
    above = None if previous is None else previous.astype(np.float64) > wide
    between = high != a
    with np.errstate(invalid="ignore", divide="ignore"):
        up = goes_up(a, low, high, index, profile, mode, negative, words, above)
    index = np.where(between & ~up, index - 1, index)
    result = np.copysign(np.ldexp(values[index], top), wide)
    return np.where(nan, wide, result), index


def labels_of(scale, shape):
    """The number of the group of each element, and the group shape, element by element."""
    if scale.per is Granularity.TENSOR:
        return np.zeros(shape, np.int64), ()
    shape1 = shape or (1,)
    where = np.indices(shape1)
    rank = len(shape1)
    if scale.per is Granularity.CHANNEL:
        axis = scale.axis % rank
        return where[axis].reshape(shape), (shape1[axis],)
    if isinstance(scale.block, tuple) and rank > 1:
        rows, columns = scale.block
        if rank == 4:
            row, column, height, width = where[1], where[2] * shape1[3] + where[3], shape1[1], shape1[2] * shape1[3]
            lead, lead_shape = [where[0]], shape1[:1]
        else:
            row, column, height, width = where[-2], where[-1], shape1[-2], shape1[-1]
            lead, lead_shape = list(where[:-2]), shape1[:-2]
        groups = (*lead_shape, -(-height // rows), -(-width // columns))
        parts = (*lead, row // rows, column // columns)
    else:
        axis, length = (0, scale.block[1]) if isinstance(scale.block, tuple) else (scale.axis % rank, scale.block)
        groups = tuple(-(-n // length) if i == axis else n for i, n in enumerate(shape1))
        parts = tuple(w // length if i == axis else w for i, w in enumerate(where))
    if 0 in groups:
        return np.zeros(shape, np.int64), groups
    return np.ravel_multi_index(parts, groups).reshape(shape), groups


def top_of(form, largest):
    """The scale rule for one largest magnitude, in Fractions."""
    low, high = form.top_range
    top = 0
    if largest:
        exact = Fraction(float(largest))
        top = int(np.frexp(float(largest))[1]) - 1
        fraction, p = exact / Fraction(2) ** top, form.profile[0]
        best = Fraction(form.largest or (1 << p) - 1, 1 << (p - 1))
        top += {
            ScalePolicy.FLOOR: False,
            ScalePolicy.CEIL: fraction > 1,
            ScalePolicy.EVEN: fraction >= 2 - Fraction(1, 1 << p),
            ScalePolicy.RCEIL: fraction > best,
        }[form.scale.policy]
        top += form.scale.room
    return min(max(top, low), high)


def largest_of(x, labels, groups):
    """The largest finite magnitude of each group, a flat array of float64."""
    largest = np.zeros(int(np.prod(groups, dtype=np.int64)))
    finite = np.isfinite(x)
    np.maximum.at(largest, labels[finite], np.abs(x[finite].astype(np.float64)))
    return largest


def tops_of(form, x, labels, groups):
    """The scale rule by definition: an int64 array of the group shape."""
    return np.array([top_of(form, value) for value in largest_of(x, labels, groups)], np.int64).reshape(groups)


def round_standard(form, x, keep):
    """A standard's values of x to nearest, as float64."""
    values = form.magnitudes()
    wide = x.astype(np.float64)
    result = np.empty(x.shape)
    step = 2.0 ** (form.top - form.profile[0] + 1)
    for place, value in np.ndenumerate(wide):
        a = abs(value)
        if not form.zero and value <= 0:
            y = np.nan
        elif np.isnan(value) or (keep and np.isinf(value)):
            y = value
        elif not form.zero and value <= values[1]:
            # Between the two smallest it goes up, as in ml_dtypes.
            y = values[int(value > values[0])]
        else:
            i = bisect.bisect_left(values, a)
            if i < len(values) and values[i] == a:
                y = a
            else:
                low = values[i - 1]
                high = values[i] if i < len(values) else values[-1] + step
                middle = (low + high) / 2
                d = form.top + 1 - np.frexp(middle)[1]
                one_bit = d < len(form.profile) and form.profile[d] == 1 and not form.even_code_ties
                tie_up = one_bit if i < len(values) and one_bit else (i - 1) % 2 == 1
                tie_up |= not form.zero
                y = high if a > middle or (a == middle and tie_up) else low
                if y > values[-1]:
                    standard_value = (
                        np.inf if form.infinities else np.nan if form.nan is not NanCodes.NONE else values[-1]
                    )
                    y = values[-1] if form.overflow is Overflow.SATURATE else standard_value
            y = np.copysign(y, value)
        if not form.signed and y < 0:
            y = 0.0 if form.overflow is Overflow.SATURATE else np.nan
        result[place] = y + 0.0 if not form.negative_zero else y
    return result


def round_standard_in_mode(form, x, keep, mode, words, previous):
    """A saturating standard's values of x in another mode, as float64."""
    y, _ = round_profile(form.profile, form.largest, x, np.full(x.shape, form.top), mode, words, previous)
    wide = x.astype(np.float64)
    y = np.where(np.isinf(wide), wide, y) if keep else y
    if not form.zero:
        y = np.where(wide > 0, np.maximum(y, form.min_positive()), np.nan)
    elif not form.signed:
        y = np.where(y < 0, 0, y)
    return y if form.negative_zero else y + 0.0


def tops_of_codebook(form, x, labels, groups):
    """The scale rule of a codebook by definition: an int64 array of the group shape."""
    low, high = form.top_range
    exponent = int(np.frexp(max(abs(form.values[0]), abs(form.values[-1])))[1])
    tops = [
        int(np.frexp(value)[1]) - exponent + form.scale.room if value else 0 for value in largest_of(x, labels, groups)
    ]
    return np.clip(np.array(tops, np.int64), low, high).reshape(groups)


def scales_of(x, labels, groups, most):
    """Real scales by definition: the exact quotient as a float32 number, 1 for nothing, where all values are
    float32."""
    high = np.float32(np.finfo(np.float32).max / most)
    while np.isinf(to_float32(Fraction(float(high)) * most)):
        high = np.nextafter(high, np.float32(0))
    found = [to_float32(Fraction(float(value)) / most) if value else 1.0 for value in largest_of(x, labels, groups)]
    return np.clip(found, 2.0**-149, float(high)).reshape(groups)


def nearest_index(values, exact, away=False):
    """The index of the nearest of ascending Fractions, a tie to the even one, or to the upper; the last beyond."""
    above = bisect.bisect_left(values, exact)
    if above == len(values) or values[above] == exact:
        return min(above, len(values) - 1)
    middle = (values[above - 1] + values[above]) / 2
    return above - (exact < middle or (exact == middle and above % 2 == 1 and not away))


def nvfp4_scales(x, labels, groups):
    """The tensor's scale, and the codes of the blocks' scales, by definition."""
    tensor = float(scales_of(x, np.zeros(x.shape, np.int64), (), 2688))
    codes = [
        nearest_index(E4M3, Fraction(float(value)) / 6 / Fraction(tensor)) for value in largest_of(x, labels, groups)
    ]
    return formats.NVFP4Scales(np.array(codes, np.uint8).reshape(groups), np.float32(tensor))


def in_mode(magnitudes, x, mode, word, before):
    """A number that may be infinite among ascending magnitudes of both signs, in a mode other than to nearest, as
    float64."""
    exact = Fraction(x) if np.isfinite(x) else Fraction(2) ** 2000 * (1 if x > 0 else -1)
    grid = sorted({sign * value for value in magnitudes for sign in (1, -1)})
    y = float(rounded(exact, grid, mode, negative=np.signbit(x), word=word, above=before > x))
    return y if y else np.copysign(y, x)  # without a zero, a neighbour has the other sign


def round_real(values, x, each, mode, words, previous):
    """Values of x, as float64: of ascending Fractions times the scale (a Fraction) of each element, as float32
    numbers."""
    result = np.empty(x.shape)
    for place, value in np.ndenumerate(x.astype(np.float64)):
        scale = each[place]
        if np.isnan(value):
            result[place] = value
            continue
        exact = Fraction(0) if not scale else values[-1] if np.isinf(value) else abs(Fraction(value)) / scale
        if mode in (Rounding.NEAREST, Rounding.NEAREST_AWAY):
            index = nearest_index(values, exact, mode is Rounding.NEAREST_AWAY)
            result[place] = np.copysign(to_float32(values[index] * scale), value)
        else:
            at = bisect.bisect_left(values, exact)
            # All neighbours that rounding the products may make of it.
            near = [
                Fraction(to_float32(entry * scale))
                for entry in (values if len(values) < 9 else values[max(at - 4, 0) : at + 4])
            ]
            result[place] = in_mode(near, value, mode, words[place], previous[place])
    return result


def round_codebook(form, x, each, mode, words, previous):
    """A codebook's values of x, as float64, by Fractions; `each` is the top exponent of each element."""
    values = [Fraction(value) for value in form.values]
    means = [(a + b) / 2 for a, b in pairwise(values)]
    between = means if form.boundaries is None else [Fraction(b) for b in form.boundaries]
    result = np.empty(x.shape)
    for place, value in np.ndenumerate(x.astype(np.float64)):
        if np.isnan(value):
            result[place] = value
            continue
        scale = Fraction(2) ** int(each[place])
        number = abs(value) if form.signed else value
        nearest = mode in (Rounding.NEAREST, Rounding.NEAREST_AWAY)
        if np.isinf(number):
            index = len(values) - 1 if number > 0 else 0
        elif nearest or (form.only_zero_is_zero and 0 < Fraction(number) < values[1] * scale):
            exact = Fraction(number) / scale
            index = bisect.bisect_left(between, exact)
            if index < len(between) and between[index] == exact:
                away = abs(values[index + 1]) >= abs(values[index])
                index += away if mode is Rounding.NEAREST_AWAY else index % 2
            if form.only_zero_is_zero and exact and index == 0:
                index = 1
        elif form.signed:
            y = in_mode([entry * scale for entry in values], value, mode, words[place], previous[place])
            result[place] = y + 0.0 if form.two_complement else y
            continue
        else:
            grid = [entry * scale for entry in values]
            up = previous[place] > value
            result[place] = float(rounded(Fraction(value), grid, mode, word=words[place], above=up))
            continue
        y = float(values[index] * scale)
        if form.signed:
            y = np.copysign(y, value)
        result[place] = y + 0.0 if form.two_complement else y
    return result


def some_mode(rng, form, plain, is_torch):
    """A rounding mode of the format: it, the options that ask for it, its random numbers and its previous values."""
    overflows = isinstance(form, formats.StandardFormat) and form.overflow is Overflow.STANDARD
    fine = isinstance(form, formats.ProfileFormat) and max(np.add(form.profile, range(form.binades))) > form.binades
    if overflows or rng.random() < 0.5 or ("fine-steps" in WITHOUT and fine):
        return Rounding.NEAREST, {}, None, None
    mode = MODES[rng.integers(len(MODES))]
    options, words, previous = {"rounding": mode if rng.random() < 0.5 else mode.value}, None, None
    if mode is Rounding.STOCHASTIC:
        options["seed"], options["stream"] = int(rng.integers(1 << 63)) * 2 + 1, int(rng.integers(1 << 63))
        words = philox(plain.size, options["seed"], options["stream"]).reshape(plain.shape)
    elif mode is Rounding.HYSTERESIS:
        with np.errstate(over="ignore", under="ignore"):
            previous = np.asarray(plain * rng.choice([0.9, 1.0, 1.1], plain.shape)).astype(plain.dtype)
            previous = np.asarray(form.round(previous)) if rng.random() < 0.5 else previous
        options["previous"] = (
            torch.from_numpy(np.ascontiguousarray(previous).reshape(plain.shape))
            if is_torch
            else restride(rng, previous)
        )
        # Strides of 0 change the numbers.
        previous = previous if is_torch else options["previous"]
    return mode, options, words, previous


# What is called.


def some_profile(rng):
    """A random valid profile of 2 to 12 bits, any order."""
    kind = rng.integers(3)
    length = int(rng.integers(1, 14 if kind else 40))
    if kind == 0:
        profile = rng.integers(1, 4, length)
    elif kind == 1:
        profile = rng.integers(1, 8, length)
    else:
        profile = np.repeat(rng.integers(1, 7, 3), rng.integers(1, 6, 3))
        profile = np.concatenate([profile, np.arange(profile[-1] - 1, 0, -1)[: rng.integers(0, 7)]])
    return tuple(profile.tolist())


def some_scale(rng, rank):
    """A random granularity for an array of this rank."""
    policy = list(ScalePolicy)[rng.integers(4)]
    headroom = int(rng.integers(3)) if rng.random() < 0.2 else None
    kind = rng.integers(5)
    axis = int(rng.integers(-rank, rank)) if rank else 0
    if kind < 2:
        return Scale(headroom=headroom, policy=policy)
    if kind == 2:
        return Scale(per="channel", axis=axis, headroom=headroom, policy=policy)
    if kind == 3:
        return Scale(per="block", block=int(rng.integers(1, 8)), axis=axis, headroom=headroom, policy=policy)
    return Scale(
        per="block", block=(int(rng.integers(1, 5)), int(rng.integers(1, 5))), headroom=headroom, policy=policy
    )


def some_format(rng, rank):
    """One of the catalogue, a random profile, a standard or a codebook."""
    kind = rng.random()
    if kind < 0.05:
        made = formats.IntegerFormat(int(rng.integers(2, 17)))
        return made.with_scale(replace(some_scale(rng, rank), headroom=None, policy="floor"))
    elif kind < 0.08:
        scale = Scale(per="block", block=int(rng.integers(1, 18)), axis=int(rng.integers(-rank, rank)) if rank else 0)
        return (
            formats.get(["NVFP4", "NVFP4/tile2x3"][rng.integers(2)])
            if rng.random() < 0.6
            else formats.NVFP4Format(scale)
        )
    elif kind < 0.4:
        made = formats.catalogue()[rng.integers(498)]
    elif kind < 0.75:
        made = formats.from_profile(some_profile(rng))
    elif kind < 0.87:
        names = [name for name in STANDARDS if name != "NF4"] + P3109
        made = standard(names[rng.integers(len(names))])
        return made.with_overflow("standard") if rng.random() < 0.3 else made
    elif kind < 0.92:
        made = standard(["NF4", "posit<8,2>", "posit<6,1>", "posit<5,0>", "posit<10,1>"][rng.integers(5)])
        return made.with_scale(replace(some_scale(rng, rank), policy="floor"))
    elif kind < 0.96:
        values = np.unique(rng.standard_normal(rng.integers(2, 20)).astype(np.float32))
        made = formats.from_codebook(
            np.unique(np.abs(values)) if rng.random() < 0.5 else values, signed=bool((values > 0).all())
        )
        return made.with_scale(replace(some_scale(rng, rank), policy="floor"))
    else:
        names = ["MXFP4", "MXFP8-E4M3", "MXFP6-E2M3", "MXINT8", "MXFP8-E5M2", "MXFP4/rceil", "MXFP8-E4M3/even"]
        return formats.get(names[rng.integers(len(names))])
    return made if rng.random() < 0.3 else made.with_scale(some_scale(rng, rank))


def magnitudes_at_one(form):
    """The magnitudes of a format at T = 0, a scale of 1, or its constant exponent."""
    if isinstance(form, formats.IntegerFormat):
        return np.arange(1.0 * 2 ** (form.bits - 1))
    return np.array(E2M1, float) if isinstance(form, formats.NVFP4Format) else form.magnitudes()


def some_numbers(rng, shape, form, dtype):
    """Values, ties and their neighbours at some scale, bare bits, zeros, infinities."""
    size = int(np.prod(shape, dtype=np.int64))
    kind = rng.integers(5)
    if kind == 0:
        bits = rng.integers(0, 1 << 32, size, dtype=np.uint32).view(np.float32)
        x = np.where(np.isnan(bits), np.float32(1.5), bits).astype(np.float64)
    elif kind == 1:
        x = rng.standard_normal(size) * 2.0 ** rng.integers(-40, 40)
    else:
        values = magnitudes_at_one(form)
        grid = np.concatenate([values, (values[1:] + values[:-1]) / 2, values[-1:] * 1.01, values[-1:] * 3])
        x = rng.choice(grid, size)
        near = np.float64 if dtype == np.float64 else np.float32
        with np.errstate(over="ignore"):
            moved = np.nextafter(x.astype(near), near(rng.choice([-np.inf, np.inf])))
        x = np.where(rng.random(size) < 0.5, x, moved.astype(np.float64)) * rng.choice([-1.0, 1.0], size)
        if kind != 2:
            x = np.ldexp(x, int(rng.integers(-150, 127)))
    if rng.random() < 0.1:
        x = np.where(rng.random(size) < 0.3, rng.choice([0.0, -0.0, np.inf, -np.inf, 2.0**-149, -(2.0**-126)], size), x)
    if rng.random() < 0.03:
        x = np.where(rng.random(size) < 0.3, np.nan, x)
    with np.errstate(over="ignore", under="ignore"):
        return x.astype(dtype).reshape(shape)


def some_shape(rng):
    kind = rng.random()
    if kind < 0.06:
        return ()
    rank = int(rng.integers(1, 5))
    if kind < 0.002 + 0.06:
        return (int(rng.integers(65536, 140000)),)
    shape = [int(n) for n in rng.integers(1, 7 if rank > 2 else 20, rank)]
    if kind > 0.97:
        shape[rng.integers(rank)] = 0
    return tuple(shape)


def restride(rng, x):
    """The same numbers in other strides (stride 0: the numbers of one index)."""
    kind = rng.integers(9)
    if not x.ndim or kind < 3:
        return x
    axis = int(rng.integers(x.ndim))
    if kind == 3:
        order = rng.permutation(x.ndim)
        return np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
    if kind == 4:
        return np.flip(np.ascontiguousarray(np.flip(x, axis)), axis)
    if kind == 5 and x.shape[axis]:
        return np.broadcast_to(np.take(x, [0], axis), x.shape)
    if kind == 6:
        wide = np.full((*x.shape[:-1], 2 * x.shape[-1] + 1), 7, x.dtype)
        wide[..., 1 : 2 * x.shape[-1] : 2] = x
        return wide[..., 1 : 2 * x.shape[-1] : 2]
    if kind == 7:
        held = np.zeros(x.shape, np.dtype([("a", "u1"), ("v", x.dtype), ("b", "u1")]))
        held["v"] = x
        return held["v"]
    return np.asfortranarray(x)


def some_out(rng, x):
    """Memory for a result of x's shape, and what lies around it, which has to stay."""
    kind = rng.integers(5)
    if kind == 0 or not x.ndim:
        return np.full(x.shape, 9, x.dtype)
    if kind == 4 and "struct-out" not in WITHOUT:
        return np.full(x.shape, 9, np.dtype([("v", x.dtype), ("flag", "u1")]))["v"]
    if kind == 1:
        return np.full(x.shape[::-1], 9, x.dtype).T
    if kind == 2:
        return np.full((x.shape[0] * 2, *x.shape[1:]), 9, x.dtype)[::2]
    return np.flip(np.full(x.shape, 9, x.dtype), 0)


class Wrong(AssertionError):
    """A result that differs from the reference."""


def compare(what, got, want, signs=True):
    if got.shape != want.shape:
        raise Wrong(f"{what}: shape {got.shape}, expected {want.shape}")
    wide = got.astype(np.float64)
    same = (wide == want) | (np.isnan(wide) & np.isnan(want))
    if signs:
        same &= (np.signbit(wide) == np.signbit(want)) | np.isnan(want)
    if not same.all():
        place = tuple(int(i) for i in np.argwhere(~same)[0]) if got.ndim else ()
        raise Wrong(f"{what}: {wide[place]!r} at {place}, expected {want[place]!r}")


def to_torch(rng, x):
    """x as a tensor of its own or a narrower type, strides kept where torch has them."""
    writable = x if x.flags.writeable else None
    if writable is None or any(s < 0 or s % x.itemsize for s in x.strides):
        tensor = torch.from_numpy(np.ascontiguousarray(x).reshape(x.shape).copy())
        if not x.flags.writeable and x.ndim and 0 not in x.shape and 0 in x.strides:
            axis = x.strides.index(0)
            tensor = tensor.narrow(axis, 0, 1).expand(x.shape)
    else:
        tensor = torch.from_numpy(x)
    if tensor.ndim == 4 and rng.random() < 0.5:
        tensor = tensor.contiguous(memory_format=torch.channels_last)
    if x.dtype == np.float32 and rng.random() < 0.3:
        tensor = tensor.to(torch.bfloat16)
    return tensor


def left_out(form, x):
    """Whether --without excludes this case."""
    return (
        ("even-float64" in WITHOUT and x.dtype == np.float64 and getattr(form.scale, "policy", "") == ScalePolicy.EVEN)
        or ("posit" in WITHOUT and "posit" in form.name)
        or ("empty" in WITHOUT and not x.size and form.granularity == Granularity.CHANNEL)
    )


def one_product(rng):
    """A product of random codes, with the reference of matmul."""
    m, n, k = (int(size) for size in rng.integers(1, (5, 5, 30)))
    names = [str(rng.choice(products.NAMES)) for _ in range(2)]
    suffixes = ["/channel" if rng.random() < 0.3 else "", "/channel@1" if rng.random() < 0.3 else ""]
    qa, qb = (
        products.random_codes(name + suffix, shape, rng)
        for name, suffix, shape in zip(names, suffixes, ((m, k), (k, n)), strict=True)
    )
    accumulator = products.ACCUMULATORS[rng.integers(len(products.ACCUMULATORS))]
    products.check(qa, qb, accumulator)
    return f"matmul {names} {m} {k} {n} {accumulator}"


def one_call_elsewhere(rng):
    """Rounding in torch operations, which is how tensors on other devices are rounded."""
    form = formats.from_profile(some_profile(rng)) if rng.random() < 0.5 else formats.catalogue()[rng.integers(484)]
    form = form.with_scale(Scale(headroom=int(rng.integers(3)), policy=list(ScalePolicy)[rng.integers(4)]))
    shape = some_shape(rng)
    x = some_numbers(rng, shape, form, [np.float32, np.float64][rng.integers(2)])
    low, high = form.top_range
    given = int(rng.integers(low, high + 1)) if rng.random() < 0.4 else None
    used = int(tops_of(form, x, np.zeros(shape, np.int64), ())) if given is None else given
    keep = bool(rng.random() < 0.2)
    want, _ = round_profile(form.profile, form.largest, x, np.full(shape, used))
    want = np.where(np.isinf(x), x.astype(np.float64), want) if keep else want
    described = f"{form.name} {form.scale} shape {shape} {x.dtype} top {given}, elsewhere"
    got = round_anywhere(form, torch.from_numpy(x), given, keep).numpy()
    if got.dtype != x.dtype:
        raise Wrong(f"{described}: dtype {got.dtype}")
    compare(described, got, want)
    return described


def one_call(seed, number):
    """Call `number` of a seed; returns what was called, raises Wrong or whatever the call raised."""
    rng = np.random.default_rng((seed, number))
    kind = rng.random()
    if kind < 0.04:
        return one_product(rng)
    if kind < 0.12:
        return one_call_elsewhere(rng)
    shape = some_shape(rng)
    form = some_format(rng, len(shape))
    dtype = [np.float32, np.float32, np.float64, np.float16][rng.integers(4)]
    x = restride(rng, some_numbers(rng, shape, form, dtype))
    is_torch = rng.random() < 0.3
    given = to_torch(rng, x) if is_torch else x
    plain = (
        np.ascontiguousarray(given.float().numpy() if given.dtype in (torch.bfloat16, torch.float16) else given.numpy())
        if is_torch
        else x
    )
    plain = plain.reshape(shape)
    if plain.dtype == np.float16:
        plain = plain.astype(np.float32)
    if is_torch and given.dtype != torch.float64:
        plain = plain.astype(np.float32)
    kept = plain.copy()
    if left_out(form, plain):
        return "left out"
    described = (
        f"{form.name} {form.scale} shape {shape} {given.dtype} strides {given.stride() if is_torch else given.strides}"
    )
    mode, options, words, previous = some_mode(rng, form, plain, is_torch)
    chances, before = (np.zeros(shape) if values is None else values for values in (words, previous))
    outside = not isinstance(form, formats.ProfileFormat)
    keep = bool(rng.random() < 0.1)
    if isinstance(form, formats.StandardFormat):
        top, want = None, None
        if mode is not Rounding.NEAREST:
            want = round_standard_in_mode(form, plain, keep, mode, words, previous)
        elif plain.size <= 600:
            want = round_standard(form, plain, keep)
    elif outside:
        labels, groups = labels_of(form.scale, shape)
        top, choose, want = None, rng.random() < 0.4, None
        if isinstance(form, formats.IntegerFormat):
            most = 2 ** (form.bits - 1) - 1
            scales = scales_of(plain, labels, groups, most)
            agree = np.array_equal(form.find_top(given), scales)
            if choose:
                scales = top = np.exp2(rng.uniform(-140, 100, groups if rng.random() < 0.5 else ())).astype(np.float32)
            values, exact = (
                [Fraction(i) for i in range(most + 1)],
                [Fraction(float(s)) for s in np.broadcast_to(scales, groups).flat],
            )
        elif isinstance(form, formats.NVFP4Format):
            scales, found = nvfp4_scales(plain, labels, groups), form.find_top(given)
            agree = np.array_equal(found.blocks, scales.blocks) and found.tensor == scales.tensor
            if choose:
                blocks, tensor = (
                    rng.integers(0, 127, groups).astype(np.uint8),
                    np.float32(np.exp2(rng.uniform(-149, 110))),
                )
                scales = top = formats.NVFP4Scales(np.asarray(blocks, np.uint8), max(tensor, np.float32(2**-149)))
            values, exact = E2M1, [E4M3[code] * Fraction(float(scales.tensor)) for code in scales.blocks.flat]
        else:
            tops = tops_of_codebook(form, plain, labels, groups)
            agree = np.array_equal(form.find_top(given), tops)
            if choose:
                low, high = form.top_range
                tops = top = rng.integers(low, high + 1, groups if rng.random() < 0.5 else ())
            values, exact = None, np.broadcast_to(tops, groups).ravel().tolist()
        if not agree:
            raise Wrong(f"{described}: find_top differs")
        if plain.size <= 600:
            each = np.empty(shape, object)
            each[...] = np.array([*exact, None], object)[labels] if plain.size else each
            if values is None:
                want = round_codebook(form, plain, each, mode, chances, before)
            else:
                want = round_real(values, plain, each, mode, chances, before)
    else:
        labels, groups = labels_of(form.scale, shape)
        top, kind = None, rng.integers(3)
        low, high = form.top_range
        if kind == 0:
            top = (
                int(rng.integers(low, high + 1))
                if rng.random() < 0.5
                else int(np.clip(rng.integers(-20, 20), low, high))
            )
        elif kind == 1:
            top = rng.integers(max(low, -60), high + 1, groups)
        tops = np.broadcast_to(
            tops_of(form, plain, labels, groups) if top is None else np.asarray(top, np.int64), groups
        )
        if not np.array_equal(form.find_top(given), tops_of(form, plain, labels, groups)):
            raise Wrong(f"{described}: find_top differs")
        each = tops.reshape(-1)[labels] if plain.size else np.zeros(shape, np.int64)
        want, index = round_profile(form.profile, form.largest, plain, each, mode, words, previous)
    described += f" top {top} {options}"
    if want is not None and keep and not isinstance(form, formats.StandardFormat):
        want = np.where(np.isinf(plain), plain.astype(np.float64), want)
    out = None
    if rng.random() < 0.4:
        kind = rng.random()
        if is_torch:
            out = torch.full(shape, 9, dtype=torch.float64 if plain.dtype == np.float64 else torch.float32)
        elif kind < 0.25 and x.flags.writeable and x.dtype == plain.dtype:
            out = given = x.copy(order="K")
        elif kind < 0.4 and "overlap-out" not in WITHOUT:
            shift, size = int(rng.integers(-3, 4)), plain.size
            memory = np.zeros(size + 6, plain.dtype)
            given = memory[3 : 3 + size].reshape(shape)
            given[...] = plain
            out = memory[3 + shift : 3 + shift + size].reshape(shape)
        else:
            out = some_out(rng, plain)
    torch.set_num_threads(int(rng.integers(1, 4)))
    encoded = None
    mx = isinstance(form, formats.MicroscalingFormat)
    if np.isnan(plain).any() and mx:
        held = np.zeros(int(np.prod(groups, dtype=np.int64)), bool)
        held[labels[np.isnan(plain)]] = True
        nan = form.encode(given, top=top, **options).decode()
        if not np.array_equal(np.isnan(nan), held[labels]):
            raise Wrong(f"{described}: NaN of blocks")
    elif (
        np.isnan(plain).any()
        and not isinstance(form, formats.StandardFormat)
        and getattr(form, "nan_code", None) is None
    ):
        try:
            form.encode(given, top=top, **options)
        except ValueError:
            pass
        else:
            raise Wrong(f"{described}: encode of NaN")
    elif not keep and not np.isnan(plain).any():
        encoded = form.encode(given, top=top, **options)
    y = form.round(given, top=top, out=out, keep_infinities=keep, **options)
    if out is not None and y is not out:
        raise Wrong(f"{described}: the result is not out")
    got = y.numpy() if is_torch else y
    if got.dtype != plain.dtype:
        raise Wrong(f"{described}: dtype {got.dtype}")
    if want is not None:
        compare(f"{described} out {None if out is None else 'given'}: round", got, want)
    if (out is None or not np.shares_memory(plain, out if not is_torch else out.numpy())) and not np.array_equal(
        plain, kept, equal_nan=True
    ):
        raise Wrong(f"{described}: the input changed")
    if encoded is not None and not np.isnan(got).any():
        if not outside:
            negative = np.signbit(plain) & ((index > 0) | (mx and not form.two_complement))
            signed = (1 << form.bits) - index if form.two_complement else index + (1 << (form.bits - 1))
            codes = np.where(negative, signed, index)
            compare(f"{described}: encode", encoded.codes, codes.astype(np.float64))
            if encoded.top.shape != groups or not np.array_equal(encoded.top, tops):
                raise Wrong(f"{described}: top of encode")
        back = form.decode(encoded.codes, encoded.top)
        compare(f"{described}: decode(encode)", back, got.astype(np.float64), signs=False)
        if hasattr(encoded, "pack") and not outside and form.bits <= 8:
            packed = encoded.pack()
            if len(np.atleast_1d(packed)) * 8 < form.bits * plain.size:
                raise Wrong(f"{described}: pack is too short")
    return described


def fuzz(calls, seed, seconds=None, first=0, report=print, keep_going=False):
    """Run calls; the number of failures, which is at most 1 unless `keep_going`."""
    start = time.perf_counter()
    number, failures, threads = first, 0, torch.get_num_threads()
    for number in range(first, first + calls):
        try:
            one_call(seed, number)
        except Exception as error:
            failures += 1
            report(
                f"FAILED: repeat with `python -m tests.formats.fuzz --seed {seed} --only {number}`: "
                f"{type(error).__name__}: {error}"
            )
            if not isinstance(error, Wrong):
                report(traceback.format_exc())
            if not keep_going:
                break
        if (number + 1 - first) % 10_000 == 0:
            report(f"{number + 1} calls, {time.perf_counter() - start:.0f} s")
        if seconds is not None and time.perf_counter() - start > seconds:
            break
    torch.set_num_threads(threads)
    took = time.perf_counter() - start
    done = number + 1 - first
    report(f"{done} calls, {failures} failures, seed {seed}, {took:.0f} s, {done / took:.0f} calls a second")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--only", type=int, help="repeat this call alone")
    parser.add_argument("--keep-going", action="store_true", help="report every failure instead of the first")
    parser.add_argument("--without", nargs="*", default=[], help="known bugs to get past")
    given = parser.parse_args()
    WITHOUT.update(given.without)
    first, calls = (0, given.calls) if given.only is None else (given.only, 1)
    sys.exit(
        int(fuzz(calls, given.seed, given.seconds, first, lambda line: print(line, flush=True), given.keep_going) > 0)
    )


if __name__ == "__main__":
    main()
