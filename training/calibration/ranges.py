"""Ranges for any grid: min-max, percentile, squared error, cross-entropy of logits, and from batch normalization
without data.

A range is two float32 tensors, its ends; for a symmetric grid the larger magnitude of the two is the clipping
threshold.
Source: docs/definitions/calibration.md section 1, steps 4 and 6 (M. Nagel et al., "A White Paper on Neural Network
Quantization", 2021, section 3.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from torch import Tensor

from numeric_formats.checks import not_allowed
from training.calibration.grids import Grid, OwnScales, Symmetric

CANDIDATES = 100
"""Ends are tried at whole hundredths of the full ones."""

COARSE = 20
"""Candidates of each end in the search over both at once, before each is refined by hundredths."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""Of a tensor and its quantized form, summed, so that the sums of mini-batches add up: a float64 scalar."""


class RangeRule(StrEnum):
    """How a range is set."""

    MINMAX = "minmax"
    MSE = "mse"
    PERCENTILE = "percentile"
    CROSS_ENTROPY = "cross-entropy"


@dataclass(frozen=True, eq=False)
class Range:
    """Two ends.

    Attributes:
        low: A float32 scalar, or a vector with an entry a channel.
        high: The same.
    """

    low: Tensor
    high: Tensor

    @property
    def threshold(self) -> Tensor:
        """The larger magnitude of the ends."""
        return torch.maximum(-self.low, self.high)


def squared_error(x: Tensor, quantized: Tensor) -> Tensor:
    """Sum of squared differences, float64."""
    return (quantized.double() - x.double()).square().sum()


def cross_entropy(x: Tensor, quantized: Tensor) -> Tensor:
    """Sum over samples of -sum_k p_k log q_k with p, q the softmax of logits and quantized logits (classes on the last
    axis), float64."""
    return -(x.double().softmax(-1) * quantized.double().log_softmax(-1)).sum()


def _ends(batches: Sequence[Tensor]) -> Range:
    """The least and the largest element. Raises ValueError for NaN and infinities."""
    filled = [x.detach() for x in batches if x.numel()]
    low = torch.stack([x.amin() for x in filled]).amin().float() if filled else torch.zeros(())
    high = torch.stack([x.amax() for x in filled]).amax().float() if filled else torch.zeros(())
    if not (low.isfinite() and high.isfinite()):
        raise ValueError(
            f"a tensor to set a range for reaches from {low.item()} to {high.item()}; finite numbers are needed"
        )
    return Range(low, high)


