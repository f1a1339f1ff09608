"""Angles between the rounded and the full-precision gradients of a training step."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from predictor.gradient.angle import degrees, layer_sums
from training.delayed import RoundingCounts
from training.weights import Weight


class StepAngles(NamedTuple):
    """Degrees between quantized and full-precision gradients: of all layers as one vector, and of each by the name of
    its weight."""

    all: float
    each: dict[str, float]

    @property
    def mean(self) -> float:
        """Of the layers' own; NaN where there is none."""
        return float(np.mean(list(self.each.values()))) if self.each else math.nan


def angles_to(full: Sequence[Tensor | None], weights: Sequence[Weight], measured: Collection[int]) -> StepAngles:
    """Between the gradients of masters and the full-precision ones, of the parameters that the predictor measures.

    NaN where a method trains other parameters in their place. measured: the identities of these parameters.
    """
    both = {
        weight.name: (weight.master.grad, g)
        for weight, g in zip(weights, full, strict=True)
        if id(weight.parameter) in measured and (weight.master.grad is not None or g is not None)
    }
    if not both or any(q is None or g is None for q, g in both.values()):
        return StepAngles(math.nan, {})
    sums = layer_sums(*zip(*both.values(), strict=True))
    return StepAngles(degrees(sums.sum(0)), {name: degrees(row) for name, row in zip(both, sums, strict=True)})


def with_angles(seen: list[RoundingCounts], angles: StepAngles, weights: Sequence[Weight]) -> list[RoundingCounts]:
    """The angle of each layer in the row of its weight, or in one of its own where the weight is not rounded."""
    left = dict(angles.each)
    seen = [entry._replace(angle=left.pop(entry.place, None)) for entry in seen]
    sizes = {weight.name: weight.parameter.numel() for weight in weights}
    return seen + [
        RoundingCounts("W", name, 0, sizes[name], None, None, None, 0, None, angle) for name, angle in left.items()
    ]
