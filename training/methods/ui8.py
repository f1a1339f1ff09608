"""Unified INT8 training: clipping thresholds of errors that keep the gradient's direction, and learning rates by how
well they do.

Source: F. Zhu et al., "Towards Unified INT8 Training for Convolutional Neural Network", CVPR 2020;
docs/definitions/methods.md section 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

import torch
from torch import Tensor

from formats import Rounding
from numeric_formats.checks import number, one_of
from predictor.flow.sites import Quantizers, Site
from training.export.layer import ExportedLayer
from training.methods.direction import deviation_of
from training.methods.errors import ErrorOptions, ErrorState, exported_absmax
from training.methods.layers import MethodLayer
from training.methods.method import About, MethodSetup
from training.quantizers.clipped import SMALLEST_STEP, Clipped, absmax
from training.quantizers.description import AtAbsmax, AtThreshold, Description
from training.quantizers.estimator import straight_through
from training.weights import Group

SMALLEST_RATIO = 0.01
"""The smallest threshold that is tried, relative to the largest magnitude."""

CANDIDATES, NARROWINGS, DESCENTS = 16, 14, 40
ACTIVATION_DECAY = 0.9


class ThresholdSearch(StrEnum):
    """How a threshold is found: a grid and golden section, gradient descent from the largest magnitude, or not at all:
    it is that magnitude."""

    GRID = "grid"
    GRADIENT = "grad"
    NONE = "none"


class ActivationThreshold(StrEnum):
    """The threshold of activations: each tensor's largest magnitude, or a running mean of it."""

    ABSMAX = "absmax"
    EMA = "ema"


def deviation_slope(g: Tensor, threshold: Tensor, quantizer: Clipped) -> float:
    """The derivative of the deviation with respect to the threshold, with the rounding residuals taken as constants.

    Source: docs/definitions/methods.md section 4. Computed in float64.
    """
    g, step = g.detach().double(), (threshold.double() / quantizer.largest).clamp(min=SMALLEST_STEP)
    scaled = g / step
    values = quantizer.nearest(scaled)
    inside = scaled.abs() <= quantizer.largest
    quantized = values * step
    moved = torch.where(inside, (values - scaled) / quantizer.largest, g.sign())
    lengths = g.norm() * quantized.norm()
    if not lengths:
        return 0.0
    along = (g * quantized).sum() * (quantized * moved).sum() / quantized.square().sum()
    return (-((g * moved).sum() - along) / lengths).item()


def best_ratio(g: Tensor, quantizer: Clipped, search: ThresholdSearch | str = ThresholdSearch.GRID) -> float:
    """The threshold, relative to max|g|, of the least deviation that the search meets (to 1e-6 of it); 1, no clipping,
    is always tried."""
    search, largest = ThresholdSearch(search), absmax(g)
    tried: dict[float, float] = {}

    def distance(ratio: float) -> float:
        if ratio not in tried:
            tried[ratio] = deviation_of(quantizer(g, largest * ratio), g)
        return tried[ratio]

    if search is ThresholdSearch.NONE:
        return 1.0
    distance(1.0)
    if search is ThresholdSearch.GRID:
        _golden(distance)
    elif search is ThresholdSearch.GRADIENT:
        _descend(distance, lambda ratio: deviation_slope(g, largest * ratio, quantizer) * largest.item())
    # Among ratios that differ by float32's roundings alone, the one that clips least.
    bound = min(tried.values()) * (1 + 1e-6)
    return max(ratio for ratio, found in tried.items() if found <= bound)


def _golden(distance: Callable[[float], float]) -> None:
    """Log-spaced ratios, then golden section, in the logarithm, around the best."""
    step = -math.log(SMALLEST_RATIO) / (CANDIDATES - 1)
    ratios = [SMALLEST_RATIO * math.exp(step * k) for k in range(CANDIDATES - 1)] + [1.0]
    best = min(range(CANDIDATES), key=lambda k: distance(ratios[k]))
    low, high = math.log(ratios[max(best - 1, 0)]), math.log(ratios[min(best + 1, CANDIDATES - 1)])
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(NARROWINGS):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if distance(math.exp(left)) <= distance(math.exp(right)):
            high = right
        else:
            low = left


def _descend(distance: Callable[[float], float], slope: Callable[[float], float]) -> None:
    """Steps against the slope, in the logarithm of the ratio; halved where they do not help."""
    at, length = 0.0, 0.5
    for _ in range(DESCENTS):
        downhill = -math.copysign(length, slope(math.exp(at)))
        there = min(max(at + downhill, math.log(SMALLEST_RATIO)), 0.0)
        if there != at and distance(math.exp(there)) < distance(math.exp(at)):
            at = there
        else:
            length /= 2


