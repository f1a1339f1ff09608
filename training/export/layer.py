"""A quantized layer as an export writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from training.quantizers.description import Description


@dataclass(frozen=True, eq=False)
class ExportedLayer:
    """One layer as integer codes.

    Attributes:
        layer: Name of the module.
        parameter: Name of the weight.
        codes: uint8 or int8, of the weight's shape.
        scale: float32, broadcastable to the weight.
        code: What the codes mean: "integer" (value = code * scale), a format's name (its value times scale), or
            "table".
        table: The values of "table".
        input: How the layer's input is quantized; None where it is not.
        output: The same of its output.
        added: What is added to the output, or None.
        folded_bias: Per output channel, what the input's offset adds to the output away from padding, or None.
    """

    layer: str
    parameter: str
    codes: Tensor
    scale: Tensor
    code: str
    table: Tensor | None = None
    input: Description | None = None
    output: Description | None = None
    added: Tensor | None = None
    folded_bias: Tensor | None = None


class Exportable(Protocol):
    """What knows the quantized layers of a network: a training method's state, or a calibration's result."""

    def exported(self) -> list[ExportedLayer]:
        """The quantized layers as codes, as evaluation uses them. Raises ValueError where there are no such codes."""
