"""Rounding at many places, each with a scale that it keeps from step to step (docs/definitions/training.md section
1)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from formats import CodebookFormat, Format, ProfileFormat, Scale
from formats.kernel import Survey, survey_rounded
from formats.tensors import find_top
from predictor.gradient.angle import in_order, memory_order
from predictor.gradient.quantizers import round_in_dtype
from predictor.scheme import is_delayable, with_headroom


def survey_of(x: Tensor, q: Tensor, limit: float) -> Survey:
    """`formats.kernel.survey_rounded` of tensors of one shape in any memory order, on any device."""
    if x.device.type != "cpu":
        return _survey_elsewhere(x, q, limit)
    return survey_rounded(in_order(x, x), in_order(q, x), limit)


def _survey_elsewhere(x: Tensor, q: Tensor, limit: float) -> Survey:
    """The same on another device, where only the counts leave it."""
    x, q = x.detach().abs(), q.detach().abs()
    if not x.numel():
        return Survey(0.0, 0, 0)
    largest = torch.where(q.isinf(), 0.0, q).amax()  # NaN where there is one
    counts = torch.stack([(x > limit).sum(), ((q == 0) & (x > 0)).sum()])
    overflows, underflows = counts.tolist()
    return Survey(largest.item(), overflows, underflows)


def _top_of(format: ProfileFormat | CodebookFormat, x: Tensor) -> int:
    """The top exponent that the scale rule picks for a whole tensor on any device."""
    if isinstance(format, CodebookFormat) or x.is_cpu:
        return int(format.find_top(x.detach().cpu()))
    return int(find_top(format, x))


class RoundingCounts(NamedTuple):
    """What rounding did to one tensor, or to all parts of one weight.

    Attributes:
        kind: A, E, W or G.
        place: A point's or a parameter's name.
        term: 1 for the second of two terms.
        elements: How many.
        top_low: The least scale exponent, None where the format has none of its own.
        top_high: The largest one.
        overflows: Elements beyond the largest value, None where that is not one number.
        underflows: Nonzero elements that became zero.
        flips: Quantized weights that changed, None but for W.
        angle: Of a weight's gradient to the full-precision one, degrees, where it was sampled.
        flips_by_scale: Those of the flips that would not have been at the scale of the step before, None where the
            format keeps its scale to itself; the others are the weights' own.
        oscillations: Those of the flips that were back, within `training.oscillation.WITHIN` steps of the flip before;
            None where flips are not looked for in every step.
    """

    kind: str
    place: str
    term: int
    elements: int
    top_low: int | None
    top_high: int | None
    overflows: int | None
    underflows: int
    flips: int | None = None
    angle: float | None = None
    flips_by_scale: int | None = None
    oscillations: int | None = None


def change_of_top(top: Any, largest: Any, saturated: Any, headroom: int) -> Any:
    """By how much T changes after a step: at most by one, from the largest rounded magnitude of all tensors of that
    step, and whether one saturated. Of numbers or of arrays.

    Source: docs/definitions/training.md section 1.
    """
    known = (largest > 0) & (largest < np.inf)  # False for NaN
    grows = largest >= 2.0 ** (top - headroom + 1) if headroom else saturated
    shrinks = largest < 2.0 ** (top - headroom)
    return known * (1 * grows - 1 * shrinks)


class Delayed:
    """The top exponent of one place: in use now, and what was seen since it was chosen."""

    def __init__(self, top: int):
        self.top = top
        self.largest = 0.0
        self.saturated = False

    def see(self, largest: float, overflows: int) -> None:
        """Take in one rounded tensor's largest magnitude and its number of saturated elements."""
        # NaN, once seen, stays.
        self.largest = largest if math.isnan(largest) else max(self.largest, largest)
        self.saturated |= overflows > 0

    def advance(self, headroom: int, low: int, high: int, above: int = 0) -> None:
        """The top exponent of the next step, within `low` to `high`. above: how many binades the largest value lies in
        above 2^T, of a codebook."""
        changed = self.top + int(change_of_top(self.top + above, self.largest, self.saturated, headroom))
        self.top = min(max(changed, low), high)
        self.largest, self.saturated = 0.0, False


