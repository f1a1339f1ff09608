"""Integers times a scale that is any float32 number, not a power of two: INT8/real and its like.

Definition: docs/definitions/formats.md section 2; how it is decided exactly: formats/kinds/real_scale.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats import profile as profiles
from formats.kinds.grid import Grid
from formats.kinds.profile_format import from_profile
from formats.kinds.real_scale import RealScaled
from formats.number_format import fingerprint
from formats.rounding import NEAREST
from formats.scale import Scale
from formats.spelling import Family, scale_suffix


@dataclass(frozen=True)
class IntegerFormat(RealScaled):
    """Two's complement integers times a real scale: `INT8/real`, one scale a tensor, channel or block.

    The integers are -(2^(bits-1) - 1) to 2^(bits-1) - 1; the code of -2^(bits-1) decodes and is never produced.

    `top` of `round`, `encode` and `decode` is the scale itself: a positive float32 number or an array of them, of the
    group shape. Magnitudes beyond the largest value saturate, infinities too; a negative value that rounds to zero
    gives -0.0 in `round` and code 0. To nearest, the exact quotient x / s decides; the other modes choose between the
    two values around x, which stays if it is one. Codes are the integers' bits: uint8, or uint16 above 8 bits. NaN has
    no code.

    Args:
        bits: 2 to 16.
        scale: which elements share a scale.
        name: by default the canonical one.

    Raises:
        ValueError: for other widths, and for headroom, policies and exponent fields, which are for powers of two.

    Source:
        docs/definitions/formats.md section 2, as integer quantization is usually done (max|x| / 127).

    >>> import formats, numpy as np
    >>> int8 = formats.get("INT8/real")
    >>> q = int8.encode(np.float32([0.3, -1.27, 0.0149]))
    >>> q.codes.view(np.int8).tolist(), float(q.top)
    ([30, -127, 1], 0.009999999776482582)
    """

    bits: int
    scale: Scale = Scale()
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.bits, int) or not 2 <= self.bits <= 16:
            raise ValueError(f"{self.bits!r} bits: 2 to 16 are allowed")
        self._check_rule()
        if not self.name:
            object.__setattr__(self, "name", f"INT{self.bits}/real{scale_suffix(self.scale)}")

    @property
    def family(self) -> Family:
        """INT."""
        return Family.INT

    @property
    def spare_codes(self) -> int:
        """0: every integer has a code, and every code stands for one."""
        return 0

    @cached_property
    def digest(self) -> str:
        """A stable fingerprint of everything that decides how this format rounds and encodes."""
        return fingerprint(["real", self.bits, self.scale.content])

    @cached_property
    def _grid(self) -> Grid:
        return from_profile(profiles.fixed(self.bits), self.bits).grid

    @property
    def _element_top(self) -> int:
        return self.bits - 2

    @property
    def _largest(self) -> int:
        return (1 << (self.bits - 1)) - 1

    def with_scale(self, scale: Scale) -> IntegerFormat:
        """The same integers, with a real scale shared by others."""
        return replace(self, scale=scale, name="")

    # Codes.

    def _codes(self, x: NDArray[Any], scale: NDArray[np.float32]) -> NDArray[np.int64]:
        whole = self._elements(x, self._each(scale, x.shape), NEAREST)
        return np.copysign(whole, x).astype(np.int64) & ((1 << self.bits) - 1)

    def _decode(self, codes: NDArray[Any], scale: NDArray[np.float32], out: NDArray[Any] | None) -> NDArray[Any]:
        half = 1 << (self.bits - 1)
        integers = (codes.astype(np.int64) ^ half) - half
        # -2^(bits-1) times the largest scale may be out of float32's range.
        with np.errstate(over="ignore"):
            return np.asarray((integers * self._each(scale, codes.shape)).astype(np.float32))
