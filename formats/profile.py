"""Precision profiles: how many significant bits each binade keeps, as tuples, and the exact arithmetic on them.

Source: S. Lee, J. Park, D. Jeon, "Toward Efficient Low-Precision Training: Data Format Optimization and Hysteresis
Quantization", ICLR 2022, section 2.3.

Binade d counts down from the top exponent T and holds magnitudes in [2^(T-d), 2^(T-d+1)); a profile keeps
`profile[d]` significant bits there, the leading one included.
"""

from collections.abc import Iterable
from fractions import Fraction

Profile = tuple[int, ...]

FLOAT32_LARGEST_EXPONENT = 127
FLOAT32_SMALLEST_EXPONENT = -149
FLOAT32_SIGNIFICAND_BITS = 24
MOST_BINADES = FLOAT32_LARGEST_EXPONENT - FLOAT32_SMALLEST_EXPONENT + 1


def check(profile: Iterable[int]) -> Profile:
    """The profile as a tuple; ValueError or TypeError unless some float32 scale holds all of its values."""
    try:
        values = tuple(profile)
    except TypeError:
        raise TypeError(f"a profile is a sequence of significant bits, one per binade, not {profile!r}") from None
    if not values:
        raise ValueError("a profile needs at least one binade")
    for d, p in enumerate(values):
        if not isinstance(p, int) or isinstance(p, bool):
            raise TypeError(f"binade {d} of the profile keeps {p!r} significant bits; a whole number is needed")
        if not 1 <= p <= FLOAT32_SIGNIFICAND_BITS:
            raise ValueError(f"binade {d} of the profile keeps {p} significant bits; 1 to 24 are allowed")
    low, high = top_range(values)
    if low > high:
        raise ValueError(f"no scale makes all values of this profile of {len(values)} binades float32 numbers")
    return values


def check_bits(bits: int) -> None:
    """ValueError unless codes of so many bits are supported."""
    if not isinstance(bits, int) or not 2 <= bits <= 16:
        raise ValueError(f"{bits!r} bits: 2 to 16 are allowed")


def magnitude_count(profile: Profile) -> int:
    """Number of magnitudes, zero included."""
    return 1 + sum(1 << (p - 1) for p in profile)


def magnitudes(profile: Profile) -> list[Fraction]:
    """All magnitudes at T = 0, ascending, zero first, exactly."""
    values = [Fraction(0)]
    for d in reversed(range(len(profile))):
        p = profile[d]
        step = Fraction(2) ** (1 - p - d)
        values.extend(step * multiple for multiple in range(1 << (p - 1), 1 << p))
    return values


def top_range(profile: Profile) -> tuple[int, int]:
    """The smallest and the largest T for which every value of the profile is a float32."""
    lowest_bit = max(d + p - 1 for d, p in enumerate(profile))
    return FLOAT32_SMALLEST_EXPONENT + lowest_bit, FLOAT32_LARGEST_EXPONENT


def fixed(bits: int) -> Profile:
    """Fixed point, INTn: n-1, n-2, ..., 1."""
    return tuple(range(bits - 1, 0, -1))


def minifloat(exponent_bits: int, fraction_bits: int) -> Profile:
    """FP1xy with gradual underflow and no special values: [y+1] * (2^x - 1), then y, ..., 1."""
    return (fraction_bits + 1,) * ((1 << exponent_bits) - 1) + tuple(range(fraction_bits, 0, -1))


def block_minifloat(exponent_bits: int, fraction_bits: int) -> Profile:
    """The elements of BM formats: FP1xy, and without exponent bits fixed point."""
    return minifloat(exponent_bits, fraction_bits) if exponent_bits else fixed(fraction_bits + 1)


def tapered(bits: int, upper: int, run: int, start: int) -> Profile | None:
    """The paper's mixtures of float and fixed point, T<bits>.<upper>x<run>@<start>.

    A run of `run` binades keeps `upper` bits and begins `start` binades below the top; the other body binades keep one
    bit less, as many as 2^(bits-1) magnitudes allow; then upper-2, ..., 1. None where no such profile exists.
    """
    if not 2 <= upper <= bits - 1 or run < 0 or start < 0:
        return None
    lower = (1 << (bits - upper + 1)) - 1 - 2 * run
    if lower < 0 or start > lower:
        return None
    body = (upper - 1,) * start + (upper,) * run + (upper - 1,) * (lower - start)
    return body + tuple(range(upper - 2, 0, -1))


def written(profile: Profile) -> str:
    """The profile with runs shortened, as in "4x2,5x3,4x7,3,2,1"."""
    parts: list[tuple[int, int]] = []
    for p in profile:
        if parts and parts[-1][0] == p:
            parts[-1] = (p, parts[-1][1] + 1)
        else:
            parts.append((p, 1))
    return ",".join(str(p) if count == 1 else f"{p}x{count}" for p, count in parts)
