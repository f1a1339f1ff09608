"""What post-training quantization gives, and the files of a folder that it writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, fx, nn

from training.calibration.activation_quantizers import ActivationQuantizers, with_quantizers
from training.calibration.folded_layer import FoldedLayer
from training.calibration.grids import OwnScales, WeightGrid
from training.coverage import Covered
from training.export.layer import ExportedLayer

SETTINGS, RESULT = "settings.json", "result.json"
ADAROUND = "adaround"
"""A folder of the layers that AdaRound has come to."""
END = "network.safetensors"
"""Of a finished run: the network, without quantizers of activations, and all ranges
(`training.calibration.begin_from`)."""


@dataclass(frozen=True)
class PipelineStep:
    """The network after a step of the pipeline.

    Attributes:
        name: Of the step.
        loss: Mean over the calibration mini-batches.
        metric: Mean over the test mini-batches, None without them.
    """

    name: str
    loss: float
    metric: float | None


@dataclass(frozen=True)
class LayerLoss:
    """What one layer costs.

    Attributes:
        layer: Its name.
        weight: What the workload's loss rises by where this layer's weight alone is quantized.
        activation: The same of its input.
        nearest: The layer's own loss before AdaRound (`training.calibration.adaround.Rounded`); None, as are those
            below, where AdaRound did not come to it.
        rounded: After AdaRound.
        settled: See there.
        flipped: See there.
    """

    layer: str
    weight: float
    activation: float
    nearest: float | None
    rounded: float | None
    settled: float | None
    flipped: float | None

    @property
    def total(self) -> float:
        """Both rises."""
        return self.weight + self.activation


@dataclass(frozen=True, eq=False)
class QuantizedCodes:
    """The quantized layers, for an export."""

    grid: WeightGrid | None
    layers: Sequence[FoldedLayer]
    thresholds: Mapping[str, Tensor]
    quantizers: ActivationQuantizers

    def exported(self) -> list[ExportedLayer]:
        """As codes; none where weights are not quantized. Raises ValueError for formats with scales of blocks."""
        if self.grid is None:
            return []
        if isinstance(self.grid, OwnScales):
            raise ValueError(f"{self.grid.name} has scales of blocks, which exported files do not hold")
        found = []
        for layer in self.layers:
            codes, scale = self.grid.clipped.encode(layer.weight, self.thresholds[layer.name])
            input, output = (self.quantizers.get((layer.name, side)) for side in ("input", "output"))
            found.append(
                ExportedLayer(
                    layer.name,
                    f"{layer.name}.weight",
                    codes,
                    scale,
                    self.grid.name,
                    input=None if input is None else input.described,
                    output=None if output is None else output.described,
                )
            )
        return found

    @contextmanager
    def evaluated(self, model: nn.Module) -> Iterator[nn.Module]:
        """The network with its quantizers of activations. Raises ValueError for one that calibration did not make."""
        if not isinstance(model, fx.GraphModule):
            raise ValueError(f"a {type(model).__name__} is no network of quantize: give its `network`")
        yield with_quantizers(model, self.quantizers)


@dataclass(frozen=True, eq=False)
class Quantized:
    """What `quantize` gave.

    Attributes:
        model: A torch module in evaluation mode that computes with quantized weights and activations, called like the
            original.
        network: The same without quantizers of activations.
        codes: What they are, for `training.export.codes.export(path, result.network, result.codes)`.
        steps: In their order.
        layers: The costliest first; empty where they were not measured.
        kept: What has weights and is left in float32.
        settings: Plain values.
        covered: How much of the network is quantized.
    """

    model: nn.Module
    network: nn.Module
    codes: QuantizedCodes
    steps: tuple[PipelineStep, ...]
    layers: tuple[LayerLoss, ...]
    kept: tuple[str, ...]
    settings: dict[str, Any]
    covered: Covered

    def plain(self) -> dict[str, Any]:
        """Steps, layers and settings as JSON has them."""
        layers = [{**asdict(layer), "total": layer.total} for layer in self.layers]
        return {
            "steps": [asdict(step) for step in self.steps],
            "layers": layers,
            "kept": list(self.kept),
            "covered": self.covered.plain(),
            "settings": self.settings,
        }
