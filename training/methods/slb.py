"""SLB: weights of 1, 2 or 4 bits as distributions over a list of values, sharpened until one value is left.

Source: Z. Yang et al., "Searching for Low-Bit Weights in Quantized Neural Networks", NeurIPS 2020, in the variant of
MindSpore Golden Stick; docs/definitions/methods.md section 8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from numeric_formats.checks import not_allowed, number, one_of
from predictor.flow.sites import Quantizers, Site
from training.export.layer import ExportedLayer
from training.methods.layers import MethodLayer
from training.methods.method import About, MethodSetup, MethodState, NetworkInTraining
from training.quantizers.description import FixedRange
from training.quantizers.integers import asymmetric
from training.weights import Group

INITIAL_RANGE = (-6.0, 6.0)
ACTIVATION_BITS, ACTIVATION_DECAY = 8, 0.999


class ValueScale(StrEnum):
    """Whether a layer's values are multiplied by a learned number, which layers without batch normalization need."""

    NONE = "none"
    PER_LAYER = "per-layer"


class LogitsInit(StrEnum):
    """How the distributions begin: drawn, or around the network's own weights, divided by their largest magnitude."""

    RANDOM = "random"
    WEIGHTS = "weights"


def values_of(bits: int) -> Tensor:
    """The 2^bits values that weights choose from: float32, evenly spaced from -1 to 1."""
    return torch.linspace(-1, 1, 2**bits)


def soft_weights(logits: Tensor, temperature: float, values: Tensor) -> Tensor:
    """The mean of the values under softmax(temperature * logits) over the last axis, which the result has not."""
    return torch.softmax(temperature * logits, -1) @ values


def hard_weights(logits: Tensor, values: Tensor) -> Tensor:
    """The likeliest value of each weight; of equally likely ones the lowest."""
    return values[_likeliest(logits)]


def _likeliest(logits: Tensor) -> Tensor:
    """The first index of the largest entry of the last axis; argmax leaves open which of equal ones it takes."""
    logits = logits.detach()
    return (logits == logits.amax(-1, keepdim=True)).byte().argmax(-1) if logits.shape[-1] else logits.argmax(-1)


def is_hard(epoch: int, epochs: int, end_time: float) -> bool:
    """Whether training uses the likeliest values in an epoch, counted from 1."""
    return epoch >= int(epochs * end_time)


def temperature_of(epoch: int, epochs: int, start: float, start_time: float, end_time: float, factor: float) -> float:
    """What logits are multiplied by in an epoch, counted from 1: constant, then growing by `factor` an epoch, then
    constant."""
    first, last = int(epochs * start_time), int(epochs * end_time)
    return start if epoch <= first else start * factor ** (min(epoch, last) - first)


