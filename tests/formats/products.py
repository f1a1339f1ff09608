"""Products of encoded matrices by definition: exact rationals that share nothing with formats.accumulate, and matrices
of random codes to try."""

from fractions import Fraction

import numpy as np

import formats
from formats import Codes
from formats.accumulate import ExactAccumulator, Float32Accumulator, FormatAccumulator, matmul

NAMES = ("INT8", "FP134", "FP143", "FP152", "T8.5x3@2", "profile:8:5,5,6,5,5,4,4,3,3,3,2,1")
# FP169, written so that it is the profile with a free top exponent, not the standard format with a constant one.
MASTER = "profile:16:10x63,9,8,7,6,5,4,3,2,1"
ACCUMULATORS = (
    Float32Accumulator(),
    Float32Accumulator(chunk=4),
    FormatAccumulator("FP169", top=32),
    FormatAccumulator(MASTER, top=3, chunk=2),
    FormatAccumulator(MASTER, top=4, chunk=100),
    FormatAccumulator("INT8", top=4),
    FormatAccumulator("FP152", top=2, chunk=3),
    FormatAccumulator("profile:4:1x7", top=3),
    FormatAccumulator("profile:8:5,4", top=4),
    FormatAccumulator("profile:8:5,5,6,5,5,4,4,3,3,3,2,1", top=5, chunk=3),
    ExactAccumulator(),
    ExactAccumulator("float64"),
)


def label(accumulator):
    """A short name for a test."""
    parts = [type(accumulator).__name__.removesuffix("Accumulator")]
    parts += [str(getattr(accumulator, name)) for name in ("top", "chunk", "result") if hasattr(accumulator, name)]
    return "-".join([*parts, *([accumulator.format.name] if hasattr(accumulator, "format") else [])])


def power(exponent):
    return Fraction(2) ** exponent


def binade(x):
    """floor(log2) of a positive rational."""
    exponent = x.numerator.bit_length() - x.denominator.bit_length()
    return exponent if power(exponent) <= x else exponent - 1


def to_multiple(x, step):
    """The nearest multiple of a step, ties to the even one (as round does for a Fraction)."""
    return round(x / step) * step


def to_float32(x):
    if x == 0:
        return x
    rounded = to_multiple(x, power(max(binade(abs(x)), -126) - 23))
    return rounded if abs(rounded) < power(128) else float("inf") * (1 if x > 0 else -1)


def to_format(x, profile, top):
    if x == 0:
        return x
    largest = (2 ** profile[0] - 1) * power(top - profile[0] + 1)
    d = top - binade(min(abs(x), largest))
    step = power(top - d - profile[d] + 1) if d < len(profile) else power(top - len(profile) + 1)
    return max(-largest, min(largest, to_multiple(x, step)))


def value(format, code, top):
    """What a code stands for, from the profile, counting up from the lowest binade."""
    half = 1 << (format.bits - 1)
    if format.name.startswith("INT"):
        return (code if code < half else code - 2 * half) * power(top - format.profile[0] + 1)
    index, sign = code % half, -1 if code >= half else 1
    for d in reversed(range(len(format.profile))):
        size = 1 << (format.profile[d] - 1)
        if index <= size:
            return sign * (size + index - 1) * power(top - d - format.profile[d] + 1) if index else Fraction(0)
        index -= size
    raise AssertionError(f"{code} is no code of {format.name}")


def rationals(q):
    """The matrix that codes stand for, as rows of rationals."""
    rows, columns = q.codes.shape
    if q.top.ndim == 0:
        tops = np.broadcast_to(q.top, q.codes.shape)
    else:
        tops = np.broadcast_to(q.top.reshape((-1, 1) if q.format.scale.axis == 0 else (1, -1)), q.codes.shape)
    known = {
        pair: value(q.format, *pair) for pair in set(zip(q.codes.ravel().tolist(), tops.ravel().tolist(), strict=True))
    }
    return [[known[int(q.codes[i, j]), int(tops[i, j])] for j in range(columns)] for i in range(rows)]


def dot(x, y, accumulator):
    products = [a * b for a, b in zip(x, y, strict=True)]
    if isinstance(accumulator, ExactAccumulator):
        total = sum(products, Fraction(0))
        return float(to_float32(total) if accumulator.result == "float32" else total)
    total = Fraction(0)
    for first in range(0, len(products), accumulator.chunk):
        exact = total + sum(products[first : first + accumulator.chunk])
        if isinstance(accumulator, Float32Accumulator):
            total = to_float32(exact) if abs(total) < power(128) else total
        else:
            total = to_format(exact, accumulator.format.profile, accumulator.top)
    return float(total)


def check(qa, qb, accumulator):
    """Equal to the reference in every element, and no -0; returns the result."""
    got = matmul(qa, qb, accumulator=accumulator)
    assert got.dtype == (np.float64 if accumulator == ExactAccumulator("float64") else np.float32)
    assert got.shape == (qa.codes.shape[0], qb.codes.shape[1])
    a, b = rationals(qa), rationals(qb)
    expected = [[dot(row, [line[j] for line in b], accumulator) for j in range(got.shape[1])] for row in a]
    assert got.tolist() == expected
    assert not np.signbit(got[got == 0]).any()
    return got


def valid_codes(format):
    half = 1 << (format.bits - 1)
    if format.name.startswith("INT"):
        return np.arange(2 * half)
    index = np.arange(half - format.spare_codes)
    return np.concatenate([index, half + index[1:]])


def random_codes(name, shape, rng, top=None):
    """Any codes of the format, each as likely."""
    format = formats.get(name)
    codes = rng.choice(valid_codes(format), shape).astype(np.uint8 if format.bits <= 8 else np.uint16)
    if top is None:
        groups = () if format.granularity == "tensor" else (shape[format.scale.axis],)
        top = rng.integers(-3, 4, groups)
    return Codes(codes, np.asarray(top, np.int64), format)
