"""NVFP4: E2M1 elements in blocks of 16 with an E4M3 scale each, and one float32 scale for the tensor.

Definition: docs/definitions/formats.md section 5. Sources: NVIDIA, "Pretraining Large Language Models with NVFP4",
arXiv:2509.25149, section 2 and the appendix on quantization; NVIDIA's technical blog, "Introducing NVFP4 for Efficient
and Accurate Low-Precision Inference", 2025.

With m the largest finite magnitude of the tensor and m_b that of a block:

1. s_t = m / (6 * 448), the exact quotient rounded once to float32, to nearest even. 1 where m is 0; at least 2^-149,
and at most what keeps all
   values finite. (So the largest block's scale is the largest E4M3 number.)
2. s_b = E4M3((m_b / 6) / s_t), the exact quotient rounded once, to nearest even, saturating at 448; subnormal scales
and zero included. 3. An element is the E2M1 number nearest to the exact quotient x / (s_b * s_t), ties to even,
saturating at 6. Where s_b is 0 it is a zero. 4. A value is the exact product element * s_b * s_t rounded to float32
once. In float32 arithmetic that is (element * s_b) * s_t, in this order,
   since the first product is exact; element * (s_b * s_t) would round twice.

NVIDIA describes the same steps, and multiplies in float32 by reciprocals: by 6 * 448 / m, and by 1 / (s_b * s_t). Those
round on the way and so may decide a tie or a near tie the other way; here no quotient is ever rounded before it is
compared. Libraries that keep s_b at or above the smallest normal E4M3 number differ in blocks that are small beside the
tensor's maximum.

How steps 2 and 3 are decided exactly: a tie is a product of at most 5, 3 and 24 (or 3, 4 and 24) bits, so it is a
float64, and m_b (or x) is compared with it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from formats.kinds.codebook_format import OutsideFamily
from formats.kinds.integer_real import SMALLEST_SCALE, largest_scale, product, scales_for
from formats.kinds.standard_format import StandardFormat, standard
from formats.layout import largest_of_groups, to_float
from formats.number_format import Codes, Emulated, check_codes, check_out, fingerprint, put, with_specials
from formats.rounding import NEAREST, ModeChoice, Rounding
from formats.scale import Granularity, Scale, group

BLOCK = 16
_SIGN = 8
"""Of an element's code."""


def _standard(name: str) -> StandardFormat:
    found = standard(name)
    assert isinstance(found, StandardFormat)
    return found


ELEMENT, BLOCK_SCALE = _standard("E2M1"), _standard("E4M3")
_ELEMENTS, _BLOCK_SCALES = ELEMENT.magnitudes(), BLOCK_SCALE.magnitudes()
LARGEST = int(ELEMENT.max() * BLOCK_SCALE.max())
"""6 * 448: the largest value at a tensor scale of 1."""


