"""Encoded arrays: codes together with the scale that gives them a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from formats.format import ProfileFormat


@dataclass(frozen=True, eq=False)
class Codes:
    """What `encode` returns.

    codes: uint8 (uint16 above 8 bits) of the input's shape. top: int64 of the group shape. format: what encoded them.
    """

    codes: NDArray[Any]
    top: NDArray[np.int64]
    format: ProfileFormat

    def decode(self) -> NDArray[np.float32]:
        """The float32 values that the codes stand for; equal to `round` of the input as numbers."""
        return self.format.decode(self.codes, self.top)