@dataclass(frozen=True)
class UnifiedInt8(ErrorOptions):
    """Options of Unified INT8 training.

    Args:
        search: `grid`, `grad` or `none`, which with alpha=0 is plain scaling by the largest magnitude.
        period: Steps between searches, in which the threshold stays the same part of the largest magnitude.
        activation_threshold: `absmax` or `ema` (of 0.9).

    The others are those of `ErrorOptions`; d is always that of rounding to nearest.
    """

    about: ClassVar[About] = About(
        name="ui8",
        weight="INT8",
        activation="INT8",
        error="INT8, clipped to keep its direction",
        gradient="-, learning rate by direction",
        granularity="tensor",
        rounding="stochastic",
        layers="all",
        source="CVPR 2020",
    )
    search: ThresholdSearch = ThresholdSearch.GRID
    period: int = 100
    activation_threshold: ActivationThreshold = ActivationThreshold.ABSMAX

    def __post_init__(self) -> None:
        super().__post_init__()
        number("ui8: period", self.period, 1, whole=True)
        object.__setattr__(self, "search", one_of("ui8: search", ThresholdSearch, self.search))
        object.__setattr__(
            self,
            "activation_threshold",
            one_of("ui8: activation_threshold", ActivationThreshold, self.activation_threshold),
        )

    def start(self, setup: MethodSetup) -> UnifiedInt8State:
        """The state for one run."""
        return UnifiedInt8State(self, setup)


@dataclass
class Thresholds:
    """Clipping thresholds of activations at sites: a running mean of the batches' largest magnitudes, by name of the
    site."""

    decay: float
    values: dict[str, Tensor] = field(default_factory=dict)

    def see(self, name: str, largest: Tensor, update: bool) -> Tensor:
        """The threshold at a site after, if `update`, its newest largest magnitude was taken in."""
        known = self.values.get(name)
        if known is None:
            self.values[name] = largest
        elif update:
            self.values[name] = self.decay * known + (1 - self.decay) * largest
        return self.values[name]


class UnifiedInt8State(ErrorState):
    """The state of Unified INT8 in one run: a ratio of threshold to largest magnitude for each site's errors, and how
    old it is."""

    def __init__(self, options: UnifiedInt8, setup: MethodSetup):
        super().__init__(options, setup)
        self.options = options
        self.ratios: dict[str, float] = {}
        self._steps = 0
        self._thresholds = Thresholds(ACTIVATION_DECAY)

    def site(self, site: Site) -> Quantizers | None:
        layer = self.layer_of(site)
        if layer is None:
            return None
        return Quantizers(
            input=lambda x: self._activation(site, x),
            weight=self.quantizer.at_absmax,
            error=lambda e: self._error(layer, e),
        )

    def _activation(self, site: Site, x: Tensor) -> Tensor:
        if self.options.activation_threshold is ActivationThreshold.ABSMAX:
            return self.quantizer.at_absmax(x)
        threshold = self.once(
            ("threshold", site.name, site.time),
            lambda: self._thresholds.see(site.name, absmax(x), self.training and not self.calibrating),
        )
        return straight_through(x, self.quantizer(x, threshold), x.detach().abs() <= threshold)

    def _error(self, layer: MethodLayer, e: Tensor) -> tuple[Tensor, Tensor]:
        name = layer.name
        if name not in self.ratios or self._steps % self.options.period == 0:
            self.ratios[name] = best_ratio(e, self.error_quantizer, self.options.search)
        threshold = absmax(e) * self.ratios[name]
        rounding = self.options.error_rounding
        both = self.error_quantizer(e, threshold, rounding, self._streams)
        if self.options.alpha:
            nearest = both if rounding is Rounding.NEAREST else self.error_quantizer(e, threshold)
            self.rates.see(layer.made_of, deviation_of(nearest, e))
        return both, both

    def group(self, parameter: str) -> Group:
        return self.own_rate(parameter)

    def end_step(self) -> None:
        self._steps += 1

    def tensors(self) -> dict[str, Tensor]:
        return self._thresholds.values

    def state(self) -> dict[str, Any]:
        return {"ratios": self.ratios, "steps": self._steps}

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        self._thresholds.values = tensors
        self.ratios, self._steps = state["ratios"], state["steps"]

    def exported(self) -> list[ExportedLayer]:
        format = self.quantizer.format.name

        def described(name: str) -> Description:
            if self.options.activation_threshold is ActivationThreshold.ABSMAX:
                return AtAbsmax(format)
            return AtThreshold(format, self._thresholds.values[name].item())

        return exported_absmax(self.layers, self.quantizer, described)
