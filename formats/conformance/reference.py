"""A format as something to compare with: its values, and where rounding to them changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from formats.kinds.codebook_format import CodebookFormat
from formats.kinds.profile_format import ProfileFormat
from formats.kinds.standard_format import StandardFormat
from formats.names import standard
from formats.specials import Overflow


@dataclass(frozen=True)
class FixedReference:
    """A format with one scale for all elements, at top exponent `top`."""

    format: StandardFormat | CodebookFormat | ProfileFormat
    top: int

    @property
    def name(self) -> str:
        return self.format.name if isinstance(self.format, StandardFormat) else f"{self.format.name} at top {self.top}"

    def round(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
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


def standard_reference(name: str, overflow: Overflow) -> FixedReference:
    """A standard format by its name."""
    format = standard(name)
    assert isinstance(format, StandardFormat)
    return FixedReference(format.with_overflow(overflow), format.top)
