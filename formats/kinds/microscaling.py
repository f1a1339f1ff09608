"""OCP Microscaling formats: blocks of 32 elements that share a power-of-two scale.

Source: Open Compute Project, "OCP Microscaling Formats (MX) Specification", version 1.0, sections 5 and 6.

Where OCP leaves a choice, or the two emulations that are most used (Microsoft's microxcaling; torchao 0.18) do
something else:

- Scale: X = 2^(floor(log2 max) - emax), clamped to 2^-127 from below, as OCP and both. microxcaling takes the logarithm
  in floating point, which in float32 is a whole number too high just below some powers of two (2^10 less one step);
  here, as in torchao, it is read off the bits.
- Ties go to even, as OCP asks for and torchao does; microxcaling's default takes them away from zero
  (rounding="nearest-away" here, with which its rule agrees). Its even mode adds a half in float32 and so takes the
  number just below a half up to 1: wrong by OCP, not followed.
- Beyond the largest element: saturation, as both. (OCP: of the conversions, normal numbers shall saturate by default.)
- float32 subnormals are numbers like others, also in blocks of scale 2^-127. microxcaling can flush those blocks to
  zero, and does not by default; torchao divides such a block by 2^-126 and multiplies it by 2^-127, so that its values
  come out halved: not followed.
- NaN: `encode` makes the whole block NaN by its scale, as OCP and both; `round` keeps NaN where it was, since a block
  of NaN is of no use to someone who looks for the first one.
- Infinities: OCP does not say what they become. In microxcaling and torchao they take the scale, and with it the block,
  to NaN or out of range. Here, as in all formats, the finite elements decide the scale and infinities saturate;
  `keep_infinities` keeps them.
- The sign of zero is kept, as by both. MXINT8 has no -0: `round` keeps the sign, its codes cannot.
- MXINT8 is symmetric, -127 to 127, as OCP recommends and microxcaling does; -128 decodes.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from formats import profile as profiles
from formats.checks import check_codes
from formats.kinds.profile_format import ProfileFormat
from formats.kinds.standards import standard_formats
from formats.layout import largest_of_groups
from formats.scale import Granularity, Scale, ScalePolicy, group
from formats.spelling import Family, policy_suffix
from formats.tables.microscaling import BLOCK, ELEMENTS, HIGHEST_SCALE, LOWEST_SCALE, NAN_SCALE, SCALE_BIAS


class MicroscalingFormat(ProfileFormat):
    """An MX format: element codes, and a block scale X = T - emax(element) with the E8M0 code X + 127.

    A NaN is kept by `round` as it is. `encode` does not raise on it: the block that holds it gets the NaN scale, so
    that all of the block decodes to NaN, as OCP has it. In `top` that scale is `nan_top`, one above the largest. Codes
    are those of the elements, -0 among them (MXINT8 has none): `encode` keeps the sign of what rounds to zero. NaN and
    infinities of E4M3 and E5M2 elements are not modelled: an infinity saturates, and their codes stand for no value.

    Source:
        OCP Microscaling Formats (MX) Specification, version 1.0; docs/definitions/formats.md section 5.

    >>> import formats, numpy as np
    >>> mx = formats.get("MXFP4")
    >>> q = mx.encode(np.float32([1.0] * 32 + [5.9, np.nan]))
    >>> mx.scale_codes(q.top).tolist(), q.decode()[:2].tolist(), q.decode()[32:].tolist()
    ([125, 255], [1.0, 1.0], [nan, nan])
    """

    @property
    def emax(self) -> int:
        """The exponent of the largest element."""
        assert self.scale.exponent_field is not None
        return self.scale.exponent_field[1] - HIGHEST_SCALE

    @property
    def nan_top(self) -> int:
        """What `top` is for a block whose scale is NaN."""
        return NAN_SCALE - SCALE_BIAS + self.emax

    @cached_property
    def digest(self) -> str:
        """A stable fingerprint of everything that decides how this format rounds and encodes."""
        return hashlib.sha256(f"E8M0 {super().digest}".encode()).hexdigest()

    def with_scale(self, scale: Scale) -> ProfileFormat:
        """The same with another headroom or policy; with blocks of another shape it is an MX format no more."""
        usual = {"headroom": None, "policy": ScalePolicy.FLOOR}
        if replace(scale, **usual) == replace(self.scale, **usual):  # type: ignore[arg-type]
            base = self.name.removesuffix(policy_suffix(self.scale))
            return replace(self, scale=scale, name=base + policy_suffix(scale))
        return ProfileFormat(self.profile, self.bits, name=self.name, largest=self.largest).with_scale(scale)

    def scale_codes(self, top: ArrayLike) -> NDArray[np.uint8]:
        """The E8M0 codes of top exponents, `nan_top` among them: uint8 of their shape. ValueError for those out of
        range."""
        codes = np.asarray(top) - self.emax + SCALE_BIAS
        if codes.size and not 0 <= codes.min() <= codes.max() <= NAN_SCALE:
            raise ValueError(
                f"top {top!r}: {LOWEST_SCALE + self.emax} to {self.nan_top}, which stands for NaN, are allowed"
            )
        return codes.astype(np.uint8)

    def tops(self, scale_codes: ArrayLike) -> NDArray[np.int64]:
        """The top exponents, for `decode`, of E8M0 codes (whole numbers from 0 to 255): int64 of their shape."""
        return check_codes(scale_codes, 8, "the block scale E8M0").astype(np.int64) - SCALE_BIAS + self.emax

    def _encode(self, x: NDArray[Any], top: Any, out: NDArray[Any] | None) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """As every profile format's, except that NaN raises nothing: its block gets the NaN scale, and its element code
        0."""
        nan = np.isnan(x)
        if nan.any():
            x = np.where(nan, x.dtype.type(0), x)
        codes, tops = super()._encode(x, top, out)
        if not self.two_complement:
            codes[np.signbit(x) & (codes == 0)] = 1 << (self.bits - 1)
        if nan.any():
            tops = np.where(largest_of_groups(nan.astype(np.float32), self.scale) > 0, self.nan_top, tops)
        return codes, tops

    def decode(self, codes: ArrayLike, top: Any = None, *, out: NDArray[np.float32] | None = None) -> NDArray[Any]:
        """As every profile format's `decode`; all elements of a block are NaN where its `top` is `nan_top`.

        Scales of more than 127 - emax, at which the largest values are no float32 numbers, raise ValueError.
        """
        nan = np.asarray(top) == self.nan_top
        if not nan.any():
            return super().decode(codes, top, out=out)
        values = super().decode(codes, np.where(nan, self.emax, top), out=out)
        grouping = group(self.scale, values.shape)
        values[grouping.per_element(np.broadcast_to(nan, grouping.groups), values.shape)] = np.nan
        return values

    @cached_property
    def _decoded(self) -> NDArray[np.float64]:
        values = super()._decoded.copy()
        if not self.two_complement:
            values[1 << (self.bits - 1)] = -0.0
        return values


@cache
def microscaling_formats() -> tuple[MicroscalingFormat, ...]:
    """The MX formats of OCP's version 1.0 (formats/tables/microscaling.py)."""
    return tuple(_format(name, element) for name, element in ELEMENTS.items())


def _format(name: str, element: str) -> MicroscalingFormat:
    if element == "INT8":
        # Its integers have an implied scale of 2^-6, so a largest magnitude of 127 / 64 lies in binade 0.
        return MicroscalingFormat(profiles.fixed(8), 8, _scale(0), name, Family.MICROSCALING)
    of = standard_formats()[element]
    return MicroscalingFormat(of.profile, of.bits, _scale(of.top), name, Family.MICROSCALING, of.largest)


def _scale(emax: int) -> Scale:
    return Scale(per=Granularity.BLOCK, block=BLOCK, exponent_field=(LOWEST_SCALE + emax, HIGHEST_SCALE + emax))
