"""Learning rates by how well quantized errors keep their direction.

Source: F. Zhu et al., "Towards Unified INT8 Training for Convolutional Neural Network", CVPR 2020, the second method;
docs/definitions/methods.md section 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from predictor.gradient.angle import deviation, layer_sums


def phi(distance: float, alpha: float, beta: float) -> float:
    """max(exp(-alpha d), beta): what a layer's learning rate is multiplied by at a deviation d in [0, 2]."""
    return max(math.exp(-alpha * distance), beta)


def deviation_of(quantized: Tensor, g: Tensor) -> float:
    """1 - cos of the angle between a gradient and its quantized version; 0 where g is zero, 1 where only the quantized
    one is."""
    return deviation(layer_sums([quantized], [g])[0])


class Rates:
    """Learning rates of layers by their deviations in this step."""

    def __init__(self, alpha: float, beta: float):
        self._alpha, self._beta = alpha, beta
        self.deviations: dict[str, float] = {}

    def clear(self) -> None:
        """Begin a step."""
        self.deviations.clear()

    def see(self, parameters: Iterable[str], distance: float) -> None:
        """Take in the deviation of a layer, for all that its weight is made of; of what is used more than once the
        largest counts."""
        for parameter in parameters:
            self.deviations[parameter] = max(distance, self.deviations.get(parameter, 0.0))

    def apply(self, rates: dict[str, dict[str, Any]]) -> None:
        """Multiply the learning rates; the schedule sets them anew for the next step."""
        for name in self.deviations.keys() & rates.keys():  # frozen weights have no rate
            rates[name]["lr"] *= phi(self.deviations[name], self._alpha, self._beta)
