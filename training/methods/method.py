"""What a training method is to the harness: options, and for each run a state with hooks (docs/definitions/methods.md
section 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from formats import Format, Rounding
from numeric_formats.checks import not_allowed, one_of
from predictor.flow.dataflow import DataFlow
from predictor.flow.sites import CONVOLUTIONS, Quantizers, Site
from predictor.gradients import evaluation_mode
from training.quantizers.clipped import Clipped, absmax
from training.weights import Group, Streams


@dataclass(frozen=True, eq=False)
class Layer:
    """A site whose weight is a parameter of the network, as the first forward pass found it.

    weight: the parameter. shape: of the product, batch first. first, last: whether it is the first or last such site of
    the network.
    normalized: whether batch normalization comes next.
    """

    site: Site
    weight: nn.Parameter
    shape: tuple[int, ...]
    first: bool
    last: bool
    normalized: bool

    @property
    def name(self) -> str:
        """The site's."""
        return self.site.name

    @property
    def parameter(self) -> str:
        """The name of the weight."""
        assert self.site.parameter is not None
        return self.site.parameter

    @property
    def is_convolution(self) -> bool:
        """Convolution or transposed convolution."""
        return self.site.operation in CONVOLUTIONS

    @property
    def output_axis(self) -> int:
        """The axis of the weight's output channels."""
        return 1 if self.site.operation.startswith("conv_transpose") else 0


@dataclass(frozen=True, eq=False)
class Setup:
    """What a run starts from.

    layers: in the order of the forward pass. epochs: of the run. streams: for stochastic rounding. generator: for new
    parameters.
    """

    layers: tuple[Layer, ...]
    epochs: int
    streams: Streams
    generator: torch.Generator


@dataclass(frozen=True, eq=False)
class Training:
    """The network in training, for hooks that run it. pass_over: calls it once for every training mini-batch."""

    model: nn.Module
    pass_over: Callable[[], None]


@dataclass(frozen=True, eq=False)
class ExportedLayer:
    """One layer as integer codes.

    layer: name of the module. parameter: name of the weight. codes: uint8 or int8, of the weight's shape. scale:
    float32, broadcastable.
    code: what the codes mean: "integer" (value = code * scale), a format's name (its value times scale), or "table".
    table: the values of "table". input, output: descriptions of the quantizers of input and output
    (`quantizers.from_description`), or None.
    added: what is added to the output, or None. folded_bias: per output channel, what the input's offset adds to the
    output away from padding, or None.
    """

    layer: str
    parameter: str
    codes: Tensor
    scale: Tensor
    code: str
    table: Tensor | None = None
    input: dict[str, Any] | None = None
    output: dict[str, Any] | None = None
    added: Tensor | None = None
    folded_bias: Tensor | None = None


