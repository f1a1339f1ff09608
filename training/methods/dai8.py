"""Distribution Adaptive INT8: errors quantized channel by channel, with thresholds that follow each channel's
distribution.

Source: K. Zhao et al., "Distribution Adaptive INT8 Quantization for Training CNNs", AAAI 2021;
docs/definitions/methods.md section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from formats import Rounding
from numeric_formats.checks import number, one_of
from predictor.flow.sites import Quantizers, Site
from training.export.layer import ExportedLayer
from training.methods.channels import Sigma, channel_statistics
from training.methods.direction import deviation_of
from training.methods.errors import ErrorOptions, ErrorState, exported_absmax
from training.methods.layers import MethodLayer
from training.methods.method import About, MethodSetup
from training.quantizers.description import AtAbsmax
from training.weights import Group


def is_gaussian(errors: Tensor, bound: float, sigma: Sigma | str = Sigma.MEAN) -> Tensor:
    """Which channels look Gaussian: more than `bound` of their elements exceed the deviation. errors: (channels,
    elements); bool (channels,)."""
    return channel_statistics(errors, 0, sigma)[1] > bound


def next_thresholds(stored: Tensor, largest: Tensor, gaussian: Tensor, k: float, rate: float) -> Tensor:
    """Thresholds of the channels now: the largest magnitude where Gaussian, else (1 - k * rate) * stored + rate *
    largest.

    A channel whose largest magnitude is zero keeps what is stored. All of shape (channels,). Source:
    docs/definitions/methods.md section 3.
    """
    moved = torch.where(gaussian, largest, (1 - k * rate) * stored + rate * largest)
    return torch.where(largest == 0, stored, moved)


@dataclass(frozen=True)
class DistributionAdaptiveInt8(ErrorOptions):
    """Options of Distribution Adaptive INT8.

    Args:
        gaussian: The part of a channel's errors beyond its deviation above which it is Gaussian.
        k: Of the thresholds of other channels; 0 < k * rate < 2.
        rate: See k.
        sigma: `mean` or `zero`.
        direction_rate: Multiply learning rates as Unified INT8 does, with its alpha and beta, by the direction of the
            errors for dW.

    The others are those of `ErrorOptions`.
    """

    about: ClassVar[About] = About(
        name="dai8",
        weight="INT8",
        activation="INT8",
        error="INT8, two copies: for dW, for dx",
        gradient="-",
        granularity="tensor; errors for dW: channel",
        rounding="stochastic",
        layers="all",
        source="AAAI 2021",
    )
    gaussian: float = 0.3
    k: float = 1.0
    rate: float = 0.8
    sigma: Sigma = Sigma.MEAN
    direction_rate: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        number("dai8: gaussian", self.gaussian, 0, 1)
        if not 0 < self.k * self.rate < 2:
            raise ValueError(
                f"dai8: k * rate is {self.k * self.rate:g}; thresholds are stable only for products above 0 and below 2"
            )
        object.__setattr__(self, "sigma", one_of("dai8: sigma", Sigma, self.sigma))

    def start(self, setup: MethodSetup) -> DistributionAdaptiveInt8State:
        """The state for one run."""
        return DistributionAdaptiveInt8State(self, setup)


class DistributionAdaptiveInt8State(ErrorState):
    """The state in one run: a threshold for each channel of each site's errors."""

    def __init__(self, options: DistributionAdaptiveInt8, setup: MethodSetup):
        super().__init__(options, setup)
        self.options = options
        self.thresholds: dict[str, Tensor] = {}

    def site(self, site: Site) -> Quantizers | None:
        layer = self.layer_of(site)
        if layer is None:
            return None
        return Quantizers(
            input=self.quantizer.at_absmax, weight=self.quantizer.at_absmax, error=lambda e: self.errors(layer, e)
        )

    def errors(self, layer: MethodLayer, e: Tensor) -> tuple[Tensor, Tensor]:
        """The copies of a layer's errors for dW, by channel, and for dx, by tensor; the thresholds move on."""
        axis = e.ndim + layer.site.channel_axis
        largest, beyond = channel_statistics(e, axis, self.options.sigma)
        stored = self.thresholds.get(layer.name, largest)
        now = self.thresholds[layer.name] = next_thresholds(
            stored, largest, beyond > self.options.gaussian, self.options.k, self.options.rate
        )
        at = now.reshape([-1 if d == axis else 1 for d in range(e.ndim)])
        rounding = self.options.error_rounding
        for_weight = self.error_quantizer(e, at, rounding, self._streams)
        if self.options.direction_rate:
            nearest = for_weight if rounding is Rounding.NEAREST else self.error_quantizer(e, at)
            self.rates.see(layer.made_of, deviation_of(nearest, e))
        return for_weight, self.error_quantizer(e, largest.amax(), rounding, self._streams)

    def group(self, parameter: str) -> Group:
        return self.own_rate(parameter) if self.options.direction_rate else Group()

    def tensors(self) -> dict[str, Tensor]:
        return self.thresholds

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        self.thresholds = tensors

    def exported(self) -> list[ExportedLayer]:
        input = AtAbsmax(self.quantizer.format.name)
        return exported_absmax(self.layers, self.quantizer, lambda _: input)