class Places:
    """Rounds the tensors of one kind (A, E or G) in one format, each place with its own delayed scale. Formats that are
    no precision profile or codebook with a tensor scale follow their own rule for the scale.

    Attributes:
        kind: A, E or G.
        format: As it rounds: with the headroom that scales leave, its own or else the given one.
        delayed: Whether scales are those of the steps before; else each tensor has its own.
        observations: Of this step's tensors.
        tops: The delayed top exponents by place and term, which is all the state between steps.
    """

    def __init__(self, kind: str, format: Format, headroom: int, delayed: bool = True):
        self.kind, self.format = kind, with_headroom(format, headroom)
        self._takes_top = is_delayable(format)
        self._above = format.largest_exponent if isinstance(format, CodebookFormat) else 0
        self.delayed = delayed and self._takes_top
        self.observations: list[RoundingCounts] = []
        self._states: dict[tuple[str, int], Delayed] = {}

    def round(self, x: Tensor, place: str, term: int = 0) -> Tensor:
        """Round a tensor at a place; its scale for the next step follows from it."""
        state = self._states.get((place, term))
        top = self._top(x) if state is None else state.top
        surveyed = isinstance(self.format, ProfileFormat) and x.is_cpu and x.dtype in (torch.float32, torch.float64)
        if top is not None and surveyed:
            rounded, seen = self._round_here(x, top)
        else:
            rounded = round_in_dtype(self.format, x, top)
            limit = np.inf if top is None else float(self.format.max(top))  # type: ignore[attr-defined]
            seen = survey_of(x, rounded, limit)
        largest, overflows, underflows = seen
        if self.delayed:
            assert top is not None  # a delayed scale
            if state is None:
                state = self._states[place, term] = Delayed(top)
            state.see(largest, overflows)
        self.observations.append(
            RoundingCounts(self.kind, place, term, x.numel(), top, top, None if top is None else overflows, underflows)
        )
        return rounded

    def _round_here(self, x: Tensor, top: int) -> tuple[Tensor, Survey]:
        """The same bits in x's memory order, and what rounding did, in one pass over it."""
        assert isinstance(self.format, ProfileFormat)  # codebooks take another way
        order = memory_order(x)
        ordered = order == tuple(range(x.ndim))  # as nearly all are, and small ones come by the thousand
        flat = (x.detach() if ordered else x.detach().permute(order)).contiguous()
        array, seen = self.format.round_surveyed(flat.numpy(), top, keep_infinities=True)
        rounded = torch.from_numpy(array)
        return (rounded if ordered else rounded.permute(*np.argsort(order).tolist())), seen

    def evaluate(self, x: Tensor, place: str, term: int = 0) -> Tensor:
        """Round a tensor at a place with the scale as it is, leaving no trace."""
        state = self._states.get((place, term))
        return round_in_dtype(self.format, x, self._top(x) if state is None else state.top)

    def _top(self, x: Tensor) -> int | None:
        """A tensor's own top exponent; None for formats that find their scales themselves."""
        format = self.format
        if not self._takes_top:
            return None
        assert isinstance(format, ProfileFormat | CodebookFormat)  # is_delayable
        # A delayed scale is one of the floor rule, whatever the format's own.
        return _top_of(format.with_scale(Scale(headroom=format.scale.headroom)) if self.delayed else format, x)

    def advance(self) -> list[RoundingCounts]:
        """End a step: scales move on. Returns what rounding did in it."""
        if self.delayed:
            assert isinstance(self.format, ProfileFormat | CodebookFormat)  # is_delayable
            low, high = self.format.top_range
            for state in self._states.values():
                state.advance(self.format.scale.room, low, high, self._above)
        seen, self.observations = self.observations, []
        return seen

    @property
    def tops(self) -> list[list[Any]]:
        """Place, term and top exponent of every delayed scale, between steps; plain values, for a checkpoint."""
        return [[place, term, state.top] for (place, term), state in self._states.items()]

    @tops.setter
    def tops(self, saved: list[list[Any]]) -> None:
        self._states = {(place, term): Delayed(top) for place, term, top in saved}
