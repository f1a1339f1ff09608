"""A rounding that is compared, and what it is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.conformance.blocks import BlockReference, block_reference
from formats.conformance.inputs import Inputs
from formats.conformance.reference import FixedReference
from formats.kinds.codebook_format import CodebookFormat
from formats.kinds.profile_format import ProfileFormat
from formats.kinds.standard_format import StandardFormat
from formats.lookup import get
from formats.scale import Granularity

Rounds = Callable[[Inputs], Any]
"""Takes a float32 array of one dimension and returns what it rounded it to, of the same shape."""


@dataclass(frozen=True)
class Subject:
    """A rounding to check.

    defined: which inputs mean something to the library, where not all do. most: how many inputs a category may have,
    where it is slow.
    """

    name: str
    reference: FixedReference | BlockReference
    function: Rounds
    defined: Callable[[Inputs], NDArray[np.bool_]] | None = None
    most: int | None = None


def claimed(name: str) -> FixedReference | BlockReference:
    """What a rounding to the format of this name is compared with; ValueError for formats that there is nothing of."""
    format = get(name)
    blocks = block_reference(format)
    if blocks is not None:
        return blocks
    if isinstance(format, StandardFormat):
        return FixedReference(format, format.top)
    if isinstance(format, CodebookFormat | ProfileFormat) and format.granularity is Granularity.TENSOR:
        return FixedReference(format, 0)
    raise ValueError(
        f"{name}: a function is compared with formats of one scale, such as E4M3 or FP134, or of runs, "
        "such as MXFP4 or "
        "INT8/block16"
    )