@dataclass(frozen=True)
class SLB:
    """Options of SLB.

    Args:
        bits: Of weights, 1, 2 or 4.
        t_start_val: The temperature at the start.
        t_start_time: Part of the epochs before it grows.
        t_end_time: Part of the epochs at which it ends.
        t_factor: Growth an epoch; t_factor^(epochs between) is best 1000 or more (`temperature_of`).
        trained_epochs: Epochs that came before this run.
        bn_calibration: After every epoch from t_start_time on, statistics of batch normalization are found anew with
            the likeliest weights.
        activations: Inputs and outputs of convolutions in INT8.
        activation_delay: Steps before they are.
        scale: `none` or `per-layer`.
        init: `random` or `weights`.
    """

    about: ClassVar[About] = About(
        name="slb",
        weight="1, 2 or 4 bits, searched",
        activation="float32, or INT8",
        error="-",
        gradient="-",
        granularity="one list a layer",
        rounding="-",
        layers="convolutions",
        source="NeurIPS 2020",
    )
    forward: ClassVar[bool] = True
    backward: ClassVar[bool] = False

    bits: int = 1
    t_start_val: float = 1.0
    t_start_time: float = 0.2
    t_end_time: float = 0.6
    t_factor: float = 1.2
    trained_epochs: int = 0
    bn_calibration: bool = False
    activations: bool = False
    activation_delay: int = 900
    scale: ValueScale = ValueScale.NONE
    init: LogitsInit = LogitsInit.RANDOM

    def __post_init__(self) -> None:
        if self.bits not in (1, 2, 4) or isinstance(self.bits, bool):
            raise not_allowed("slb: bits", self.bits, (1, 2, 4))
        for name in ("t_start_val", "t_factor"):
            number(f"slb: {name}", getattr(self, name), 0)
            if not getattr(self, name):
                raise ValueError(f"slb: {name} 0: a number above 0 is needed")
        number("slb: t_start_time", self.t_start_time, 0, 1)
        number("slb: t_end_time", self.t_end_time, self.t_start_time, 1)
        number("slb: activation_delay", self.activation_delay, 0, whole=True)
        number("slb: trained_epochs", self.trained_epochs, 0, whole=True)
        object.__setattr__(self, "scale", one_of("slb: scale", ValueScale, self.scale))
        object.__setattr__(self, "init", one_of("slb: init", LogitsInit, self.init))

    def start(self, setup: MethodSetup) -> SLBState:
        """The state for one run."""
        return SLBState(self, setup)


