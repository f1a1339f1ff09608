"""NVFP4: E2M1 elements in blocks of 16 with an E4M3 scale each, and one float32 scale for the tensor.

Definition: docs/definitions/formats.md section 5; formats/tables/nvfp4.py has the sources.

With m the largest finite magnitude of the tensor and m_b that of a block:

1. s_t = m / (6 * 448), the exact quotient rounded once to float32, to nearest even. 1 where m is 0; at least 2^-149,
   and at most what keeps all values finite. (So the largest block's scale is the largest E4M3 number.)
2. s_b = E4M3((m_b / 6) / s_t), the exact quotient rounded once, to nearest even, saturating at 448; subnormal scales
   and zero included.
3. An element is the E2M1 number nearest to the exact quotient x / (s_b * s_t), ties to even, saturating at 6. Where s_b
   is 0 it is a zero.
4. A value is the exact product element * s_b * s_t rounded to float32 once. In float32 arithmetic that is
   (element * s_b) * s_t, in this order, since the first product is exact; element * (s_b * s_t) would round twice.

NVIDIA describes the same steps, and multiplies in float32 by reciprocals: by 6 * 448 / m, and by 1 / (s_b * s_t). Those
round on the way and so may decide a tie or a near tie the other way; here no quotient is ever rounded before it is
compared. Libraries that keep s_b at or above the smallest normal E4M3 number differ in blocks that are small beside the
tensor's maximum.

How steps 2 and 3 are decided exactly: a tie is a product of at most 5, 3 and 24 (or 3, 4 and 24) bits, so it is a
float64, and m_b (or x) is compared with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from formats.checks import check_codes
from formats.kinds.real_scale import SMALLEST_SCALE, largest_scale, product, scales_for, values_around
from formats.kinds.standards import standard_formats
from formats.layout import as_it_lies, largest_of_groups, to_float
from formats.number_format import NumberFormat, fingerprint
from formats.rounding import ModeChoice, Rounding
from formats.scale import Granularity, Scale, group
from formats.spelling import OutsideFamily, scale_suffix
from formats.tables import nvfp4 as table

ELEMENT, BLOCK_SCALE = standard_formats()[table.ELEMENT], standard_formats()[table.BLOCK_SCALE]
_ELEMENTS, _BLOCK_SCALES = ELEMENT.magnitudes(), BLOCK_SCALE.magnitudes()
_LOWEST = BLOCK_SCALE.top - BLOCK_SCALE.binades + BLOCK_SCALE.profile[0]
"""Of block scales: the exponent of the smallest normal one."""
LARGEST = int(ELEMENT.max() * BLOCK_SCALE.max())
"""6 * 448: the largest value at a tensor scale of 1."""
_SIGN = 1 << (ELEMENT.bits - 1)
"""Of an element's code."""


