"""Weights in their format: ranges, rounding to nearest, AdaRound and bias correction."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, fx

from numeric_formats.files import check_same
from training import checkpoint
from training.calibration.activations import ActivationStore, at_layer
from training.calibration.adaround import EARLIER, INPUT, TARGET, AdaRound, Rounded, round_layer
from training.calibration.correction import correct_analytic, correct_empirical, input_means
from training.calibration.folded_layer import FoldedLayer
from training.calibration.grids import WeightGrid
from training.calibration.network import Network
from training.calibration.options import CalibrationOptions, Correction
from training.calibration.ranges import find_range
from training.calibration.result import ADAROUND
from training.calibration.session import Calibrating
from workloads.digests import digest


@dataclass(eq=False)
class QuantizedWeights:
    """What became of the weights, by name of the layer.

    Attributes:
        thresholds: Of the grid, float32, broadcastable to the weight.
        rounded: What AdaRound made of a layer, where it came to it.
    """

    thresholds: dict[str, Tensor] = field(default_factory=dict)
    rounded: dict[str, Rounded] = field(default_factory=dict)


def quantize_weights(calibrating: Calibrating, grid: WeightGrid, full: fx.GraphModule) -> QuantizedWeights:
    """Round the weights of all layers of the network. full: the same network before that."""
    options, layers, done = calibrating.options, calibrating.network.layers, QuantizedWeights()
    before: dict[str, Tensor] = {}
    first: dict[int, str] = {}
    for k, layer in enumerate(layers):
        known = first.setdefault(id(layer.module.weight), layer.name)
        if known != layer.name:  # one weight of several layers is rounded once
            done.thresholds[layer.name], before[layer.name] = done.thresholds[known], before[known]
            continue
        done.thresholds[layer.name] = _threshold(options, layer, grid)
        before[layer.name] = layer.weight.clone()
        layer.module.weight.data = grid.weight(layer.weight, done.thresholds[layer.name])
        calibrating.report("ranges of weights", k + 1, len(layers))
    calibrating.record("weights to nearest", calibrating.network.module)
    if options.adaround is not None:
        _learn_rounding(calibrating, grid, options.adaround, full, before, done)
        calibrating.record("weights by AdaRound", calibrating.network.module)
    if options.bias_correction is not Correction.OFF:
        _correct_biases(calibrating, full, before)
        calibrating.record("biases corrected", calibrating.network.module)
    return done


def _threshold(options: CalibrationOptions, layer: FoldedLayer, grid: WeightGrid) -> Tensor:
    axis = layer.output_axis if options.per_channel else None
    found = find_range(layer.weight, grid, options.weight_range, axis=axis, percentile=options.percentile)
    return layer.per_output(found.threshold) if options.per_channel else found.threshold


def learnable(network: Network) -> list[FoldedLayer]:
    """The layers whose rounding AdaRound learns: those that nothing but one call uses."""
    return [layer for layer in network.layers if layer.alone]


def _learn_rounding(
    calibrating: Calibrating,
    grid: WeightGrid,
    adaround: AdaRound,
    full: fx.GraphModule,
    before: dict[str, Tensor],
    done: QuantizedWeights,
) -> None:
    """AdaRound, layer by layer; what the folder holds of it is not done again. The others stay at nearest."""
    layers = learnable(calibrating.network)
    # What a layer becomes depends on all of this, and on what the layers before it have become.
    earlier = digest(json.dumps(calibrating.settings, sort_keys=True))
    for k, layer in enumerate(layers):
        path = None if calibrating.folder is None else calibrating.folder / ADAROUND / f"{k:04d}.safetensors"
        bound_to = {
            "layer": layer.name,
            "format": grid.name,
            "seed": calibrating.options.seed,
            "weight_digest": digest(before[layer.name]),
            "range_digest": digest(done.thresholds[layer.name]),
            "run_digest": earlier,
        }
        unfinished = None if path is None else path.with_suffix(".unfinished.safetensors")
        if path is not None and path.exists():
            done.rounded[layer.name] = _read_layer(path, layer, bound_to)
        else:

            def show(iteration: int, k: int = k) -> None:
                calibrating.report("AdaRound", k * adaround.iterations + iteration, len(layers) * adaround.iterations)

            store = ActivationStore(calibrating.folder)
            with closing(store):
                activation = calibrating.network.activation_after(layer)
                workload, batches = calibrating.workload, calibrating.batches
                store.fill(INPUT, at_layer(workload, calibrating.network.module, layer.name, batches))
                store.fill(TARGET, at_layer(workload, full, layer.name, batches, output=True), activation)
                nearest = layer.module.weight.data
                layer.module.weight.data = before[layer.name]
                rounded, done.rounded[layer.name] = round_layer(
                    layer,
                    grid,
                    done.thresholds[layer.name],
                    store,
                    activation,
                    adaround,
                    calibrating.options.seed,
                    checkpoint=unfinished,
                    bound_to=bound_to,
                    progress=show,
                )
                # With the strides that the weight had.
                layer.module.weight.data = nearest.copy_(rounded)
            if path is not None:
                state = {"settings": bound_to, "rounded": asdict(done.rounded[layer.name])}
                checkpoint.write(path, {"weight": layer.weight}, state)
        if unfinished is not None and unfinished.exists():
            unfinished.unlink()
        earlier = digest((earlier, layer.name, layer.weight))
        calibrating.report("AdaRound", (k + 1) * adaround.iterations, len(layers) * adaround.iterations)


def _read_layer(path: Path, layer: FoldedLayer, bound_to: dict[str, Any]) -> Rounded:
    """Put a finished layer's weight into the network; what AdaRound said of it. ValueError where it is of another
    layer or run."""
    saved, state = checkpoint.read(path)
    with checkpoint.restoring(path):
        check_same(path, state["settings"], bound_to, EARLIER)
        checkpoint.fill({"weight": layer.module.weight.data}, saved, "", path)
        return Rounded(**state["rounded"])


def _correct_biases(calibrating: Calibrating, full: fx.GraphModule, before: dict[str, Tensor]) -> None:
    """Take what rounding added to the means of channels off the biases."""
    network, layers = calibrating.network, calibrating.network.layers
    means = input_means(network)
    for k, layer in enumerate(layers):
        if calibrating.options.bias_correction is Correction.EMPIRICAL:
            if layer.alone:
                correct_empirical(calibrating.workload, full, network.module, layer, calibrating.batches)
        elif layer.name in means:
            correct_analytic(layer, before[layer.name], means[layer.name])
        calibrating.report("bias correction", k + 1, len(layers))
