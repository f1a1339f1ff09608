"""LSQ+: LSQ with a learned offset of activations, and steps that begin where the error is least.

Source: Y. Bhalgat et al., "LSQ+: Improving low-bit quantization through learnable offsets and better initialization",
CVPR 2020 workshops; docs/definitions/methods.md section 7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import torch
from torch import Tensor

from numeric_formats.checks import number, one_of
from training.methods.layers import MethodLayer
from training.methods.learned_steps import LearnedState, LearnedSteps, signed_grid, unsigned_grid
from training.methods.method import About, MethodSetup
from training.quantizers.clipped import SMALLEST_LEARNED_STEP
from training.quantizers.learned import quantize_by_step

LOW_ENDS, HIGH_ENDS = 8, 15
"""How many ends of the range the search tries, from the whole range inwards."""

MOST_SEARCHED = 1 << 16
"""Elements that the search looks at."""


class ActivationInit(StrEnum):
    """How steps and offsets of activations begin: the least squared error of a search over ranges, or the whole
    range."""

    SEARCH = "search"
    MIN_MAX = "min-max"


def three_sigma_step(weight: Tensor, divisor: float, dims: tuple[int, ...] | None = None) -> Tensor:
    """max(|mean - 3 sigma|, |mean + 3 sigma|) / divisor, float32; a scalar, or over `dims` alone. 1 where the weight is
    zero."""
    w = weight.detach().float()
    if dims is None:
        mean, sigma = w.mean(), w.std(correction=0)
    else:
        mean, sigma = w.mean(dims, keepdim=True), w.std(dims, correction=0, keepdim=True)
    reach = torch.maximum((mean - 3 * sigma).abs(), (mean + 3 * sigma).abs())
    return torch.where(reach > 0, (reach / divisor).clamp(min=SMALLEST_LEARNED_STEP), 1.0)


def min_max(low_end: Tensor, high_end: Tensor, low: int, high: int) -> tuple[Tensor, Tensor]:
    """Step and offset with which a range fills a grid; step 1 for an empty range."""
    span = high_end - low_end
    step = torch.where(span > 0, span / (high - low), 1.0).clamp(min=SMALLEST_LEARNED_STEP)
    return step, low_end - low * step


def searched(x: Tensor, low: int, high: int) -> tuple[Tensor, Tensor]:
    """Step and offset (float32 scalars) of the least squared error on x, among ranges that shrink x's own from both
    ends.

    A large x is represented by 65536 of its elements, evenly spaced. The whole range is one of those tried.
    """
    flat = x.detach().float().flatten()
    flat = flat[:: max(1, flat.numel() // MOST_SEARCHED)]
    least, largest = flat.amin(), flat.amax()
    middle = flat.mean()
    best, found = math.inf, min_max(least, largest, low, high)
    for i in range(LOW_ENDS):
        for j in range(HIGH_ENDS):
            # Each end moves towards the mean, so that a range on one side of zero shrinks too.
            low_end = least + (middle - least) * (i / LOW_ENDS)
            high_end = largest + (middle - largest) * (j / HIGH_ENDS)
            step, offset = min_max(low_end, high_end, low, high)
            error = (quantize_by_step(flat, step, low, high, 1.0, offset) - flat).square().mean().item()
            if error < best:
                best, found = error, (step, offset)
    return found


@dataclass(frozen=True)
class LSQPlus(LearnedSteps):
    """Options of LSQ+, beside those of `LearnedSteps`.

    Args:
        signed: Integers of activations are two's complement; the same functions, with another gradient factor.
        init: `search` or `min-max`.
        divisor: Of the weights' first step, max(|mean -+ 3 sigma|) / divisor; by default 2^(bits-1).
    """

    about: ClassVar[About] = About(
        name="lsqplus",
        weight="INTn, learned step",
        activation="INTn, learned step and offset",
        error="-",
        gradient="-",
        granularity="tensor (weights: or channel)",
        rounding="-",
        layers="all; first and last 8 bits",
        source="CVPR 2020 workshops",
    )
    signed: bool = False
    init: ActivationInit = ActivationInit.SEARCH
    divisor: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.divisor is not None:
            number(f"{self.about.name}: divisor", self.divisor, SMALLEST_LEARNED_STEP)
        object.__setattr__(self, "init", one_of("lsqplus: init", ActivationInit, self.init))

    def start(self, setup: MethodSetup) -> LSQPlusState:
        """The state for one run."""
        return LSQPlusState(self, setup)


class LSQPlusState(LearnedState):
    """LSQ+'s state in one run."""

    def __init__(self, options: LSQPlus, setup: MethodSetup):
        self._options = options
        divisor = options.divisor
        super().__init__(
            options,
            setup,
            lambda w, bits, dims: three_sigma_step(w, 2 ** (bits - 1) if divisor is None else divisor, dims),
        )

    def _start_activation(self, layer: MethodLayer, x: Tensor, bits: int) -> None:
        low, high = self.grids[layer.name] = (signed_grid if self._options.signed else unsigned_grid)(bits)
        known = None if self._options.ranges is None else self._options.ranges.inputs.get(layer.site.layer)
        if known is not None:
            step, offset = min_max(torch.tensor(min(known[0], 0.0)), torch.tensor(max(known[1], 0.0)), low, high)
        elif self._options.init is ActivationInit.SEARCH:
            step, offset = searched(x, low, high)
        else:
            step, offset = min_max(x.detach().float().amin(), x.detach().float().amax(), low, high)
        self._add(layer.name, step)
        self._add(layer.name, offset, "offset")