def search_range(batches: Sequence[Tensor], grid: Grid, loss: Loss = squared_error, full: Range | None = None) -> Range:
    """The range with the least loss summed over all mini-batches, among shrunk forms of the full one, which is a
    candidate too.

    Symmetric grids, and tensors that lie on one side of zero: 100 clipping values. Else both ends: 20 x 20 pairs, then
    each end by hundredths with the other held, until neither gains.

    Args:
        batches: Tensors of any shape.
        grid: What they are quantized on.
        loss: Of a tensor and its quantized form.
        full: The range to shrink; None for that from the least to the largest element.
    """
    full = full or _ends(batches)
    if isinstance(grid, OwnScales):
        return full
    low, high = full.low.clamp(max=0), full.high.clamp(min=0)
    if isinstance(grid, Symmetric):
        low = high = full.threshold
        if not high > 0:
            return full
    losses: dict[tuple[int, int], float] = {}

    def ends(at: tuple[int, int]) -> Range:
        a, b = (torch.tensor(k / CANDIDATES, dtype=torch.float64) for k in at)
        sign = -1.0 if isinstance(grid, Symmetric) else 1.0
        return Range((sign * a * low.double()).float(), (b * high.double()).float())

    def loss_at(at: tuple[int, int]) -> float:
        if at not in losses:
            tried = ends(at)
            losses[at] = float(sum(loss(x, grid(x.detach(), tried.low, tried.high)).item() for x in batches))
        return losses[at]

    best = (CANDIDATES, CANDIDATES)
    steps = range(CANDIDATES, 0, -1)
    if isinstance(grid, Symmetric) or not (low < 0 and high > 0):
        # min keeps the first of equals, which is the widest.
        return ends(min(((k, k) for k in steps), key=loss_at))
    coarse = range(CANDIDATES, 0, -CANDIDATES // COARSE)
    best = min(((a, b) for a in coarse for b in coarse), key=loss_at)
    while True:
        first = min((best, *((k, best[1]) for k in steps)), key=loss_at)
        second = min((first, *((first[0], k) for k in steps)), key=loss_at)
        if second == best:
            return ends(best)
        best = second


def percentile_range(batches: Sequence[Tensor], percentile: float = 99.99) -> Range:
    """Ends beyond which lie (100 - percentile)% of the elements in all, half of them on each side; on one side alone
    where zero is an end.

    Args:
        batches: Tensors of any shape.
        percentile: Above 50, at most 100.

    Raises:
        ValueError: For another percentile, and for NaN and infinities.
    """
    if not 50 < percentile <= 100:
        raise ValueError(f"percentile {percentile}: above 50 and at most 100 is needed")
    full = _ends(batches)
    values = np.concatenate([x.detach().float().cpu().numpy().ravel() for x in batches])
    if not values.size:
        return full
    outside = 100 - percentile
    sides = (0.0, outside) if full.low >= 0 else (outside, 0.0) if full.high <= 0 else (outside / 2, outside / 2)
    low, high = np.percentile(values, (sides[0], 100 - sides[1])).astype(np.float32)
    return Range(torch.tensor(low), torch.tensor(high))


def find_range(
    batches: Tensor | Sequence[Tensor],
    grid: Grid,
    rule: RangeRule | str = RangeRule.MSE,
    *,
    axis: int | None = None,
    percentile: float = 99.99,
    full: Range | None = None,
) -> Range:
    """A range for tensors of any shape, float32: one for all, or one for each index of an axis.

    The range of a grid with scales of its own is the full one, and decides nothing.

    Args:
        batches: A tensor, or several whose losses add up.
        grid: What they are quantized on.
        rule: `minmax`, `mse`, `percentile`, or for logits `cross-entropy`.
        axis: Of the channels; None for one range.
        percentile: Of that rule.
        full: The range that minmax gives and mse shrinks, where the tensors are a sample of more (not with an axis).

    Raises:
        ValueError: For NaN and infinities, and for cross-entropy of channels.
    """
    tensors = [batches] if isinstance(batches, Tensor) else list(batches)
    rule = RangeRule(rule)
    if axis is not None:
        if rule is RangeRule.CROSS_ENTROPY:
            raise ValueError("cross-entropy is of all logits together; a range a channel has mse, minmax or percentile")
        if isinstance(grid, Symmetric) and rule is RangeRule.MSE and len(tensors) == 1:
            return _mse_of_channels(tensors[0].detach(), grid, axis)
        found = [
            find_range(list(channel), grid, rule, percentile=percentile)
            for channel in zip(*(x.detach().unbind(axis) for x in tensors), strict=True)
        ]
        return Range(torch.stack([each.low for each in found]), torch.stack([each.high for each in found]))
    if rule is RangeRule.MINMAX:
        return full or _ends(tensors)
    if rule is RangeRule.PERCENTILE:
        return percentile_range(tensors, percentile)
    return search_range(tensors, grid, squared_error if rule is RangeRule.MSE else cross_entropy, full)


def _mse_of_channels(x: Tensor, grid: Symmetric, axis: int) -> Range:
    """`search_range` of all channels at once."""
    _ends([x])
    shape = [-1 if d == axis % x.ndim else 1 for d in range(x.ndim)]
    others = [d for d in range(x.ndim) if d != axis % x.ndim]
    full = x.abs().float().amax(others)
    best, least = full.clone(), torch.full_like(full, math.inf, dtype=torch.float64)
    for k in range(CANDIDATES, 0, -1):
        tried = (k / CANDIDATES * full.double()).float()
        error = (grid.clipped(x, tried.reshape(shape)).double() - x.double()).square().sum(others)
        better = error < least
        best, least = torch.where(better, tried, best), torch.where(better, error, least)
    return Range(-best, best)


def normalized_range(
    gamma: Tensor, beta: Tensor, activation: str = "none", spread: float = 6.0, *, per_channel: bool = False
) -> Range:
    """min(beta - a |gamma|) to max(beta + a |gamma|) of normalized channels, from 0 after a ReLU, to 6 at most after a
    ReLU6: no data needed.

    Args:
        gamma: Standard deviation of each channel.
        beta: Mean of each channel.
        activation: `none`, `relu` or `relu6`.
        spread: a.
        per_channel: A range for each channel.
    """
    if activation not in ("none", "relu", "relu6"):
        raise not_allowed("activation", activation, ("none", "relu", "relu6"))
    low, high = beta - spread * gamma.abs(), beta + spread * gamma.abs()
    if not per_channel:
        low, high = low.amin(), high.amax()
    if activation != "none":
        low, high = torch.zeros_like(low), high.clamp(min=0)
    if activation == "relu6":
        high = high.clamp(max=6)
    return Range(low.float(), high.float())


@dataclass
class Seen:
    """A sample of the elements of many tensors, and the range of all of them.

    Attributes:
        limit: Elements kept of each tensor; every k-th is, with k from the tensor's size alone.
        whole: Keep all (logits).
        kept: The sample.
        full: The range.
    """

    limit: int
    whole: bool = False
    kept: list[Tensor] = field(default_factory=list)
    full: Range | None = None

    def see(self, x: Any) -> None:
        """Take a tensor in. Raises ValueError for NaN and infinities."""
        x = x.detach().float()
        own = _ends([x])
        self.full = (
            own
            if self.full is None
            else Range(torch.minimum(own.low, self.full.low), torch.maximum(own.high, self.full.high))
        )
        if self.whole:
            self.kept.append(x.clone())
            return
        flat = x.reshape(-1)
        # An odd stride, so that it does not fall in with the even sizes of rows and channels.
        stride = max(1, math.ceil(flat.numel() / self.limit)) | 1 if flat.numel() > self.limit else 1
        self.kept.append(flat[::stride].clone())

    def range(self, grid: Grid, rule: RangeRule, percentile: float) -> Range:
        """A range for all that was seen."""
        return find_range(self.kept, grid, rule, percentile=percentile, full=self.full)
