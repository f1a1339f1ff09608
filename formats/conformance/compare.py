"""Which of another library's roundings are exact? Every kind of hard input, compared bit for bit with the exact
emulator.

What each library means, where its documentation leaves a choice:

- ml_dtypes: `astype` to the type and back overflows as overflow="standard" here.
- torch: `Tensor.to`; its float8 types overflow as the standard says, but E4M3 saturates from torch 2.12 on.
- gfloat: both its rounding functions, to nearest even, with and without saturation.
- qtorch: `float_quantize(exp, man)` is documented to round to nearest even, with a bias of 2^(exp-1) and without
subnormal numbers. Its largest
  value (480 for exp=4, man=3) and its smallest (2^-9 there) are those of bias 2^(exp-1) - 1 with gradual underflow and
  without special values: `minifloat(exp, man, bias=2^(exp-1) - 1)`. So that is what it is compared with. NaN is
  documented as not handled; what becomes of it is shown. `fixed_point_quantize` is documented to take ties down, and
  takes them to even, with which it is compared.
- torchao: `MXTensor.to_mx(...).dequantize(float32)` in its four modes of scale, which are the policies here;
`NVFP4Tensor` with the tensor scale that
  its own `per_tensor_amax_to_scale` gives. It keeps NVFP4's block scales at 2^-6 or above, and multiplies them before
  the element.
- brevitas: `QuantIdentity` with its OCP quantizers, at a scale of 1; its MX quantizers with their own.
- pychop: `Chop(exp_bits, sig_bits)` and FaultChop's named formats are IEEE 754's kind, where the highest exponent is
infinity and NaN ("q43"
  has emax 7: E4M3IEEE, not OCP's E4M3); `p3109_quantize` is the draft.

None of these is imported before it is asked for.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats import profile as profiles
from formats.conformance.blocks import BlockReference, block_reference
from formats.hardware.vectors import INFINITY, SIGN
from formats.kinds.codebook_format import CodebookFormat
from formats.kinds.profile_format import ProfileFormat
from formats.kinds.standard_format import NanCodes, Overflow, StandardFormat, minifloat, standard
from formats.names import get
from formats.number_format import Format
from formats.scale import Granularity

Inputs = NDArray[np.float32]
Rounds = Callable[[Inputs], Any]
SLOW = 300
"""Inputs in a category for functions that round one number at a time."""
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


@dataclass(frozen=True)
class Check:
    """How one rounding did on one category of inputs.

    subject: what was checked, as the library calls it. format: what it was compared with. inputs: how many were tried;
    mismatches: how many of them came out otherwise. example: the first mismatch, as "input (hexadecimal): got a,
    expected b"; "" where there is none.
    """

    subject: str
    format: str
    category: Category
    inputs: int
    mismatches: int
    example: str


@dataclass(frozen=True)
class _Reference:
    """A format at a fixed scale. (One with a scale per block: `BlockReference`.)"""

    format: StandardFormat | CodebookFormat | ProfileFormat
    top: int

    @property
    def name(self) -> str:
        return self.format.name if isinstance(self.format, StandardFormat) else f"{self.format.name} at top {self.top}"

    def round(self, x: Inputs) -> NDArray[np.float64]:
        return np.asarray(self.format.round(x, top=self.top), np.float64)

    def values(self) -> NDArray[np.float64]:
        """All values, ascending, once each."""
        if isinstance(self.format, CodebookFormat):
            return self._mirrored(np.array(self.format.values), self.format.signed)
        return self._mirrored(
            self.format.magnitudes(self.top), not isinstance(self.format, StandardFormat) or self.format.signed
        )

    def ties(self) -> NDArray[np.float64]:
        """Where rounding changes from one value to the next."""
        if isinstance(self.format, CodebookFormat) and self.format.boundaries is not None:
            return self._mirrored(np.array(self.format.boundaries), self.format.signed)
        values = self.values()
        return (values[1:] + values[:-1]) / 2

    def smallest_normal(self) -> float | None:
        """The smallest value of the lowest binade that keeps all its bits; None where there are no binades."""
        if isinstance(self.format, CodebookFormat):
            return None
        profile = self.format.profile
        rising = 0
        while rising < len(profile) and profile[-1 - rising] == rising + 1:
            rising += 1
        # The last of the binades that keep 1, 2, 3, ... bits from below is the lowest normal one.
        below = max(rising - 1, 0)
        return float(np.ldexp(1.0, self.top - (len(profile) - below - 1)))

    @staticmethod
    def _mirrored(values: NDArray[np.float64], signed: bool) -> NDArray[np.float64]:
        return np.unique(np.concatenate([-values, values])) if signed else values


@dataclass(frozen=True)
class _Subject:
    """A rounding to check.

    defined: which inputs mean something to the library, where not all do. most: how many inputs a category may have,
    where it is slow.
    """

    name: str
    reference: _Reference | BlockReference
    function: Rounds
    defined: Callable[[Inputs], NDArray[np.bool_]] | None = None
    most: int | None = None


def verify(target: str, as_format: str | None = None, inputs: int = 200_000, seed: int = 0) -> list[Check]:
    """Compare a library's roundings, or a function of the caller's, with the exact emulator: one `Check` per rounding
    and category.

    target: a library of `LIBRARIES`, or "package.module:function", a function that takes a float32 array of one
    dimension and returns one of the same shape; the current directory is searched for it too.
    as_format: the format that the function claims: any name that `formats.get` knows of a format with one scale, such
    as E4M3 (saturating), E4M3/standard, E3M4 or FP134, which is taken at top exponent 0; or with a scale for each run
    of elements, such as MXFP4, MXFP8-E4M3/rceil, NVFP4 or INT8/block16. Of a library, only roundings to this format are
    checked.
    inputs: how many there are in a category at most. seed: of the random ones.

    Values are compared exactly, NaN equals NaN, and zeros of different sign differ in the category "signed zero" only.
    Categories of which the library says that it does not define them are left out. Of a block format, inputs stand in
    blocks that begin with the largest value, so that the scale is known, and the random ones are blocks of any scale;
    infinities, of which OCP says nothing, are left out, and in a block with NaN only NaN counts, since whether the
    others become NaN too is a choice.

    Raises ValueError for an unknown library or one that is not installed, for a function that does not exist, raises,
    or returns another shape, and for formats that do not fit.
    """
    if inputs < 1:
        raise ValueError(f"inputs {inputs}: at least 1 is needed")
    subjects = [_function(target, as_format)] if ":" in target else _library(target, as_format)
    return [check for subject in subjects for check in _checks(subject, inputs, seed)]


# Inputs.


def _in_blocks(reference: BlockReference, count: int, rng: np.random.Generator) -> dict[Category, Inputs]:
    """The inputs of every category but infinities, in blocks; somewhat more than `count` in each at most, for what
    makes the scale known."""
    single = _inputs(_Reference(reference.element, reference.top), count, rng)
    left_out = (Category.INFINITIES, Category.RANDOM)
    found = {category: reference.arranged(x) for category, x in single.items() if category not in left_out}
    return {**found, Category.RANDOM: reference.random(count, rng)}


def _inputs(reference: _Reference, count: int, rng: np.random.Generator) -> dict[Category, Inputs]:
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


# Comparison.


def _checks(subject: _Subject, count: int, seed: int) -> Iterator[Check]:
    most = count if subject.most is None else min(count, subject.most)
    # Casts to types without infinity, and midpoints beyond float32, overflow as they should.
    with np.errstate(all="ignore"):
        rng, reference = np.random.default_rng(seed), subject.reference
        inputs = (
            _in_blocks(reference, most, rng) if isinstance(reference, BlockReference) else _inputs(reference, most, rng)
        )
        for category, candidates in inputs.items():
            x = candidates if subject.defined is None else candidates[subject.defined(candidates)]
            if x.size:
                yield _compare(subject, category, x)


def _compare(subject: _Subject, category: Category, x: Inputs) -> Check:
    got, expected = _apply(subject, category, x), subject.reference.round(x)
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    if category is Category.NAN and isinstance(subject.reference, BlockReference):
        same |= ~np.isnan(x)
    if category is Category.SIGNED_ZERO:
        same &= (np.signbit(got) == np.signbit(expected)) | np.isnan(expected)
    wrong = np.flatnonzero(~same)
    example = ""
    if wrong.size:
        first = wrong[0]
        example = f"{_hexadecimal(x[first])}: got {got[first]:.9g}, expected {expected[first]:.9g}"
    return Check(subject.name, subject.reference.name, category, len(x), len(wrong), example)


def _apply(subject: _Subject, category: Category, x: Inputs) -> NDArray[np.float64]:
    """What the subject makes of x, as float64; ValueError where it fails."""
    try:
        # A copy: a function may well round in place.
        result = np.asarray(subject.function(x.copy()))
    except Exception as error:
        raise ValueError(f"{subject.name} raised {type(error).__name__} on {category}: {_first_line(error)}") from error
    if result.shape != x.shape:
        raise ValueError(
            f"{subject.name} returned shape {result.shape} for an array of shape {x.shape}; the same shape is needed"
        )
    if result.dtype.kind in "OSUMmcb":
        raise ValueError(f"{subject.name} returned {result.dtype}; an array of real numbers is needed")
    return result.astype(np.float64)


def _hexadecimal(x: np.floating[Any]) -> str:
    """Shortest hexadecimal form; of NaN the pattern, since its payload is what makes it hard."""
    if np.isnan(x):
        return f"NaN {int(x.view(np.uint32)):#010x}"
    mantissa, mark, exponent = float(x).hex().partition("p")
    return (mantissa.rstrip("0").rstrip(".") if mark and "." in mantissa else mantissa) + mark + exponent


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]


# The caller's function.


def _function(target: str, as_format: str | None) -> _Subject:
    if as_format is None:
        raise ValueError(f"{target}: which format does it claim to round to? as_format is needed, such as E4M3")
    return _Subject(target, _claimed(as_format), _find(target))


def _claimed(name: str) -> _Reference | BlockReference:
    format = get(name)
    blocks = block_reference(format)
    if blocks is not None:
        return blocks
    if isinstance(format, StandardFormat):
        return _Reference(format, format.top)
    if isinstance(format, CodebookFormat | ProfileFormat) and format.granularity is Granularity.TENSOR:
        return _Reference(format, 0)
    raise ValueError(
        f"{name}: a function is compared with formats of one scale, such as E4M3 or FP134, or of runs, such as MXFP4 or INT8/block16"
    )


def _find(target: str) -> Rounds:
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise ValueError(f"{target!r} does not read as package.module:function")
    # A console script does not have the current directory on its path, where a user's module most likely is.
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(f"{target}: {_first_line(error)}") from error
    except Exception as error:
        raise ValueError(
            f"{target}: importing {module_name} raised {type(error).__name__}: {_first_line(error)}"
        ) from error
    finally:
        sys.path.remove(here)
    function: Any = module
    for part in name.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        raise ValueError(f"{target}: {module_name} has no function {name}")
    return function


# Libraries.


def _library(name: str, as_format: str | None) -> list[_Subject]:
    if name not in _ADAPTERS:
        raise ValueError(f"unknown library {name!r}; known are {', '.join(_ADAPTERS)}, or package.module:function")
    if importlib.util.find_spec(name) is None:
        raise ValueError(f"{name} is not installed: pip install {name}")
    try:
        module = importlib.import_module(name)
        subjects = list(_ADAPTERS[name](module))
    except Exception as error:
        raise ValueError(f"{name} is installed but fails with {type(error).__name__}: {_first_line(error)}") from error
    if as_format is None:
        return subjects
    digest = _saturating(_claimed(as_format).format)
    chosen = [subject for subject in subjects if _saturating(subject.reference.format) == digest]
    if not chosen:
        names = sorted({subject.reference.format.name.removesuffix("/standard") for subject in subjects})
        raise ValueError(f"{name} has no rounding to {as_format}; there are {', '.join(names)}")
    return chosen


def _saturating(format: Format) -> str:
    """What tells formats apart whatever they do at overflow."""
    return format.with_overflow(Overflow.SATURATE).digest if isinstance(format, StandardFormat) else format.digest


def _standard(name: str, overflow: Overflow) -> _Reference:
    format = standard(name)
    assert isinstance(format, StandardFormat)
    return _Reference(format.with_overflow(overflow), format.top)


def _not_nan(x: Inputs) -> NDArray[np.bool_]:
    return ~np.isnan(x)


def _not_negative(x: Inputs) -> NDArray[np.bool_]:
    return ~np.signbit(x) | np.isnan(x)


def _positive(x: Inputs) -> NDArray[np.bool_]:
    return (x > 0) | np.isnan(x)


_ML_DTYPES = (
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e4m3fnuz",
    "float8_e5m2fnuz",
    "float8_e4m3b11fnuz",
    "float8_e4m3",
    "float8_e3m4",
    "float8_e8m0fnu",
    "float6_e3m2fn",
    "float6_e2m3fn",
    "float4_e2m1fn",
    "bfloat16",
)


def _ml_dtypes(module: ModuleType) -> Iterator[_Subject]:
    for name in _ML_DTYPES:
        if not hasattr(module, name):  # younger than the version that is installed
            continue
        kind, reference = getattr(module, name), _standard(name, Overflow.STANDARD)
        assert isinstance(reference.format, StandardFormat)
        # The types without NaN have nothing that NaN could become; they make it a zero.
        defined = _not_nan if reference.format.nan is NanCodes.NONE else None

        def cast(x: Inputs, kind: Any = kind) -> Any:
            return x.astype(kind).astype(np.float32)

        yield _Subject(f"astype({name})", reference, cast, defined)


_TORCH = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu", "bfloat16", "float16")


def _torch(module: ModuleType) -> Iterator[_Subject]:
    version = tuple(int(part) for part in module.__version__.split(".")[:2])
    for name in _TORCH:
        if not hasattr(module, name):  # younger than the version that is installed
            continue
        saturates = name == "float8_e4m3fn" and version >= (2, 12)
        kind, reference = getattr(module, name), _standard(name, Overflow.SATURATE if saturates else Overflow.STANDARD)
        # E8M0 has neither sign nor zero; torch reads the exponent alone there.
        defined = _positive if name == "float8_e8m0fnu" else None

        def cast(x: Inputs, kind: Any = kind) -> Any:
            return module.from_numpy(x).to(kind).float().numpy()

        yield _Subject(f"Tensor.to({name})", reference, cast, defined)


def _gfloat(module: ModuleType) -> Iterator[_Subject]:
    formats = importlib.import_module("gfloat.formats")
    for info in formats.sample_formats:
        # binary32 and binary64 round no float32, and INT8 has -128 / 64, which has no counterpart here. Left out too is
        # E8M0: its ties go to the even code, which OCP does not ask for, and it leaves numbers below the smallest value
        # as they are.
        format = standard(info.name)
        if not isinstance(format, StandardFormat) or format.name == "E8M0":
            continue
        # Negative numbers in unsigned formats stay negative, which is no value of the format; NaN raises where there is
        # none, as documented.
        defined = _not_nan if format.nan is NanCodes.NONE else None if format.signed else _not_negative
        for overflow in Overflow:
            saturates = overflow is Overflow.SATURATE
            if not saturates and not format.infinities and format.nan is NanCodes.NONE:
                continue  # an overflow raises, as documented
            reference = _Reference(format.with_overflow(overflow), format.top)

            def one_by_one(x: Inputs, info: Any = info, sat: bool = saturates) -> Any:
                return [module.round_float(info, value, sat=sat) for value in x.tolist()]

            def array(x: Inputs, info: Any = info, sat: bool = saturates) -> Any:
                return module.round_ndarray(info, x, sat=sat)

            suffix = f"({info.name}{', sat' if saturates else ''})"
            yield _Subject(f"round_float{suffix}", reference, one_by_one, defined, SLOW)
            yield _Subject(f"round_ndarray{suffix}", reference, array, defined)


def _qtorch(_: ModuleType) -> Iterator[_Subject]:
    quant, torch = importlib.import_module("qtorch.quant"), importlib.import_module("torch")
    for exp, man in ((4, 3), (5, 2), (3, 4)):
        format = minifloat(exp, man, bias=(1 << (exp - 1)) - 1)

        def floating(x: Inputs, exp: int = exp, man: int = man) -> Any:
            return quant.float_quantize(torch.from_numpy(x), exp, man, "nearest").numpy()

        yield _Subject(f"float_quantize({exp}, {man})", _Reference(format, format.top), floating)
    # 8 bits of which 4 are fraction: multiples of 1/16 up to 127/16, the top binade of which is [4, 8).
    fixed = StandardFormat(profiles.fixed(8), 8, 2, 127, negative_zero=False, name="INT8, step 1/16")
    yield _Subject(
        "fixed_point_quantize(8, 4, symmetric)",
        _Reference(fixed, fixed.top),
        lambda x: quant.fixed_point_quantize(torch.from_numpy(x), 8, 4, True, True, "nearest").numpy(),
    )


def _pychop(module: ModuleType) -> Iterator[_Subject]:
    for exp_bits, sig_bits, name in (
        (4, 3, "E4M3IEEE"),
        (5, 2, "E5M2"),
        (3, 4, "E3M4"),
        (8, 7, "bfloat16"),
        (5, 10, "float16"),
        (8, 10, "TF32"),
    ):
        yield _Subject(
            f"Chop({exp_bits}, {sig_bits})", _standard(name, Overflow.STANDARD), module.Chop(exp_bits, sig_bits)
        )
    # Of its own accord it flushes bfloat16's subnormal numbers to zero, as Higham's chop does.
    for theirs, name in (("q43", "E4M3IEEE"), ("q52", "E5M2"), ("bfloat16", "bfloat16"), ("fp16", "float16")):
        yield _Subject(
            f"FaultChop({theirs}, subnormal)",
            _standard(name, Overflow.STANDARD),
            module.FaultChop(theirs, subnormal=True),
        )
    draft = importlib.import_module("pychop.p3109")
    for precision in (1, 3, 4):
        for domain in ("finite", "extended"):
            theirs = draft.P3109Format(8, precision, True, domain)
            for overflow in Overflow:
                saturates = overflow is Overflow.SATURATE

                def quantize(x: Inputs, format: Any = theirs, saturate: bool = saturates) -> Any:
                    return draft.p3109_quantize(x, format, saturate=saturate)

                subject = f"p3109_quantize({theirs.name}{', saturate' if saturates else ''})"
                yield _Subject(subject, _standard(theirs.name, overflow), quantize)


def _blocks(name: str) -> BlockReference:
    found = block_reference(get(name))
    assert found is not None
    return found


def _torchao(_: ModuleType) -> Iterator[_Subject]:
    torch = importlib.import_module("torch")
    mx = importlib.import_module("torchao.prototype.mx_formats.mx_tensor")
    nv = importlib.import_module("torchao.prototype.mx_formats.nvfp4_tensor")
    modes = importlib.import_module("torchao.prototype.mx_formats.config").ScaleCalculationMode
    for theirs, name in (
        (torch.float8_e4m3fn, "MXFP8-E4M3"),
        (torch.float8_e5m2, "MXFP8-E5M2"),
        ("fp6_e3m2", "MXFP6-E3M2"),
        ("fp6_e2m3", "MXFP6-E2M3"),
        (torch.float4_e2m1fn_x2, "MXFP4"),
    ):
        for mode in modes:
            reference = _blocks(name if mode.value == "floor" else f"{name}/{mode.value}")

            def microscaling(x: Inputs, theirs: Any = theirs, mode: Any = mode) -> Any:
                blocks = torch.from_numpy(x).reshape(-1, 32)
                return mx.MXTensor.to_mx(blocks, theirs, 32, mode).dequantize(torch.float32).reshape(-1).numpy()

            yield _Subject(
                f"MXTensor.to_mx({str(theirs).removeprefix('torch.')}, {mode.name})", reference, microscaling
            )

    def nvfp4(x: Inputs) -> Any:
        blocks = torch.from_numpy(x).reshape(-1, 16)
        scale = nv.per_tensor_amax_to_scale(blocks.abs().nan_to_num().max())
        return nv.NVFP4Tensor.to_nvfp4(blocks, per_tensor_scale=scale).dequantize(torch.float32).reshape(-1).numpy()

    yield _Subject("NVFP4Tensor.to_nvfp4", _blocks("NVFP4"), nvfp4)


def _brevitas(_: ModuleType) -> Iterator[_Subject]:
    torch, nn = importlib.import_module("torch"), importlib.import_module("brevitas.nn")
    single, blocks = (
        importlib.import_module("brevitas.quant.float_quant_ocp"),
        importlib.import_module("brevitas.quant.mx_quant_ocp"),
    )
    constant = importlib.import_module("brevitas.inject.enum").ScalingImplType.CONST

    def rounds(layer: Any, block: int) -> Rounds:
        layer.eval()

        def function(x: Inputs) -> Any:
            with torch.no_grad():
                result = layer(torch.from_numpy(x).reshape(-1, block))
            return getattr(result, "value", result).reshape(-1).numpy()

        return function

    for theirs, name in (("Fp8e4m3OCPActPerTensorFloat", "E4M3"), ("Fp8e5m2OCPActPerTensorFloat", "E5M2")):
        reference = _standard(name, Overflow.SATURATE)
        # The scale is what they are given over the largest value.
        layer = nn.QuantIdentity(
            getattr(single, theirs), scaling_impl_type=constant, scaling_init=reference.format.max(reference.top)
        )
        yield _Subject(theirs, reference, rounds(layer, 1))
    for theirs, name in (("MXFloat8e4m3Act", "MXFP8-E4M3"), ("MXInt8Act", "MXINT8")):
        yield _Subject(theirs, _blocks(name), rounds(nn.QuantIdentity(getattr(blocks, theirs), group_dim=-1), 32))


_ADAPTERS: dict[str, Callable[[ModuleType], Iterator[_Subject]]] = {
    "ml_dtypes": _ml_dtypes,
    "torch": _torch,
    "gfloat": _gfloat,
    "qtorch": _qtorch,
    "pychop": _pychop,
    "torchao": _torchao,
    "brevitas": _brevitas,
}
LIBRARIES: tuple[str, ...] = tuple(_ADAPTERS)
"""Libraries whose roundings `verify` knows, whether or not they are installed."""
