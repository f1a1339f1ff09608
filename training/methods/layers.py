"""A network's layers as training methods see them: products of what depends on the input with what is made of
parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from predictor.flow.dataflow import DataFlow
from predictor.flow.operands import CONVOLUTIONS
from predictor.flow.sites import Quantizers, Site
from predictor.gradient.evaluation import evaluation_mode


@dataclass(frozen=True, eq=False)
class MethodLayer:
    """A layer as methods see it: a site whose weight is made of parameters of the network.

    Attributes:
        site: The call of the layer.
        owner: The parameter that is its weight, or of which it is a view; None for a weight that is computed.
        shape: Of the product, batch first, as the first forward pass found it; None where that did not reach the layer.
        first: Whether it is the first such site of the network.
        last: Whether it is the last one.
        normalized: Whether batch normalization comes next.
    """

    site: Site
    owner: nn.Parameter | None
    shape: tuple[int, ...] | None
    first: bool
    last: bool
    normalized: bool

    @property
    def name(self) -> str:
        """The site's."""
        return self.site.name

    @property
    def parameter(self) -> str:
        """The name of the weight: of the parameter, of a part of one, or of a computed one."""
        assert self.site.weight is not None
        return self.site.weight

    @property
    def made_of(self) -> tuple[str, ...]:
        """Names of the parameters that the weight is made of."""
        return () if self.site.origin is None else self.site.origin.parameters

    @property
    def weight(self) -> Tensor:
        """As the product sees it: the parameter, or a view of it. Raises ValueError where it is computed."""
        origin = self.site.origin
        if self.owner is None or origin is None or origin.place is None:
            raise ValueError(
                f"layer {self.site.layer or '(network)'}: its weight is computed from {', '.join(self.made_of)} "
                "in every forward pass, and no tensor of the network holds it"
            )
        if origin.direct:
            return self.owner
        offset, size, stride = origin.place
        return self.owner.detach().as_strided(size, stride, self.owner.storage_offset() + offset)

    @property
    def computed(self) -> bool:
        """Whether the weight is no view of one parameter."""
        return self.owner is None

    @property
    def is_convolution(self) -> bool:
        """Convolution or transposed convolution."""
        return self.site.operation in CONVOLUTIONS

    @property
    def output_axes(self) -> tuple[int, ...]:
        """The axes of the weight's output channels."""
        return self.site.output_axes

    def stored(self, values: Tensor) -> Tensor:
        """A tensor of the weight's axes (or 1 in their place) with the axes of the parameter. Raises ValueError where
        the weight is no parameter with its axes in some order."""
        origin = self.site.origin
        if self.owner is not None and origin is not None and origin.place is not None and origin.whole:
            if origin.direct or values.numel() == 1:
                return values
            axes = list(zip(origin.place.stride, origin.place.size, strict=True))
            own = list(zip(self.owner.stride(), self.owner.shape, strict=True))
            if sorted(axes) == sorted(own):
                return values.permute([axes.index(axis) for axis in own]).contiguous()
        raise ValueError(
            f"layer {self.site.layer or '(network)'}: its weight {self.parameter} is no parameter of the network by "
            "itself, and codes are written for whole parameters"
        )


def owner_of(site: Site, parameters: Mapping[str, nn.Parameter]) -> nn.Parameter | None:
    """The parameter of which a site's weight is a view."""
    if site.origin is None or site.origin.place is None:
        return None
    return parameters[site.origin.parameters[0]]


def chosen(layer: MethodLayer, include_linear: bool, skip_first: bool = False, skip_last: bool = False) -> bool:
    """Convolutions and, if asked for, all other products, without the network's first or last."""
    return (
        (layer.is_convolution or include_linear) and not (layer.first and skip_first) and not (layer.last and skip_last)
    )


def layers_of(flow: DataFlow, forward: Callable[[], object]) -> tuple[MethodLayer, ...]:
    """The sites of a network whose weights are made of its parameters, from a forward pass as the network is and one in
    evaluation mode, where layers that training drops are all there. Use inside the entered data flow."""
    found = _seen(flow, forward)
    try:
        with evaluation_mode(flow.model):
            evaluated = _seen(flow, forward)
    except Exception:
        # A network may have no loss in evaluation mode; what was seen is then what there is.
        evaluated = found
    order = list(evaluated or found)
    return tuple(
        MethodLayer(
            layer.site, layer.owner, layer.shape, layer.name == order[0], layer.name == order[-1], layer.normalized
        )
        for layer in (evaluated | found).values()
    )


def _seen(flow: DataFlow, forward: Callable[[], object]) -> dict[str, MethodLayer]:
    """What one forward pass finds, by name."""
    shapes: dict[Site, tuple[int, ...]] = {}

    def see(site: Site) -> Quantizers:
        def keep(product: Tensor) -> Tensor:
            shapes[site] = tuple(product.shape)
            return product

        return Quantizers(output=keep)

    flow.site = see
    try:
        with torch.enable_grad():
            forward()
    finally:
        flow.site = None
    following = {point.name: after.operation for point, after in zip(flow.points, flow.points[1:], strict=False)}
    parameters = dict(flow.model.named_parameters())
    return {
        site.name: MethodLayer(
            site, owner_of(site, parameters), shape, False, False, following.get(site.name) == "batch_norm"
        )
        for site, shape in shapes.items()
        if site.origin is not None
    }