class Run:
    """The state of a method in one run, and its hooks; each does nothing unless a method says otherwise.

    parameters: the method's own, by name. training: False while the network is evaluated. calibrating: True in the pass
    before the first step, in which parameters that depend on activations are made.
    """

    def __init__(self) -> None:
        self.parameters: dict[str, nn.Parameter] = {}
        self.training = False
        self.calibrating = False

    def trained(self) -> dict[str, nn.Parameter]:
        """All parameters that are trained with the network's, once the calibrating pass is over."""
        return self.parameters

    def site(self, site: Site) -> Quantizers | None:
        """What is quantized at a site; asked at every call."""
        return None

    def group(self, parameter: str) -> Group:
        """Learning rate and weight decay of a parameter, the network's own or the method's."""
        return Group()

    def begin_epoch(self, epoch: int) -> None:
        """Before the first step of an epoch, counted from 1; after a resume within an epoch too."""

    def end_epoch(self, epoch: int, training: Training) -> None:
        """After the last step of an epoch, before the network is evaluated."""

    def begin_step(self) -> None:
        """Before the forward pass."""

    def penalty(self) -> Tensor | None:
        """What is added to the loss whose gradient is taken."""
        return None

    def before_update(self, rates: dict[str, dict[str, Any]]) -> None:
        """Between backward pass and update. rates: the optimizer's group of every parameter that has one of its own, by
        name."""

    def end_step(self) -> None:
        """After the update."""

    def tensors(self) -> dict[str, Tensor]:
        """State for the checkpoint, beside `parameters`."""
        return {}

    def state(self) -> dict[str, Any]:
        """The same as plain values."""
        return {}

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Go on from what `tensors` and `state` gave."""

    def exported(self) -> list[ExportedLayer]:
        """The quantized layers as codes, as evaluation uses them."""
        return []


@dataclass(frozen=True)
class About:
    """What `formats methods` prints of a method: what each tensor becomes, granularity, rounding of errors, which
    layers, where it is from."""

    name: str
    weight: str
    activation: str
    error: str
    gradient: str
    granularity: str
    rounding: str
    layers: str
    source: str


class Method(Protocol):
    """The options of a method, a frozen dataclass. Raises ValueError when made with options that mean nothing.

    forward: whether it quantizes weights and activations. backward: whether it quantizes errors.
    """

    about: ClassVar[About]
    forward: ClassVar[bool]
    backward: ClassVar[bool]

    def start(self, setup: Setup) -> Run:
        """The state for one run."""


def settings_of(method: Method | None) -> dict[str, Any]:
    """Name and options as plain values, under "method", for checkpoints and settings."""
    if method is None:
        return {"method": None}
    assert is_dataclass(method)
    parts = getattr(method, "parts", None)
    if parts is not None:
        return {"method": [settings_of(part)["method"] for part in parts]}
    given = {entry.name: getattr(method, entry.name) for entry in fields(method)}
    options = {
        key: value if isinstance(value, str | int | float | None) else value.name for key, value in given.items()
    }
    digest = getattr(method, "digest", None)
    return {"method": {"name": method.about.name, **options, **({} if digest is None else {"format_digest": digest})}}


def layers_of(flow: DataFlow, forward: Callable[[], object]) -> tuple[Layer, ...]:
    """The sites of a network whose weights are its parameters, from one forward pass. Use inside the entered data
    flow."""
    shapes: dict[Site, tuple[int, ...]] = {}

    def see(site: Site) -> Quantizers:
        def keep(product: Tensor) -> Tensor:
            shapes[site] = tuple(product.shape)
            return product

        return Quantizers(output=keep)

    flow.site = see
    try:
        forward()
    finally:
        flow.site = None
    parameters = dict(flow.model.named_parameters())
    found = [(site, shape) for site, shape in shapes.items() if site.parameter is not None]
    following = {point.name: after.operation for point, after in zip(flow.points, flow.points[1:], strict=False)}
    return tuple(
        Layer(
            site,
            parameters[str(site.parameter)],
            shape,
            k == 0,
            k == len(found) - 1,
            following.get(site.name) == "batch_norm",
        )
        for k, (site, shape) in enumerate(found)
    )


def error_quantizer(format: str | Format, error_format: str | Format | None) -> Clipped:
    """The quantizer of errors: of their own format, or None for that of weights and activations."""
    return Clipped(format if error_format is None else error_format)


def digests(format: str | Format, error_format: str | Format | None) -> str:
    """Of a method's formats, as one text."""
    return "/".join(
        dict.fromkeys(str(Clipped(each).format.digest) for each in (format, error_format) if each is not None)
    )


def error_rounding(method: str, given: Rounding | str) -> Rounding:
    """Nearest or stochastic; ValueError for another."""
    chosen = one_of(f"{method}: error_rounding", Rounding, given)
    if chosen not in (Rounding.NEAREST, Rounding.STOCHASTIC):
        raise not_allowed(f"{method}: error_rounding", chosen.value, ("nearest", "stochastic"))
    return chosen


def chosen_layers(setup: Setup, include_linear: bool, skip_first: bool, skip_last: bool) -> dict[str, Layer]:
    """Convolutions and, if asked for, linear layers, without the network's first or last."""
    return {
        layer.name: layer
        for layer in setup.layers
        if (layer.is_convolution or include_linear)
        and not (layer.first and skip_first)
        and not (layer.last and skip_last)
    }


def exported_absmax(
    layers: dict[str, Layer], quantizer: Clipped, described: Callable[[str], dict[str, Any]]
) -> list[ExportedLayer]:
    """Layers whose weights are quantized at their largest magnitude. described: the input's quantizer at a site."""
    found = []
    for name, layer in layers.items():
        codes, scale = quantizer.encode(layer.weight, absmax(layer.weight))
        found.append(
            ExportedLayer(layer.site.layer, layer.parameter, codes, scale, quantizer.format.name, input=described(name))
        )
    return found


@contextmanager
def quantized(model: nn.Module, run: Run) -> Iterator[nn.Module]:
    """Inside, the network computes in evaluation mode with the method's weights and activations; use without
    gradients."""
    flow = DataFlow(model)
    flow.site = run.site
    with evaluation_mode(flow.model), flow, torch.no_grad():
        yield model


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
