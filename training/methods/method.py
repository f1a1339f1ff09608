"""What a training method is to the harness: options, and for each run a state with hooks (docs/definitions/methods.md
section 1)."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor, nn

from predictor.flow.coverage import Watch
from predictor.flow.dataflow import DataFlow
from predictor.flow.sites import Quantizers, Site
from predictor.gradient.evaluation import evaluation_mode
from training.coverage import Covered
from training.export.layer import ExportedLayer
from training.methods.layers import MethodLayer, layers_of, owner_of
from training.weights import Group, Streams

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class MethodSetup:
    """What a method's state in a run is made from.

    Attributes:
        layers: In the order of the forward pass, as far as the first passes reached them.
        epochs: Of the run.
        streams: For stochastic rounding.
        generator: For new parameters.
        seed: Of new parameters of layers that are met later.
        owners: The network's parameters, by name.
    """

    layers: tuple[MethodLayer, ...]
    epochs: int
    streams: Streams
    generator: torch.Generator
    seed: int = 0
    owners: Mapping[str, nn.Parameter] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class NetworkInTraining:
    """The network in training, for hooks that run it. pass_over: calls it once for every training mini-batch."""

    model: nn.Module
    pass_over: Callable[[], None]


class MethodState:
    """The state of a method in one run, and its hooks; each does nothing unless a method says otherwise.

    Layers that the first passes did not reach (layers that are dropped, experts, branches) are met at their first call.

    Args:
        setup: Of the run; None for a state that quantizes nothing.

    Attributes:
        parameters: The method's own, by name.
        layers: Those that it quantizes, by name of their site.
        training: False while the network is evaluated.
        calibrating: True in the pass before the first step, in which parameters that depend on activations are made.
        decided: What was decided in the forward passes of this step, for what is computed again (checkpointing).
        late: Sites that were met after the first passes.
    """

    OWN: ClassVar[tuple[str, ...]] = ()
    """What the names of its own parameters begin with."""

    def __init__(self, setup: MethodSetup | None = None) -> None:
        self.setup = setup
        self.parameters: dict[str, nn.Parameter] = {}
        self.layers: dict[str, MethodLayer] = {}
        self.training = False
        self.calibrating = False
        self.decided: dict[Any, Any] = {}
        self.late: list[Site] = []
        self._known: set[str] = set()

    def takes(self, layer: MethodLayer) -> bool:
        """Whether a layer is quantized."""
        return False

    def begin_layer(self, layer: MethodLayer, generator: torch.Generator) -> None:
        """Make what a layer needs, as far as it can be made before the layer's first call."""

    def meet(self) -> None:
        """Take the layers of the setup; the last thing that a state does when it is made."""
        assert self.setup is not None
        for layer in self.setup.layers:
            self._take(layer, self.setup.generator)

    def _take(self, layer: MethodLayer, generator: torch.Generator) -> None:
        self._known.add(layer.name)
        if self.takes(layer):
            self.layers[layer.name] = layer
            self.begin_layer(layer, generator)

    def layer_of(self, site: Site) -> MethodLayer | None:
        """The layer of a site; None where it is not quantized. One that comes for the first time is met."""
        if site.name not in self._known and site.origin is not None and self.setup is not None:
            layer = MethodLayer(site, owner_of(site, self.setup.owners), None, False, False, False)
            self.late.append(site)
            # Of its own, so that what it draws depends neither on what came before nor on a resume.
            self._take(layer, torch.Generator().manual_seed(self.setup.seed ^ zlib.crc32(site.name.encode())))
        return self.layers.get(site.name)

    def once(self, key: tuple[Any, ...], decide: Callable[[], T]) -> T:
        """What is decided at a place in a forward pass; what is computed again finds what was decided the first
        time."""
        if not self.training:
            return decide()
        if key not in self.decided:
            self.decided[key] = decide()
        found: T = self.decided[key]
        return found

    def idle(self) -> list[str]:
        """Names of combined methods that found nothing to quantize."""
        return []

    def remake(self, late: Sequence[Site], parameters: dict[str, Tensor]) -> None:
        """Meet layers again that were met after the start, whose parameters come out of a checkpoint."""
        for site in late:
            self.layer_of(site)
        self.parameters |= {
            name: nn.Parameter(values.clone()) for name, values in parameters.items() if name.startswith(self.OWN)
        }

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


def begin(
    method: Method, flow: DataFlow, forward: Callable[[], object], epochs: int, streams: Streams, seed: int
) -> tuple[MethodState, Covered]:
    """A method's state at the start of a run, after the pass in which parameters that depend on activations are made,
    and how much of that pass it quantizes.

    Args:
        method: Whose state is made.
        flow: Of the network; entered.
        forward: Runs the network on the first mini-batch.
        epochs: Of the run.
        streams: For stochastic rounding.
        seed: Of new parameters.

    Raises:
        ValueError: Where the method, or one of several, finds nothing to quantize.
    """
    layers, owners = layers_of(flow, forward), dict(flow.model.named_parameters())
    setup = MethodSetup(layers, epochs, streams, torch.Generator().manual_seed(seed), seed, owners)
    state = method.start(setup)
    state.begin_epoch(1)
    flow.site, flow.pointed, state.training, state.calibrating = state.site, False, True, True
    flow.watch = Watch(lambda: flow.layer)
    try:
        # With a graph, which a loss with a derivative inside needs.
        with torch.enable_grad():
            forward()
        coverage = Covered.of(flow.watch, owners)
    finally:
        flow.watch, flow.site, flow.pointed, state.training, state.calibrating = None, None, True, False, False
    idle = state.idle() or ([method.about.name] if not coverage.products and not state.layers else [])
    if idle:
        raise ValueError(
            f"method {' and '.join(idle)} finds nothing to quantize in this network (formats methods says which layers "
            f"each takes, and its options); {coverage.remainder or 'no product of it has a weight'}"
        )
    return state, coverage


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
    flow.site, flow.evaluation, flow.pointed = state.site, True, False
    with evaluation_mode(flow.model), flow, torch.no_grad():
        yield model