class SLBState(MethodState):
    """SLB's state in one run: the logits of every convolution's weights."""

    OWN = ("logits.", "scale.")

    def __init__(self, options: SLB, setup: MethodSetup):
        super().__init__(setup)
        self.options = options
        self._epochs = setup.epochs + options.trained_epochs
        self.values = values_of(options.bits)
        self.temperature, self.hard = options.t_start_val, False
        self._steps = 0
        self.ranges: dict[str, Tensor] = {}
        self._generators: dict[str, torch.Generator] = {}
        self.meet()

    def takes(self, layer: MethodLayer) -> bool:
        return layer.is_convolution

    def begin_layer(self, layer: MethodLayer, generator: torch.Generator) -> None:
        self._generators.setdefault(layer.parameter, generator)
        if not layer.computed:
            self._start(layer, layer.weight)

    def _start(self, layer: MethodLayer, weight: Tensor) -> None:
        """The distributions of a weight, and the number that its values are multiplied by, where it has none yet."""
        options, name, weight = self.options, layer.parameter, weight.detach()
        known = self.parameters.get(f"logits.{name}")
        if known is not None:
            if known.shape[:-1] != weight.shape:
                raise ValueError(
                    f"slb: layer {layer.name} uses the weight {name} with axes {tuple(weight.shape)}, another layer "
                    f"with {tuple(known.shape[:-1])}; give each a weight of its own"
                )
            return
        if options.init is LogitsInit.WEIGHTS:
            relative = weight / weight.abs().amax().clamp(min=torch.finfo(weight.dtype).tiny)
            start = -((relative[..., None] - self.values) ** 2)
        else:
            # Deviation of a normal distribution by fan-out, counted on the tensor with its last axis.
            fan = weight.shape[layer.output_axes[0]] * math.prod(weight.shape[2:]) * len(self.values)
            drawn = torch.randn(*weight.shape, len(self.values), generator=self._generators[name])
            start = drawn * math.sqrt(2 / fan)
        self.parameters[f"logits.{name}"] = nn.Parameter(start)
        if options.scale is ValueScale.PER_LAYER:
            self.parameters[f"scale.{name}"] = nn.Parameter(weight.abs().mean().reshape(()))

    def site(self, site: Site) -> Quantizers | None:
        layer = self.layer_of(site)
        if layer is None:
            return None

        def weight(w: Tensor) -> Tensor:
            self._start(layer, w)
            return self.weight(layer)

        if not self.options.activations:
            return Quantizers(weight=weight)
        return Quantizers(
            input=lambda x: self._activation(f"input.{site.name}", x, site.time),
            weight=weight,
            output=lambda y: self._activation(f"output.{site.name}", y, site.time),
        )

    def weight(self, layer: MethodLayer) -> Tensor:
        """A layer's weight: soft in training until the temperature's end, then and in evaluation the likeliest
        values."""
        logits = self.parameters[f"logits.{layer.parameter}"]
        soft = self.training and not self.hard
        found = soft_weights(logits, self.temperature, self.values) if soft else hard_weights(logits, self.values)
        scale = self.parameters.get(f"scale.{layer.parameter}")
        return found if scale is None else found * scale

    def _activation(self, name: str, x: Tensor, time: int) -> Tensor:
        known = self.once(("range", name, time), lambda: self._range(name, x))
        if self._steps < self.options.activation_delay:
            return x
        return asymmetric(x, known[0], known[1], ACTIVATION_BITS)

    def _range(self, name: str, x: Tensor) -> Tensor:
        """The range of activations at a place, which training moves on."""
        known = self.ranges.setdefault(name, torch.tensor(INITIAL_RANGE))
        if self.training and not self.calibrating:
            now = torch.stack([x.detach().amin(), x.detach().amax()]).float()
            known = self.ranges[name] = ACTIVATION_DECAY * known + (1 - ACTIVATION_DECAY) * now
        return known

    def group(self, parameter: str) -> Group:
        # After the temperature's end logits get no gradient, so that neither momentum nor weight decay moves them.
        return Group(decay=0.0) if parameter.startswith("scale.") and parameter in self.parameters else Group()

    def begin_epoch(self, epoch: int) -> None:
        o, counted = self.options, epoch + self.options.trained_epochs
        self.temperature = temperature_of(
            counted, self._epochs, o.t_start_val, o.t_start_time, o.t_end_time, o.t_factor
        )
        self.hard = is_hard(counted, self._epochs, o.t_end_time)

    def end_epoch(self, epoch: int, network: NetworkInTraining) -> None:
        started = epoch + self.options.trained_epochs > int(self._epochs * self.options.t_start_time)
        if self.options.bn_calibration and started:
            calibrate_normalization(network)

    def end_step(self) -> None:
        self._steps += 1

    def tensors(self) -> dict[str, Tensor]:
        return self.ranges

    def state(self) -> dict[str, Any]:
        return {"steps": self._steps}

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        self.ranges, self._steps = tensors, state["steps"]

    def exported(self) -> list[ExportedLayer]:
        found = []
        for name, layer in self.layers.items():
            logits, scale = (
                self.parameters[f"logits.{layer.parameter}"],
                self.parameters.get(f"scale.{layer.parameter}"),
            )
            codes = layer.stored(_likeliest(logits).to(torch.uint8))
            one = torch.ones(()) if scale is None else scale.detach()
            found.append(
                ExportedLayer(
                    layer.site.layer,
                    layer.parameter,
                    codes,
                    one,
                    "table",
                    name,
                    table=self.values,
                    input=self._described(f"input.{name}"),
                    output=self._described(f"output.{name}"),
                )
            )
        return found

    def _described(self, name: str) -> FixedRange | None:
        """How an input or output is quantized; None while it is not."""
        if not self.options.activations or self._steps < self.options.activation_delay:
            return None
        return FixedRange(ACTIVATION_BITS, *self.ranges[name].tolist())


def calibrate_normalization(network: NetworkInTraining) -> None:
    """Find the running statistics of batch normalization anew, as means over all training mini-batches, with the
    weights of evaluation."""
    layers = [
        module
        for module in network.model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]
    before = {module: module.training for module in network.model.modules()}
    momenta = [module.momentum for module in layers]
    network.model.eval()
    try:
        for module in layers:
            module.train()
            module.reset_running_stats()
            # A cumulative mean.
            module.momentum = None
        with torch.no_grad():
            network.pass_over()
    finally:
        for module, momentum in zip(layers, momenta, strict=True):
            module.momentum = momentum
        for other, mode in before.items():
            other.training = mode