def _ties(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The midpoints of ascending values whose index is their code, and whether the even code is the upper one."""
    return (values[1:] + values[:-1]) / 2, np.arange(len(values) - 1) % 2 == 1


@dataclass(frozen=True, eq=False)
class NVFP4Scales:
    """The scales of an array in NVFP4.

    Args:
        blocks: E4M3 codes (uint8) of the group shape, 0 to 0x7E; the sign bit is never set.
        tensor: a positive float32 number.

    Raises:
        ValueError: for others, where they are used.

    Source:
        docs/definitions/formats.md section 5.

    >>> import formats, numpy as np
    >>> scales = formats.NVFP4Scales(np.uint8([0x38]), np.float32(0.5))
    >>> formats.get("NVFP4").round(np.float32([1.2, 9.0]), top=scales)
    array([1., 3.], dtype=float32)
    """

    blocks: NDArray[np.uint8]
    tensor: np.float32


@dataclass(frozen=True)
class NVFP4Format(NumberFormat):
    """E2M1 elements, E4M3 block scales, a float32 tensor scale.

    `top` of `round`, `encode` and `decode` is an `NVFP4Scales`; None finds it from x. `encode(x).top` is one.
    Magnitudes beyond the largest value saturate, infinities too; negative values that round to zero give -0.0, which
    has a code. To nearest, the exact quotient of element and scales decides; the other modes choose between the two
    values around x, which stays if it is one. NaN stays NaN in `round` and has no code; it counts in no scale. Codes
    are E2M1's: uint8, 0 to 15.

    Args:
        scale: which elements share a block scale: by default runs of 16 along the last axis (the last of a line may be
            short). NVIDIA's recipe for weights is a tile of 16 x 16: NVFP4/tile16x16.
        name: by default the canonical one.

    Raises:
        ValueError: for scales that are not per block, and for headroom, policies and exponent fields, which are for
            powers of two.

    Source:
        docs/definitions/formats.md section 5; NVIDIA, arXiv:2509.25149, section 2.

    >>> import formats, numpy as np
    >>> q = formats.get("NVFP4").encode(np.float32([5.25, -0.4375, 2.1, 0.1]))
    >>> q.codes.tolist(), q.top.blocks.tolist(), float(q.top.tensor)
    ([7, 9, 4, 0], [126], 0.001953125)
    >>> q.decode().tolist()
    [5.25, -0.4375, 1.75, 0.0]
    """

    scale: Scale = Scale(per=Granularity.BLOCK, block=table.BLOCK)
    name: str = field(default="", compare=False)

    _plain_top: ClassVar[Any] = None

    def __post_init__(self) -> None:
        per_block = self.scale.per is Granularity.BLOCK
        if not per_block or self.scale != Scale(Granularity.BLOCK, self.scale.block, self.scale.axis):
            raise ValueError(f"{self.scale}: NVFP4 has scales per block, without headroom, policy or exponent field")
        if not self.name:
            usual = self.scale == Scale(per=Granularity.BLOCK, block=table.BLOCK)
            object.__setattr__(self, "name", table.NAME + ("" if usual else scale_suffix(self.scale)))

    @property
    def bits(self) -> int:
        """4: the width of an element's code, scales not counted."""
        return ELEMENT.bits

    @property
    def family(self) -> OutsideFamily:
        """Standard."""
        return OutsideFamily.STANDARD

    @property
    def spare_codes(self) -> int:
        """0: every code of an element stands for a value."""
        return 0

    @cached_property
    def digest(self) -> str:
        """A stable fingerprint of everything that decides how this format rounds and encodes."""
        return fingerprint([table.NAME, self.scale.content])

    def with_scale(self, scale: Scale) -> NVFP4Format:
        """The same with other blocks."""
        return replace(self, scale=scale, name="")

    # The scales.

    def find_top(self, x: Any) -> NVFP4Scales:
        """The scales of x, over its finite elements (steps 1 and 2 of this module's docstring)."""
        largest = largest_of_groups(to_float(x), self.scale)
        tensor = scales_for(largest.max(initial=0), LARGEST)
        # Step 2. The quotient as a float64 lies on the same side of every tie (formats/kinds/real_scale.py), and what
        # follows is exact up to the one rounding.
        quotient = largest / (ELEMENT.max() * np.float64(tensor))
        exponent = np.where(quotient > 0, np.maximum(np.frexp(quotient)[1] - 1, _LOWEST), _LOWEST)
        steps = np.rint(np.ldexp(quotient, BLOCK_SCALE.profile[0] - 1 - exponent))
        codes = steps + (exponent - _LOWEST) * (1 << (BLOCK_SCALE.profile[0] - 1))
        return NVFP4Scales(np.minimum(codes, len(_BLOCK_SCALES) - 1).astype(np.uint8), np.float32(tensor))

    def _check_top(self, top: Any, shape: tuple[int, ...]) -> NVFP4Scales:
        if not isinstance(top, NVFP4Scales):
            raise TypeError(f"top is {top!r}; NVFP4Scales or None is needed")
        groups = group(self.scale, shape).groups
        blocks, tensor = check_codes(top.blocks, BLOCK_SCALE.bits, "the block scale E4M3"), np.float32(top.tensor)
        if blocks.shape != groups:
            raise ValueError(f"block scales of shape {blocks.shape} were given; an array of shape {shape} has {groups}")
        if blocks.size and blocks.max() >= len(_BLOCK_SCALES):
            raise ValueError(f"block scale {int(blocks.max()):#04x} is negative or NaN; 0x00 to 0x7e are allowed")
        if not SMALLEST_SCALE <= tensor <= largest_scale(LARGEST):
            raise ValueError(f"tensor scale {top.tensor}: above 0 and at most {largest_scale(LARGEST)} is needed")
        return top

    def _each(self, scales: NVFP4Scales, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """s_b * s_t for each element of an array of this shape, exactly."""
        return group(self.scale, shape).per_element(self._products(scales), shape)

    # Rounding.

    def _round(
        self, x: NDArray[Any], top: Any, mode: ModeChoice, out: NDArray[Any] | None, keep_infinities: bool
    ) -> NDArray[Any]:
        scales = self._found_or_given(x, top)
        if x.dtype != np.float32 or mode.rounding not in (Rounding.NEAREST, Rounding.STOCHASTIC):
            return super()._round(x, scales, mode, out, keep_infinities)
        from formats import kernel

        products, order = self._products(scales), list(range(x.ndim))
        scale = self.scale
        if mode.rounding is Rounding.NEAREST:
            # Random numbers follow the logical order, else that of memory is as good.
            x, scale, order = as_it_lies(x, scale)
        x, groups = np.ascontiguousarray(x).reshape(x.shape), group(scale, x.shape)
        if scale is not self.scale:
            products = products.transpose(order)
        y, ties = np.empty_like(x), _ties(_ELEMENTS)
        scales_of_tiles = groups.per_tile(np.ascontiguousarray(products))
        seen, result = x.reshape(groups.shape), y.reshape(groups.shape)
        kernel.round_elements(seen, result, scales_of_tiles, groups.tile, _ELEMENTS, *ties, keep_infinities, mode)
        return y.transpose(np.argsort(order))

    def _products(self, scales: NVFP4Scales) -> NDArray[np.float64]:
        """s_b * s_t of each block, exactly."""
        return np.asarray(_BLOCK_SCALES[scales.blocks] * np.float64(np.float32(scales.tensor)))

    def _rounded(self, x: NDArray[Any], scale: NVFP4Scales, mode: ModeChoice) -> NDArray[np.float64]:
        each = self._each(scale, x.shape)
        if mode.rounding in (Rounding.NEAREST, Rounding.NEAREST_AWAY):
            values = product(_ELEMENTS[self._index(x, each, mode.rounding is Rounding.NEAREST_AWAY)], each)
        else:
            values = self._in_mode(x, each, mode)
        return np.copysign(values, x)

    def _index(self, x: NDArray[Any], each: NDArray[np.float64], away: bool = False) -> NDArray[np.uint8]:
        """The magnitude index of the element that each number becomes, to nearest; 0 for NaN. away: a tie goes to the
        larger magnitude."""
        magnitude, index = np.abs(x.astype(np.float64)), np.zeros(x.shape, np.uint8)
        for middle, up in zip(*_ties(_ELEMENTS), strict=True):
            tie = middle * each
            index += (magnitude >= tie if up or away else magnitude > tie) & (each > 0)
        return index

    def _in_mode(self, x: NDArray[Any], each: NDArray[np.float64], mode: ModeChoice) -> NDArray[np.float64]:
        """The magnitude that each element becomes in a mode other than to nearest."""
        from formats import kernel

        low, high = values_around(_ELEMENTS, np.abs(x.astype(np.float64)), each)
        return kernel.round_between(x, low, high, mode)

    # Codes.

    def _codes(self, x: NDArray[Any], scale: NVFP4Scales) -> NDArray[Any]:
        with np.errstate(invalid="ignore"):  # signalling NaN
            return np.asarray(self._index(x, self._each(scale, x.shape)) | np.signbit(x) * np.uint8(_SIGN))

    def _decode(self, codes: NDArray[Any], scale: NVFP4Scales, out: NDArray[Any] | None) -> NDArray[Any]:
        elements = ELEMENT.decode(codes).astype(np.float64)
        return np.asarray((elements * self._each(scale, codes.shape)).astype(np.float32))


NVFP4 = NVFP4Format()
"""NVFP4 with blocks of 16 along the last axis."""
