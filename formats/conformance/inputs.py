"""The kinds of inputs that roundings get wrong, for any format at a fixed scale."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from formats.conformance.reference import FixedReference
from formats.hardware.vectors import INFINITY, SIGN

Inputs = NDArray[np.float32]
NAN_PAYLOADS = (0x000001, 0x000002, 0x00FFFF, 0x200000, 0x3FFFFF, 0x400000, 0x400001, 0x7FE000, 0x7FFFFF)


class Category(StrEnum):
    """What is hard about an input.

    values: the format's, from the smallest normal one up. ties: the midpoints of neighbouring values, subnormal ones
    too, that are float32.
    neighbours of ties: the float32 before and after each. subnormals: values below the smallest normal one, what is
    beside them, and what is well below the smallest. overflow: finite magnitudes above the largest value. signed zero:
    zeros, and what rounds to them; only here the sign of a zero counts. random bit patterns: of float32, half of them
    with exponents in the format's range.
    """

    VALUES = "values"
    TIES = "ties"
    NEIGHBOURS = "neighbours of ties"
    SUBNORMALS = "subnormals"
    OVERFLOW = "overflow"
    NAN = "NaN"
    INFINITIES = "infinities"
    SIGNED_ZERO = "signed zero"
    RANDOM = "random bit patterns"


def inputs_by_category(reference: FixedReference, count: int, rng: np.random.Generator) -> dict[Category, Inputs]:
    """The inputs of every category, in order of magnitude except the random ones; at most `count` in each."""
    values, ties = reference.values(), reference.ties()
    finite = np.abs(values[values != 0])
    smallest, normal = float(finite.min()), reference.smallest_normal()
    zero = np.zeros(1, np.float32)
    centres = _float32(ties)
    exact = centres[centres == ties]

    beyond = [_beyond(values[-1], values[-1] - values[-2], count, rng)]
    if values[0] < 0:
        beyond.append(-_beyond(-values[0], values[1] - values[0], count, rng))
    # Well below half of the smallest value: the half itself is a tie, and its neighbours are among those of ties.
    tiny = _float32(smallest * np.array([0.49, 0.25, 2.0**-10]))
    tiny = np.concatenate([zero, tiny, np.array([1, 2, 0x400000, 0x7FFFFF], np.uint32).view(np.float32)])
    tiny = np.concatenate([tiny, -tiny])
    payloads = np.array(NAN_PAYLOADS, np.uint32) | np.uint32(INFINITY)

    found = {
        Category.VALUES: _float32(values if normal is None else values[np.abs(values) >= normal]),
        Category.TIES: exact,
        Category.NEIGHBOURS: np.concatenate([_before(centres), _after(centres), centres[centres != ties]]),
        Category.OVERFLOW: np.concatenate(beyond),
        Category.NAN: np.concatenate([payloads, payloads | np.uint32(SIGN)]).view(np.float32),
        Category.INFINITIES: np.array([np.inf, -np.inf], np.float32),
        Category.SIGNED_ZERO: tiny[(tiny == 0) | (reference.round(tiny) == 0)],
    }
    if normal is not None:
        low = values[np.abs(values) < normal]
        quarters = (
            np.concatenate([low + 0.25 * smallest, low - 0.25 * smallest]) if values[0] < 0 else low + 0.25 * smallest
        )
        near = _float32(low)
        found[Category.SUBNORMALS] = np.concatenate(
            [near, _before(near), _after(near), _float32(quarters), tiny[tiny != 0]]
        )
    if values[0] >= 0:
        # What becomes of negative numbers where there is no sign is one question; the random patterns ask it.
        found = {
            category: x if category in (Category.NAN, Category.INFINITIES, Category.SIGNED_ZERO) else x[x >= 0]
            for category, x in found.items()
        }
    ordered = {category: _thinned(_in_order(found[category]), count, rng) for category in Category if category in found}
    return {**ordered, Category.RANDOM: _random(smallest, float(finite.max()), count, rng)}


def _float32(x: NDArray[np.float64]) -> Inputs:
    return x.astype(np.float32)


def _before(x: Inputs) -> Inputs:
    return np.nextafter(x, np.float32(-np.inf))


def _after(x: Inputs) -> Inputs:
    return np.nextafter(x, np.float32(np.inf))


def _beyond(largest: float, step: float, count: int, rng: np.random.Generator) -> Inputs:
    """float32 numbers above `largest`: around where rounding it would end, powers of two, and random ones, most of them
    near."""
    limit = float(np.finfo(np.float32).max)
    hard = _float32(
        np.minimum(
            np.concatenate([largest + step * np.arange(0, 8.25, 0.25), np.ldexp(1.0, np.arange(-20, 128))]), limit
        )
    )
    hard = np.concatenate([hard, _before(hard), _after(hard), np.array([limit], np.float32)])
    span = np.log2(limit / largest)
    few = min(count, 2000)
    near, far = largest * np.exp2(rng.uniform(0, min(2, span), few)), largest * np.exp2(rng.uniform(0, span, few))
    x = np.concatenate([hard, _float32(np.minimum(near, limit)), _float32(np.minimum(far, limit))])
    return x[np.isfinite(x) & (x > largest)]


def _random(smallest: float, largest: float, count: int, rng: np.random.Generator) -> Inputs:
    patterns = rng.integers(0, 1 << 32, count, dtype=np.uint32)
    # Most exponents of float32 are far outside an 8-bit format, so half of the patterns get one from two binades around
    # it.
    low, high = (
        max(0, min(255, 127 + int(np.frexp(value)[1]) - 1 + more)) for value, more in ((smallest, -2), (largest, 2))
    )
    inside = patterns[: count // 2]
    inside &= np.uint32(0x807FFFFF)
    inside |= rng.integers(low, high + 1, len(inside), dtype=np.uint32) << np.uint32(23)
    return patterns.view(np.float32)


def _in_order(x: Inputs) -> Inputs:
    """Each pattern once, by magnitude, the positive one of two first."""
    # The sign as the lowest bit: sorting the patterns turned around is sorting by magnitude.
    patterns = x.view(np.uint32)
    turned = np.unique((patterns << np.uint32(1)) | (patterns >> np.uint32(31)))
    return ((turned >> np.uint32(1)) | (turned << np.uint32(31))).view(np.float32)


def _thinned(x: Inputs, count: int, rng: np.random.Generator) -> Inputs:
    return x if len(x) <= count else x[np.sort(rng.choice(len(x), count, replace=False))]
