"""A quantized layer as an export writes it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from training.quantizers.description import Description


@dataclass(frozen=True, eq=False)
class ExportedLayer:
    """One layer as integer codes.

    Attributes:
        layer: Name of the module that the product is in.
        parameter: Name of the weight.
        codes: uint8 or int8, of the weight's shape.
        scale: float32, broadcastable to the weight.
        code: What the codes mean: "integer" (value = code * scale), a format's name (its value times scale), or
            "table".
        site: Name of the product's site (`predictor.flow.sites.Site.name`); None for every product of the layer.
        table: The values of "table".
        input: How what the product reads is quantized; None where it is not.
        output: The same of what it gives.
        added: What is added to that before, or None.
        folded_bias: Per output channel, what the input's offset adds to the output away from padding, or None.
    """

    layer: str
    parameter: str
    codes: Tensor
    scale: Tensor
    code: str
    site: str | None = None
    table: Tensor | None = None
    input: Description | None = None
    output: Description | None = None
    added: Tensor | None = None
    folded_bias: Tensor | None = None


class Exportable(Protocol):
    """What knows the quantized layers of a network: a training method's state, or a calibration's result."""

    def exported(self) -> list[ExportedLayer]:
        """The quantized layers as codes, as evaluation uses them. Raises ValueError where there are no such codes."""
        ...

    def evaluated(self, model: nn.Module) -> AbstractContextManager[nn.Module]:
        """Inside, what computes as evaluation does, made from the network that is exported."""
        ...