def _ties(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The midpoints of ascending values whose index is their code, and whether the even code is the upper one."""
    return (values[1:] + values[:-1]) / 2, np.arange(len(values) - 1) % 2 == 1


@dataclass(frozen=True, eq=False)
class NVFP4Scales:
    """The scales of an array in NVFP4.

    blocks: E4M3 codes (uint8) of the group shape, 0 to 0x7E; the sign bit is never set. tensor: a positive float32
    number.
    What they may be is checked where they are used: ValueError there. Source: see this module's docstring.

    >>> import formats, numpy as np
    >>> scales = formats.NVFP4Scales(np.uint8([0x38]), np.float32(0.5))
    >>> formats.get("NVFP4").round(np.float32([1.2, 9.0]), top=scales)
    array([1., 3.], dtype=float32)
    """

    blocks: NDArray[np.uint8]
    tensor: np.float32


@dataclass(frozen=True)
class NVFP4Format(Emulated):
    """E2M1 elements, E4M3 block scales, a float32 tensor scale; see this module's docstring for the definition and its
    sources.

    scale: which elements share a block scale: by default runs of 16 along the last axis (the last of a line may be
    short). NVIDIA's recipe for
    weights is a tile of 16 x 16: NVFP4/tile16x16. Headroom, policies and exponent fields are for powers of two and
    raise ValueError.

    `top` of `round`, `encode` and `decode` is an `NVFP4Scales`; None finds it from x. `encode(x).top` is one.
    Magnitudes beyond the largest value saturate, infinities too; negative values that round to zero give -0.0, which
    has a code. To nearest, the exact quotient of step 3 decides; the other modes choose between the two values (step 4)
    around x, which stays if it is one. NaN stays NaN in `round` and has no code; it counts in no scale. Codes are
    E2M1's: uint8, 0 to 15.

    >>> import formats, numpy as np
    >>> q = formats.get("NVFP4").encode(np.float32([5.25, -0.4375, 2.1, 0.1]))
    >>> q.codes.tolist(), q.top.blocks.tolist(), float(q.top.tensor)
    ([7, 9, 4, 0], [126], 0.001953125)
    >>> q.decode().tolist()
    [5.25, -0.4375, 1.75, 0.0]
    """

    scale: Scale = Scale(per=Granularity.BLOCK, block=BLOCK)
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        per_block = self.scale.per is Granularity.BLOCK
        if not per_block or self.scale != Scale(Granularity.BLOCK, self.scale.block, self.scale.axis):
            raise ValueError(f"{self.scale}: NVFP4 has scales per block, without headroom, policy or exponent field")
        if not self.name:
            from formats.names import scale_suffix

            usual = self.scale == Scale(per=Granularity.BLOCK, block=BLOCK)
            object.__setattr__(self, "name", "NVFP4" if usual else f"NVFP4{scale_suffix(self.scale)}")

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
        return fingerprint(["NVFP4", asdict(self.scale)])

    def with_scale(self, scale: Scale) -> NVFP4Format:
        """The same with other blocks."""
        return replace(self, scale=scale, name="")

    def find_top(self, x: Any) -> NVFP4Scales:
        """The scales of x (steps 1 and 2 of this module's docstring), over its finite elements."""
        largest = largest_of_groups(to_float(x), self.scale)
        tensor = scales_for(largest.max(initial=0), LARGEST)
        middles, up = _ties(_BLOCK_SCALES)
        # Step 2: where the block's largest magnitude lies among the ties, times 6 * s_t. A tie that goes down counts
        # from just above it.
        ties = middles * (ELEMENT.max() * np.float64(tensor))
        steps = np.where(up, ties, np.nextafter(ties, np.inf))
        return NVFP4Scales(
            np.asarray(np.searchsorted(steps, largest, side="right")).astype(np.uint8), np.float32(tensor)
        )

    def _top(self, shape: tuple[int, ...], top: Any) -> NDArray[np.float64]:
        """s_b * s_t for each element of an array of this shape, exactly; ValueError or TypeError for scales that do not
        fit it."""
        if not isinstance(top, NVFP4Scales):
            raise TypeError(f"top is {top!r}; NVFP4Scales or None is needed")
        grouping = group(self.scale, shape)
        blocks, tensor = check_codes(top.blocks, BLOCK_SCALE.bits, "the block scale E4M3"), np.float32(top.tensor)
        if blocks.shape != grouping.groups:
            raise ValueError(
                f"block scales of shape {blocks.shape} were given; an array of shape {shape} has {grouping.groups}"
            )
        if blocks.size and blocks.max() >= len(_BLOCK_SCALES):
            raise ValueError(f"block scale {int(blocks.max()):#04x} is negative or NaN; 0x00 to 0x7e are allowed")
        if not SMALLEST_SCALE <= tensor <= largest_scale(LARGEST):
            raise ValueError(f"tensor scale {top.tensor}: above 0 and at most {largest_scale(LARGEST)} is needed")
        return grouping.per_element(_BLOCK_SCALES[blocks] * np.float64(tensor), shape)

    def _index(self, x: NDArray[Any], scale: NDArray[np.float64], away: bool = False) -> NDArray[np.uint8]:
        """The magnitude index of the element that each number becomes, to nearest; 0 for NaN. away: a tie goes to the
        larger magnitude."""
        magnitude, index = np.abs(x.astype(np.float64)), np.zeros(x.shape, np.uint8)
        for middle, up in zip(*_ties(_ELEMENTS), strict=True):
            tie = middle * scale
            index += (magnitude >= tie if up or away else magnitude > tie) & (scale > 0)
        return index

    def round_array(
        self,
        x: NDArray[Any],
        *,
        top: Any = None,
        mode: ModeChoice = NEAREST,
        out: NDArray[Any] | None = None,
        keep_infinities: bool = False,
    ) -> NDArray[Any]:
        """`round` of a float32 or float64 array, in a mode that `check_mode` has made."""
        check_out(out, x.shape, x.dtype)
        with np.errstate(invalid="ignore"):  # signalling NaN
            scale = self._top(x.shape, self.find_top(x) if top is None else top)
            if mode.rounding in (Rounding.NEAREST, Rounding.NEAREST_AWAY):
                values = product(_ELEMENTS[self._index(x, scale, mode.rounding is Rounding.NEAREST_AWAY)], scale)
            else:
                values = self._in_mode(x, scale, mode)
            # A float64 result holds the float32 number.
            return put(with_specials(x, np.copysign(values.astype(x.dtype), x), keep_infinities), out)

    def _in_mode(self, x: NDArray[Any], scale: NDArray[np.float64], mode: ModeChoice) -> NDArray[np.float64]:
        """The magnitude that each element becomes in a mode other than to nearest."""
        from formats import kernel

        magnitude = np.abs(x.astype(np.float64))
        # How many values but zero the magnitude reaches; of those alike, all.
        reached = np.sum([product(element, scale) <= magnitude for element in _ELEMENTS[1:]], axis=0)
        low, high = (product(_ELEMENTS.take(index, mode="clip"), scale) for index in (reached, reached + 1))
        return kernel.round_between(x, low, high, mode)

    def encode_array(self, x: NDArray[Any], *, top: Any, mode: ModeChoice, out: NDArray[Any] | None = None) -> Codes:
        """`encode` of a float32 or float64 array. ValueError for NaN."""
        if np.isnan(x).any():
            raise ValueError(f"x holds NaN, for which {self.name} has no code")
        found = self.find_top(x) if top is None else top
        if mode.rounding is not Rounding.NEAREST:
            x = self.round_array(x, top=found, mode=mode)
        index = self._index(x, self._top(x.shape, found))
        return Codes(put(np.asarray(index | np.signbit(x) * np.uint8(_SIGN)), out), found, self)

    def decode(self, codes: ArrayLike, top: NVFP4Scales) -> NDArray[np.float32]:
        """The float32 values of codes (whole numbers of any shape) with their scales, as `encode` gave them.

        Raises TypeError for codes that are not whole numbers, ValueError for codes above 15 and for scales that do not
        fit.
        """
        given = check_codes(codes, self.bits, self.name)
        return np.asarray((ELEMENT.decode(given).astype(np.float64) * self._top(given.shape, top)).astype(np.float32))


NVFP4 = NVFP4Format()
"""NVFP4 with blocks of 16 along the last axis."""
