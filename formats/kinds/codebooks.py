"""Codebook formats made from values, and those that have a name: NF4 and posits."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from formats.kinds.codebook_format import CodebookFormat
from formats.profile import FLOAT32_LARGEST_EXPONENT
from formats.tables import codebooks, posits


def from_codebook(
    values: Iterable[float], signed: bool = False, bits: int | None = None, name: str | None = None
) -> CodebookFormat:
    """A format from its values, which are sorted here and each rounded to float32.

    Args:
        values: all of them, or with `signed` the magnitudes.
        signed: each magnitude has both signs.
        bits: the width of a code; by default the fewest that hold all.
        name: by default one made from the content.

    Raises:
        ValueError: for values that are not finite, that repeat, or that the bits do not hold.

    Source:
        docs/definitions/formats.md section 1.

    >>> import formats
    >>> formats.from_codebook([0, 0.25, 0.5, 1.0], signed=True, name="table").bits
    3
    """
    with np.errstate(over="ignore"):
        numbers = np.sort(np.array(list(values), np.float64).astype(np.float32).astype(np.float64))
    if bits is None:
        bits = max(1, int(signed) + (len(numbers) - 1).bit_length())
    made = CodebookFormat(tuple(numbers.tolist()), bits, signed, name=name or "")
    if not name:
        object.__setattr__(made, "name", f"codebook:{made.digest[:8]}")
    return made


NF4 = CodebookFormat(codebooks.NF4, 4, name="NF4")
"""The 4-bit NormalFloat of QLoRA."""


@lru_cache(maxsize=64)
def posit(bits: int, es: int) -> CodebookFormat:
    """posit<bits,es>: the posits of 2 to 16 bits with `es` exponent bits whose values are all float32 numbers.

    Rounding follows the standard's section 4: in bits, with a tie to the even code, so that some boundaries are not the
    arithmetic means (formats/tables/posits.py). What is not zero never rounds to zero, and nothing rounds to NaR:
    magnitudes beyond the largest saturate, infinities too (the standard itself would make infinities NaR). NaN encodes
    as NaR, code 2^(bits-1). Codes are two's complement. `top` multiplies by 2^top, as for every codebook; `top=0` gives
    the posits themselves.

    Args:
        bits: 2 to 16.
        es: exponent bits, which the standard fixes at 2.

    Raises:
        ValueError: for other bits, and for values outside float32.

    Source:
        Standard for Posit Arithmetic (2022); docs/definitions/formats.md sections 1 and 5.

    >>> import formats, numpy as np
    >>> formats.posit(8, 2).round(np.float32([3.14159, 1e-30, 1e30]), top=0).tolist()
    [3.25, 5.960464477539063e-08, 16777216.0]
    """
    if not 2 <= bits <= 16 or not 0 <= es <= 6:
        raise ValueError(f"posit<{bits},{es}>: 2 to 16 bits and es of 0 to 6 are allowed")
    if (bits - 2) << es > FLOAT32_LARGEST_EXPONENT:
        raise ValueError(
            f"posit<{bits},{es}>: values up to 2^{(bits - 2) << es} are not float32 numbers; "
            "(bits - 2) * 2^es <= 127 is needed"
        )
    values, boundaries = posits.values_and_boundaries(bits, es)
    return CodebookFormat(
        values=values,
        bits=bits,
        signed=True,
        boundaries=boundaries,
        only_zero_is_zero=True,
        two_complement=True,
        nan_code=1 << (bits - 1),
        name=f"posit<{bits},{es}>",
    )
