"""What a training method is to the harness: options, and for each run a state with hooks (docs/definitions/methods.md
section 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from predictor.flow.dataflow import DataFlow
from predictor.flow.sites import CONVOLUTIONS, Quantizers, Site
from predictor.gradients import evaluation_mode
from training.export.layer import ExportedLayer
from training.weights import Group, Streams


@dataclass(frozen=True, eq=False)
class MethodLayer:
    """A layer as methods see it: a site whose weight is a parameter of the network, as the first forward pass found it.

    Attributes:
        site: The call of the layer.
        weight: The parameter.
        shape: Of the product, batch first.
        first: Whether it is the first such site of the network.
        last: Whether it is the last one.
        normalized: Whether batch normalization comes next.
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
class MethodSetup:
    """What a method's state in a run is made from.

    Attributes:
        layers: In the order of the forward pass.
        epochs: Of the run.
        streams: For stochastic rounding.
        generator: For new parameters.
    """

    layers: tuple[MethodLayer, ...]
    epochs: int
    streams: Streams
    generator: torch.Generator


@dataclass(frozen=True, eq=False)
class NetworkInTraining:
    """The network in training, for hooks that run it. pass_over: calls it once for every training mini-batch."""

    model: nn.Module
    pass_over: Callable[[], None]


class MethodState:
    """The state of a method in one run, and its hooks; each does nothing unless a method says otherwise.

    Attributes:
        parameters: The method's own, by name.
        training: False while the network is evaluated.
        calibrating: True in the pass before the first step, in which parameters that depend on activations are made.
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

    def end_epoch(self, epoch: int, network: NetworkInTraining) -> None:
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

    def evaluated(self, model: nn.Module) -> AbstractContextManager[nn.Module]:
        """Inside, the network computes as in evaluation; see `quantized`."""
        return quantized(model, self)


@dataclass(frozen=True)
class About:
    """What `formats methods` prints of a method.

    Attributes:
        name: As the command line takes it.
        weight: What weights become.
        activation: What activations become.
        error: What errors become.
        gradient: What weight gradients become.
        granularity: What shares a scale.
        rounding: Of errors.
        layers: Which layers it quantizes.
        source: Where it is from.
    """

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

    Attributes:
        about: What `formats methods` prints.
        forward: Whether it quantizes weights and activations.
        backward: Whether it quantizes errors.
    """

    about: ClassVar[About]
    forward: ClassVar[bool]
    backward: ClassVar[bool]

    def start(self, setup: MethodSetup) -> MethodState:
        """The state for one run."""


def settings_of(method: Method | None) -> dict[str, Any]:
    """Name and options as plain values, under "method", for checkpoints and settings."""
    if method is None:
        return {"method": None}
    if not is_dataclass(method):
        raise TypeError(f"method {method!r}: a dataclass of options is needed, such as training.methods.LSQ()")
    parts = getattr(method, "parts", None)
    if parts is not None:
        return {"method": [settings_of(part)["method"] for part in parts]}
    given = {entry.name: getattr(method, entry.name) for entry in fields(method)}
    options = {
        key: value if isinstance(value, str | int | float | None) else value.name for key, value in given.items()
    }
    digest = getattr(method, "digest", None)
    return {"method": {"name": method.about.name, **options, **({} if digest is None else {"format_digest": digest})}}


def layers_of(flow: DataFlow, forward: Callable[[], object]) -> tuple[MethodLayer, ...]:
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
        MethodLayer(
            site,
            parameters[str(site.parameter)],
            shape,
            k == 0,
            k == len(found) - 1,
            following.get(site.name) == "batch_norm",
        )
        for k, (site, shape) in enumerate(found)
    )


def begin(
    method: Method, flow: DataFlow, forward: Callable[[], object], epochs: int, streams: Streams, seed: int
) -> MethodState:
    """A method's state at the start of a run, after the pass in which parameters that depend on activations are made.

    Args:
        method: Whose state is made.
        flow: Of the network; entered.
        forward: Runs the network on the first mini-batch.
        epochs: Of the run.
        streams: For stochastic rounding.
        seed: Of new parameters.
    """
    layers = layers_of(flow, forward)
    state = method.start(MethodSetup(layers, epochs, streams, torch.Generator().manual_seed(seed)))
    state.begin_epoch(1)
    flow.site, state.training, state.calibrating = state.site, True, True
    with torch.no_grad():
        forward()
    flow.site, state.training, state.calibrating = None, False, False
    return state


def chosen_layers(
    setup: MethodSetup, include_linear: bool, skip_first: bool, skip_last: bool
) -> dict[str, MethodLayer]:
    """Convolutions and, if asked for, linear layers, without the network's first or last."""
    return {
        layer.name: layer
        for layer in setup.layers
        if (layer.is_convolution or include_linear)
        and not (layer.first and skip_first)
        and not (layer.last and skip_last)
    }


@contextmanager
def quantized(model: nn.Module, state: MethodState) -> Iterator[nn.Module]:
    """Inside, a trained network computes with its method's weights and activations, in evaluation mode, without
    gradients.

    Args:
        model: `Result.model`.
        state: `Result.method_state`.

    Yields:
        The model.
    """
    flow = DataFlow(model)
    flow.site = state.site
    with evaluation_mode(flow.model), flow, torch.no_grad():
        yield model
