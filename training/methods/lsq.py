"""LSQ: steps of weights and activations learned with the task's loss.

Source: S. Esser et al., "Learned Step Size Quantization", ICLR 2020; docs/definitions/methods.md section 6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import torch
from torch import Tensor

from numeric_formats.checks import one_of
from training.methods.layers import MethodLayer
from training.methods.learned_steps import LearnedState, LearnedSteps, signed_grid, unsigned_grid
from training.methods.method import About, MethodSetup
from training.quantizers.clipped import SMALLEST_LEARNED_STEP


class Sign(StrEnum):
    """Whether activations have negative codes: as the first mini-batch needs them (auto), always, or never."""

    AUTO = "auto"
    SIGNED = "signed"
    UNSIGNED = "unsigned"


def first_step(x: Tensor, high: int, dims: tuple[int, ...] | None = None) -> Tensor:
    """2 * mean|x| / sqrt(high), float32: a scalar, or over `dims` alone, which stay as 1. 1 where x is zero."""
    mean = x.detach().abs().float().mean() if dims is None else x.detach().abs().float().mean(dims, keepdim=True)
    return torch.where(mean > 0, (2 * mean / math.sqrt(high)).clamp(min=SMALLEST_LEARNED_STEP), 1.0)


@dataclass(frozen=True)
class LSQ(LearnedSteps):
    """Options of LSQ.

    Args:
        activations: `auto`, `signed` or `unsigned`; the network's first layer is always auto.

    The others are those of `LearnedSteps`. Weight decay is 1, 1/2 and 1/4 of the run's at 4, 3 and 2 bits, and 0 for
    steps.

    Start from trained weights (`start="pretrained"`), rate 0.01, cosine.
    """

    about: ClassVar[About] = About(
        name="lsq",
        weight="INTn, learned step",
        activation="INTn, learned step",
        error="-",
        gradient="-",
        granularity="tensor (weights: or channel)",
        rounding="-",
        layers="all; first and last 8 bits",
        source="ICLR 2020",
    )

    activations: Sign = Sign.AUTO

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "activations", one_of("lsq: activations", Sign, self.activations))

    def start(self, setup: MethodSetup) -> LSQState:
        """The state for one run."""
        return LSQState(self, setup)


class LSQState(LearnedState):
    """LSQ's state in one run."""

    def __init__(self, options: LSQ, setup: MethodSetup):
        self._sign = options.activations
        super().__init__(options, setup, lambda w, bits, dims: first_step(w, signed_grid(bits)[1], dims))

    def _start_activation(self, layer: MethodLayer, x: Tensor, bits: int) -> None:
        auto = layer.first or self._sign is Sign.AUTO
        signed = bool((x < 0).any()) if auto else self._sign is Sign.SIGNED
        self.grids[layer.name] = signed_grid(bits) if signed else unsigned_grid(bits)
        low, high = self.grids[layer.name]
        ranges = self._shared.ranges
        known = None if ranges is None else ranges.input_step(layer.site.layer, low, high)
        self._add(layer.name, first_step(x, high) if known is None else known)
