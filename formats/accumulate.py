"""Matrix products of encoded arrays, right to the bit: exact products, and an accumulator that the caller describes.

import formats
q = formats.get("FP134")
formats.matmul(q.encode(x), q.encode(y), accumulator=formats.FormatAccumulator("FP169", top=32))
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from formats.kinds.profile_format import ProfileFormat
from formats.lookup import get
from formats.number_format import Codes, Format
from formats.profile import FLOAT32_SIGNIFICAND_BITS
from formats.scale import Granularity
from numeric_formats.checks import not_allowed

FLOAT64_SIGNIFICAND_BITS = 53
MIN_PRODUCTS_PER_THREAD = 1 << 16


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _check_chunk(chunk: Any) -> None:
    if not _is_whole(chunk):
        raise TypeError(f"chunk is {chunk!r}; a whole number of products is needed")
    if chunk < 1:
        raise ValueError(f"chunk {chunk}: at least 1 product is needed")


def _profile_format(format: Format) -> ProfileFormat:
    """A profile format with the values of this one, in which it saturates and rounds as profile formats do."""
    if isinstance(format, ProfileFormat):
        return format
    given: Any = format
    # A standard format is a profile too (FP169); what some of them have besides would change the sums.
    ordinary = {"signed": True, "zero": True, "even_code_ties": False, "overflow": "saturate"}
    if not hasattr(given, "profile") or any(getattr(given, name, value) != value for name, value in ordinary.items()):
        raise TypeError(
            f"an accumulator in {format.name} was asked for; a signed, saturating format with a precision profile is "
            "needed"
        )
    return ProfileFormat(given.profile, given.bits, name=format.name, largest=getattr(given, "largest", None))


@dataclass(frozen=True)
class Float32Accumulator:
    """Sums in float32: every addition rounds the exact sum once, to nearest even; beyond the largest float32 it is
    infinite and stays so.

    Args:
        chunk: this many products, taken along k, are summed exactly and then added with one rounding; 1 rounds after
            every product.

    Raises:
        TypeError: for a chunk that is not a whole number.
        ValueError: for one below 1.

    Source:
        IEEE 754-2019 addition.

    >>> import formats, numpy as np
    >>> a = formats.get("float16").encode(np.float32([[4096, 1 / 4096, -4096]]))
    >>> ones = formats.get("float16").encode(np.ones((3, 1), np.float32))
    >>> [formats.matmul(a, ones, formats.Float32Accumulator(chunk)).item() for chunk in (1, 3)]
    [0.0, 0.000244140625]
    """

    chunk: int = 1

    def __post_init__(self) -> None:
        _check_chunk(self.chunk)


@dataclass(frozen=True)
class FormatAccumulator:
    """Sums in the values of a profile format, or of a saturating standard format, at a fixed top exponent.

    Every addition rounds the exact sum once, to nearest as `Format.round` does (docs/definitions/formats.md section 3),
    and saturates at the largest value.

    Args:
        format: the format or its name, kept as a ProfileFormat; its own rule for the scale, or constant exponent, is
            not used.
        top: the top exponent, in `format.top_range`.
        chunk: this many products, taken along k, are summed exactly and then added with one rounding; 1 rounds after
            every product.

    Raises:
        TypeError: for formats that are not signed, saturating and given by a profile, and for what is no whole number.
        ValueError: for formats, exponents and chunks that cannot be used.

    Source:
        FP169, the 16-bit sums of S. Lee, J. Park, D. Jeon, ICLR 2022.

    >>> import formats, numpy as np
    >>> row = formats.get("bfloat16").encode(np.ones((1, 2000), np.float32))
    >>> column = formats.get("bfloat16").encode(np.ones((2000, 1), np.float32))
    >>> formats.matmul(row, column, formats.FormatAccumulator("FP169", top=32)).item()
    1024.0
    """

    format: Format | str
    top: int
    chunk: int = 1

    def __post_init__(self) -> None:
        format = _profile_format(get(self.format))
        if format.granularity in (Granularity.CHANNEL, Granularity.BLOCK):
            raise ValueError(
                f"{format.name} has a scale per {format.granularity}; an accumulator's format has one fixed top "
                "exponent"
            )
        object.__setattr__(self, "format", format)
        if not _is_whole(self.top):
            raise TypeError(f"top is {self.top!r}; a whole number is needed")
        low, high = format.top_range
        if not low <= self.top <= high:
            raise ValueError(
                f"top {self.top} is outside {low} to {high}, where all values of {format.name} are float32 numbers"
            )
        _check_chunk(self.chunk)


@dataclass(frozen=True)
class ExactAccumulator:
    """Sums exactly, in fixed point as wide as it takes (Kulisch), and rounds once at the end, to nearest even.

    Args:
        result: "float32" (infinite beyond the largest) or "float64", which is the exact sum wherever a float64 can hold
            it.

    Raises:
        ValueError: for another result.

    Source:
        U. Kulisch's long accumulator.

    >>> import formats, numpy as np
    >>> a = formats.get("bfloat16").encode(np.float32([[1e30, 1, -1e30]]))
    >>> ones = formats.get("bfloat16").encode(np.ones((3, 1), np.float32))
    >>> formats.matmul(a, ones, formats.ExactAccumulator()).item(), formats.matmul(a, ones).item()
    (1.0, 0.0)
    """

    result: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        if self.result not in ("float32", "float64"):
            raise not_allowed("result", self.result, ("float32", "float64"))


Accumulator = Float32Accumulator | FormatAccumulator | ExactAccumulator


def matmul(
    qa: Codes, qb: Codes, accumulator: Accumulator = Float32Accumulator()
) -> NDArray[np.float32] | NDArray[np.float64]:
    """The product of two encoded matrices, with the rounding of the given accumulator and no other.

    Args:
        qa: codes of shape (m, k), with one scale, or one for each row; of any format whose values are float32 numbers.
        qb: codes of shape (k, n), with one scale, or one for each column.
        accumulator: a Float32Accumulator, FormatAccumulator or ExactAccumulator. Products are exact and are added in
            the order of k; sums start at 0.

    Returns:
        a new (m, n) array: float32, or float64 for ExactAccumulator("float64"). A zero is +0. The result does not
        depend on the number of threads, which is `formats.kernel.threads.available()` at most.

    Raises:
        TypeError: for anything but Codes and an accumulator.
        ValueError: for shapes that do not fit, a scale that may vary along k, a code that stands for no finite float32,
            or more than 2^30 products a sum.

    Source:
        docs/definitions/formats.md section 3 for the values; each accumulator's docstring for its rounding.

    >>> import formats, numpy as np
    >>> a, b = (formats.get("INT8").encode(np.float32(x)) for x in ([[1, 0.5]], [[0.25], [-1]]))
    >>> formats.matmul(a, b)
    array([[-0.25]], dtype=float32)
    """
    _check_operands(qa, qb)
    if not isinstance(accumulator, Accumulator):
        raise TypeError(
            f"accumulator is {accumulator!r}; a Float32Accumulator, FormatAccumulator or ExactAccumulator is needed"
        )
    a, b = _values(qa, "qa"), _values(qb, "qb")
    if isinstance(accumulator, ExactAccumulator):
        return _exact(a, b, accumulator.result)
    return _rounded(a, b, accumulator)


def _per_line(q: Codes, axis: int) -> bool:
    """Whether each index of this axis of a matrix has a scale of its own, and nothing else has."""
    scale = q.format.scale
    return scale.per is Granularity.CHANNEL and scale.axis is not None and scale.axis % 2 == axis


def _check_operands(qa: Codes, qb: Codes) -> None:
    """Both are matrices that fit, and neither scale varies along k."""
    from formats.kernel.accumulate import MOST_TERMS

    for name, q, axis in (("qa", qa, 0), ("qb", qb, 1)):
        if not isinstance(q, Codes):
            raise TypeError(f"{name} is of type {type(q).__name__}; the Codes that Format.encode returns are needed")
        if np.ndim(q.codes) != 2:
            raise ValueError(f"{name} has shape {np.shape(q.codes)}; a matrix is needed")
        if q.format.granularity is not Granularity.TENSOR and not _per_line(q, axis):
            kept = "rows (channel@0)" if axis == 0 else "columns (channel@1)"
            raise ValueError(
                f"{name} is encoded in {q.format.name}, whose scale may vary along k; allowed are one scale, or one "
                f"for each of the {kept}"
            )
    if qa.codes.shape[1] != qb.codes.shape[0]:
        raise ValueError(f"qa has shape {qa.codes.shape} and qb {qb.codes.shape}; (m, k) and (k, n) are needed")
    if qa.codes.shape[1] > MOST_TERMS:
        raise ValueError(f"k is {qa.codes.shape[1]}; at most {MOST_TERMS} products can be summed")


def _values(q: Codes, name: str) -> NDArray[np.float64]:
    """The decoded matrix in C order; exact, since all values are float32."""
    with np.errstate(over="ignore"):
        values = q.decode()
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds codes of {q.format.name} that stand for no finite float32 number")
    return np.ascontiguousarray(values, np.float64)


def _width(values: NDArray[np.float64], along: int) -> int:
    """The fewest bits w such that on each line along an axis all values are at most 2^w - 1 multiples of one power of
    two."""
    fraction, exponent = np.frexp(values)
    significand = np.ldexp(np.abs(fraction), FLOAT32_SIGNIFICAND_BITS).astype(np.int64)
    _, last_bit = np.frexp((significand & -significand).astype(np.float64))
    unit = exponent - FLOAT32_SIGNIFICAND_BITS + last_bit - 1
    nonzero = significand != 0
    # Larger and smaller than any exponent, so that a line of zeros has a negative width.
    highest = exponent.max(axis=along, where=nonzero, initial=-(1 << 12))
    lowest = unit.min(axis=along, where=nonzero, initial=1 << 12)
    return int((highest - lowest).max(initial=0))


def _fits_float64(a: NDArray[np.float64], b: NDArray[np.float64], terms: int) -> bool:
    """Whether every sum of at most `terms` products, in any order, is exact in float64."""
    if terms <= 1:
        return True
    return _width(a, 1) + _width(b, 0) + (terms - 1).bit_length() <= FLOAT64_SIGNIFICAND_BITS


def _exact(a: NDArray[np.float64], b: NDArray[np.float64], result: str) -> NDArray[np.float32] | NDArray[np.float64]:
    from formats.kernel.accumulate import exact_rows

    to_float32 = result == "float32"
    if _fits_float64(a, b, a.shape[1]):
        sums = a @ b + 0.0  # exact in whatever order; no -0
    else:
        sums = np.empty((a.shape[0], b.shape[1]))
        columns = np.ascontiguousarray(b.T)
        _by_rows(lambda rows: exact_rows(a[rows], columns, to_float32, sums[rows]), sums, a.shape[1])
    if not to_float32:
        return sums
    with np.errstate(over="ignore"):
        return sums.astype(np.float32) + np.float32(0)  # a sum that rounds to -0 gives +0


def _rounded(
    a: NDArray[np.float64], b: NDArray[np.float64], accumulator: Float32Accumulator | FormatAccumulator
) -> NDArray[np.float32]:
    from formats.kernel.accumulate import long_rows, short_rows

    chunk = max(1, min(int(accumulator.chunk), a.shape[1]))
    top, largest, powers = _grid(accumulator)
    out = np.empty((a.shape[0], b.shape[1]), np.float32)
    if _fits_float64(a, b, chunk):
        _by_rows(lambda rows: short_rows(a[rows], b, chunk, top, largest, powers, out[rows]), out, a.shape[1])
    else:
        columns = np.ascontiguousarray(b.T)
        _by_rows(lambda rows: long_rows(a[rows], columns, chunk, top, largest, powers, out[rows]), out, a.shape[1])
    return out


def _grid(accumulator: Float32Accumulator | FormatAccumulator) -> tuple[int, float, NDArray[np.float64]]:
    """What the kernel knows of an accumulator: top exponent, largest value, and 2^52 steps of each binade and of what
    lies below; none for float32."""
    if isinstance(accumulator, Float32Accumulator):
        return 0, 0.0, np.empty(0)
    format, top = accumulator.format, int(accumulator.top)
    assert isinstance(format, ProfileFormat)  # made one by FormatAccumulator
    step = [1 - p - d for d, p in enumerate(format.profile)]
    # Below the smallest value the local step is that value.
    powers = np.ldexp(1.0, np.array([*step, 1 - format.binades]) + (top + FLOAT64_SIGNIFICAND_BITS - 1))
    return top, format.max(top), powers


def _by_rows(task: Callable[[slice], None], out: NDArray[Any], products: int) -> None:
    """Run a compiled task on all rows of `out`, each of whose elements takes `products`, in as many threads as they are
    worth."""
    from formats.kernel import threads

    count = min(threads.available(), out.shape[0], out.size * products // MIN_PRODUCTS_PER_THREAD)
    if count <= 1:
        task(slice(None))
        return
    bounds = [out.shape[0] * i // count for i in range(count + 1)]
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(task, map(slice, bounds[:-1], bounds[1:])))
