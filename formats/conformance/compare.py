"""Which of another's roundings are exact? Every kind of hard input, compared bit for bit with the exact emulator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.conformance import functions, libraries
from formats.conformance.blocks import BlockReference, blocks_by_category
from formats.conformance.inputs import Category, Inputs, inputs_by_category
from formats.conformance.subject import Subject
from numeric_formats.checks import at_least
from numeric_formats.messages import first_line


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


def verify(target: str, as_format: str | None = None, inputs: int = 200_000, seed: int = 0) -> list[Check]:
    """Compare a library's roundings, or a function of the caller's, with the exact emulator.

    Values are compared exactly, NaN equals NaN, and zeros of different sign differ in the category "signed zero" only.
    Categories of which the library says that it does not define them are left out. Of a block format, inputs stand in
    blocks that begin with the largest value, so that the scale is known, and the random ones are blocks of any scale;
    infinities, of which OCP says nothing, are left out, and in a block with NaN only NaN counts, since whether the
    others become NaN too is a choice.

    Args:
        target: a library of `LIBRARIES`, or "package.module:function", a function that takes a float32 array of one
            dimension and returns one of the same shape; the current directory is searched for it too.
        as_format: the format that the function claims: any name that `formats.get` knows of a format with one scale,
            such as E4M3 (saturating), E4M3/standard, E3M4 or FP134, which is taken at top exponent 0; or with a scale
            for each run of elements, such as MXFP4, MXFP8-E4M3/rceil, NVFP4 or INT8/block16. Of a library, only
            roundings to this format are checked.
        inputs: how many there are in a category at most.
        seed: of the random ones.

    Returns:
        One check a rounding and category.

    Raises:
        ValueError: for an unknown library or one that is not installed, for a function that does not exist, raises, or
            returns another shape, and for formats that do not fit.
    """
    at_least(f"inputs {inputs}", inputs)
    at_least(f"seed {seed}", seed, 0)
    own = ":" in target
    subjects = [functions.subject_of(target, as_format)] if own else libraries.subjects_of(target, as_format)
    return [check for subject in subjects for check in _checks(subject, inputs, seed)]


def _checks(subject: Subject, count: int, seed: int) -> Iterator[Check]:
    most = count if subject.most is None else min(count, subject.most)
    # Casts to types without infinity, and midpoints beyond float32, overflow as they should.
    with np.errstate(all="ignore"):
        rng, reference = np.random.default_rng(seed), subject.reference
        inputs = (
            blocks_by_category(reference, most, rng)
            if isinstance(reference, BlockReference)
            else inputs_by_category(reference, most, rng)
        )
        for category, candidates in inputs.items():
            x = candidates if subject.defined is None else candidates[subject.defined(candidates)]
            if x.size:
                yield _compare(subject, category, x)


def _compare(subject: Subject, category: Category, x: Inputs) -> Check:
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


def _apply(subject: Subject, category: Category, x: Inputs) -> NDArray[np.float64]:
    """What the subject makes of x, as float64; ValueError where it fails."""
    try:
        # A copy: a function may well round in place.
        result = np.asarray(subject.function(x.copy()))
    except Exception as error:
        raise ValueError(f"{subject.name} raised {type(error).__name__} on {category}: {first_line(error)}") from error
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
