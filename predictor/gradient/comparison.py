"""Two gradients compared parameter by parameter, in whatever order these come."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from formats.kernel import BUCKETS
from predictor.gradient.angle import layer_sums
from predictor.gradient.sketches import add_sketch


class Comparison:
    """What is kept of one gradient beside another.

    Args:
        sizes: elements of each parameter.
    """

    def __init__(self, sizes: Sequence[int]):
        self._first = [0, *accumulate(sizes)]
        self._begin()

    def _begin(self) -> None:
        count = len(self._first) - 1
        self._sums, self._sketches = np.zeros((count, 3)), np.zeros((count, 2, BUCKETS))

    def see(self, number: int, quantized: Tensor, full: Tensor) -> None:
        """Compare the gradients of the parameter at this place."""
        self._sums[number] = layer_sums([quantized], [full])[0]
        add_sketch(self._sketches[number], quantized, full, self._first[number])

    def taken(self) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """<d,g>, |d|^2 and |g|^2 of each parameter, (parameters, 3), and the sketches of d and g, (2, BUCKETS). Neither
        depends on the order in which parameters came. The next comparison begins anew."""
        found = self._sums, self._sketches.sum(0).astype(np.float32)
        self._begin()
        return found
