"""Post-training quantization of any workload in one call: equalize, absorb, ranges of weights, AdaRound or bias
correction, ranges of activations.

Source: docs/definitions/calibration.md section 1 (M. Nagel et al., "A White Paper on Neural Network Quantization",
2021, section 3.7).
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import fx, nn

from formats import Format
from numeric_formats.files import check_same, hold, read_json, write_json
from numeric_formats.progress import Report, quiet
from predictor.flow.float32 import InFloat32
from predictor.gradient.evaluation import evaluation_mode
from training import checkpoint
from training.calibration.activation_quantizers import ActivationQuantizers, with_quantizers
from training.calibration.activation_ranges import activation_quantizers
from training.calibration.activations import check_shapes
from training.calibration.adaround import EARLIER, AdaRound
from training.calibration.covering import covered_by
from training.calibration.equalization import absorb as absorb_biases
from training.calibration.equalization import equalize as equalize_ranges
from training.calibration.network import Network
from training.calibration.options import Absorb, ActivationRule, CalibrationOptions, Correction, Relu6
from training.calibration.ranges import RangeRule
from training.calibration.result import ADAROUND, END, RESULT, SETTINGS, LayerLoss, Quantized, QuantizedCodes
from training.calibration.session import Calibrating
from training.calibration.weights import QuantizedWeights, learnable, quantize_weights
from training.export.agreement import CALLS, EXACT, difference, first_call, first_difference, outputs_of
from training.reproducible import provenance
from workloads.digests import weights_digest
from workloads.workload import Batch, Workload

RANKED_ON = 4
"""Mini-batches that the ranking of layers is measured on."""

LARGEST_CHANGE = 1e-3
"""More than this, relative, between the losses before and after a step that keeps what the network computes means that
it does not, such as a batch normalization that was not of the layer's channels."""


def quantize(
    workload: Workload,
    weights: str | Format = "INT4",
    activations: str | Format = "INT8",
    *,
    fold: bool = True,
    equalize: bool = True,
    relu6: Relu6 | str = Relu6.CAP,
    absorb: Absorb | str = Absorb.ALL,
    per_channel: bool = False,
    weight_range: RangeRule | str = RangeRule.MSE,
    activation_range: ActivationRule | str = ActivationRule.MSE,
    logits_range: RangeRule | str | None = RangeRule.CROSS_ENTROPY,
    percentile: float = 99.99,
    adaround: AdaRound | None = AdaRound(),
    bias_correction: Correction | str = Correction.OFF,
    minibatches: int = 8,
    batch_size: int | None = None,
    seed: int = 0,
    rank_layers: bool = True,
    output: Path | str | None = None,
    resume: bool = False,
    force: bool = False,
    progress: Report = quiet,
) -> Quantized:
    """Quantize a trained network without training it; the workload's own network stays as it is.

    Quantized are the weight and the input of every convolution and linear module, and the output of the last one where
    it is the network's.

    Args:
        workload: The network, its loss, and the data to calibrate with and to test on.
        weights: A format with one scale a tensor or with scales of blocks, or "float32", which rounds nothing.
        activations: The same; integers get a zero point.
        fold: Batch normalization into the layers before it; equalize and absorb need it.
        equalize: The ranges of neighbouring layers' channels.
        relu6: Of equalization: `cap`, one a channel, which keeps the function, or `replace` by ReLU, which does not.
        absorb: High biases: `all`, `exact` (not where padding reads zeros) or `off`.
        per_channel: A range for each output channel of a weight.
        weight_range: `minmax`, `mse` or `percentile`.
        activation_range: `minmax`, `mse`, `percentile` or `bn`, from batch normalization.
        logits_range: Of what the network gives, where that is a layer's output: `cross-entropy`, `mse`, `minmax`,
            `percentile`, or None to leave it.
        percentile: Of those rules.
        adaround: Its options; None rounds weights to nearest.
        bias_correction: `off`, `empirical` or `analytic`; of little use after AdaRound.
        minibatches: Of calibration data.
        batch_size: Of calibration data; None for the workload's.
        seed: Of AdaRound.
        rank_layers: Whether each layer's loss is measured.
        output: A folder for AdaRound's checkpoints and `result.json`; without it nothing is kept.
        resume: Go on with what is in it, to the same bits at the same number of threads.
        force: Begin anew.
        progress: Called with every stage.

    Returns:
        The quantized network, and what each step and each layer costs.

    Raises:
        ValueError: For options that are not allowed, where torch.fx cannot trace the network (naming the module), and
            for a folder that holds something else.
        FileExistsError: Where another process writes to the folder.
    """
    options = CalibrationOptions(
        weights=weights,
        activations=activations,
        fold=fold,
        equalize=equalize,
        relu6=relu6,
        absorb=absorb,
        per_channel=per_channel,
        weight_range=weight_range,
        activation_range=activation_range,
        logits_range=logits_range,
        percentile=percentile,
        adaround=adaround,
        bias_correction=bias_correction,
        minibatches=minibatches,
        batch_size=batch_size,
        seed=seed,
        rank_layers=rank_layers,
    )
    workload.require_numbers()
    with ExitStack() as stack:
        folder = None if output is None else Path(output)
        if folder is not None:
            stack.enter_context(hold(folder, ADAROUND))
        stack.enter_context(evaluation_mode(workload.model))
        network = Network(workload.model, fold=False)
        batches = list(workload.minibatches(batch_size)[:minibatches])
        check_traced(workload, network.module, batches)
        if fold:
            network.fold()
        if adaround is not None and options.weight_grid is not None:
            check_shapes(workload, network.module, [layer.name for layer in learnable(network)], batches)
        settings = {"workload": workload.name, "network": weights_digest(workload.model), **options.settings()}
        if folder is not None:
            settings |= provenance(workload, batches)
        if folder is not None:
            _open(folder, settings, resume, force)
        return _quantized(Calibrating(workload, options, network, batches, settings, folder, progress))


def check_traced(workload: Workload, module: nn.Module, batches: Sequence[Batch]) -> None:
    """ValueError where a traced network computes something else than the workload's own on one of the mini-batches: a
    loss may tell the network how to compute each."""
    for number, batch in enumerate(batches):
        calls = 1 if number else CALLS
        # A region that computes in 16 bits is computed in float32 here, as everywhere.
        with InFloat32():
            call = first_call(workload, workload.model, batch)
            apart = difference(outputs_of(module, call, calls), outputs_of(workload.model, call, calls))
            layer = None if apart <= EXACT else first_difference(module, workload.model, call, EXACT)
        if not apart <= EXACT:
            raise ValueError(
                f"torch.fx traces another function than the network computes: their outputs differ by {apart:.2g} of "
                f"their size{'' if layer is None else f', from layer {layer} on'}; its forward pass may change no "
                "buffer or attribute that it reads, read none that the loss sets, draw no numbers, and call its "
                "modules as they are"
            )


def _open(folder: Path, settings: dict[str, Any], resume: bool, force: bool) -> None:
    """Look at what the folder holds, and write the settings into it."""
    path = folder / SETTINGS
    if path.exists() and not force:
        if not resume:
            raise ValueError(
                f"{folder} holds an earlier run; go on with resume (--resume) or replace it with force (--force)"
            )
        check_same(path, read_json(path, EARLIER), settings, EARLIER)
    else:
        # In this order, whenever it is ended: an earlier run that has lost its layers makes them again.
        if (folder / ADAROUND).exists():
            try:
                shutil.rmtree(folder / ADAROUND)
            except OSError as error:  # which names a file without its folder
                error.filename = str(folder / ADAROUND / Path(str(error.filename)).name)
                raise
        for name in (RESULT, END):
            (folder / name).unlink(missing_ok=True)
    write_json(path, settings)


def _quantized(calibrating: Calibrating) -> Quantized:
    """All steps, in the order of the source."""
    options, network = calibrating.options, calibrating.network
    _prepare(calibrating)
    full = copy.deepcopy(network.module)
    grid = options.weight_grid
    weights = QuantizedWeights() if grid is None else quantize_weights(calibrating, grid, full)
    covered = covered_by(calibrating)
    if options.activation_grid is not None and calibrating.derivatives:
        raise ValueError(
            f"the loss of workload {calibrating.workload.name} lets the network's input require a gradient, and "
            "quantized activations have no derivative; give activations='float32' (--activations float32)"
        )
    quantizers = activation_quantizers(calibrating)
    model = with_quantizers(network.module, quantizers)
    if quantizers:
        if grid is not None:
            calibrating.record("activations alone", with_quantizers(full, quantizers))
        calibrating.record("weights and activations" if grid is not None else "activations", model)
    layers = _layer_losses(calibrating, full, weights, quantizers) if options.rank_layers else ()
    codes = QuantizedCodes(grid, network.layers, weights.thresholds, quantizers)
    steps = tuple(calibrating.steps)
    result = Quantized(model, network.module, codes, steps, layers, tuple(network.kept), calibrating.settings, covered)
    if calibrating.folder is not None:
        _write_end(calibrating, weights, quantizers)
        write_json(calibrating.folder / RESULT, result.plain())
    return result


def _prepare(calibrating: Calibrating) -> None:
    """What changes the network and, in float32, not what it computes: folding, equalization, absorption."""
    options, network, record = calibrating.options, calibrating.network, calibrating.record
    record("float32", calibrating.workload.model)
    if options.fold and network.folded:
        record("batch normalization folded", network.module)
        _check_same_loss(
            calibrating, calibrating.steps[-1].loss, "folding batch normalization", "fold=False (--no-fold)"
        )
    if options.equalize:
        if options.relu6 is Relu6.REPLACE and network.replace_relu6():
            record("ReLU6 replaced by ReLU", network.module)
        before = calibrating.steps[-1].loss
        if equalize_ranges(network):
            record("equalized", network.module)
            _check_same_loss(
                calibrating, calibrating.steps[-1].loss, "equalization", "equalize=False (--no-cle)", before
            )
    if options.absorb is not Absorb.OFF and absorb_biases(network, exact_only=options.absorb is Absorb.EXACT):
        record("high biases absorbed", network.module)


def _check_same_loss(
    calibrating: Calibrating, after: float, what: str, remedy: str, before: float | None = None
) -> None:
    """ValueError where a step that keeps what the network computes has changed the loss by more than rounding. before:
    the loss to compare with, by default the first."""
    before = calibrating.steps[0].loss if before is None else before
    if not abs(after - before) <= LARGEST_CHANGE * max(1.0, abs(before)):
        raise ValueError(f"{what} changed the loss from {before:g} to {after:g}; quantize with {remedy}")


def _layer_losses(
    calibrating: Calibrating, full: fx.GraphModule, weights: QuantizedWeights, quantizers: ActivationQuantizers
) -> tuple[LayerLoss, ...]:
    """What the loss rises by where one layer alone is quantized, the costliest layer first."""
    batches, layers, found = calibrating.batches[:RANKED_ON], calibrating.network.layers, []
    whole = calibrating.loss(full, batches)
    for k, layer in enumerate(layers):
        module: Any = full.get_submodule(layer.name)
        by_weight = by_input = 0.0
        if calibrating.options.weight_grid is not None:
            kept = module.weight.data, module.bias
            module.weight.data, module.bias = layer.weight, layer.module.bias
            by_weight = calibrating.loss(full, batches) - whole
            module.weight.data, module.bias = kept
        alone = {key: quantizer for key, quantizer in quantizers.items() if key[0] == layer.name}
        if alone:
            by_input = calibrating.loss(with_quantizers(full, alone), batches) - whole
        own = weights.rounded.get(layer.name)
        rounded = (None,) * 4 if own is None else (own.nearest, own.loss, own.settled, own.flipped)
        found.append(LayerLoss(layer.name, by_weight, by_input, *rounded))
        calibrating.report("layer by layer", k + 1, len(layers))
    return tuple(sorted(found, key=lambda layer: -layer.total))


def _write_end(calibrating: Calibrating, weights: QuantizedWeights, quantizers: ActivationQuantizers) -> None:
    """The network, all ranges and the settings, for `training.calibration.begin_from`."""
    tensors = {f"network.{name}": value for name, value in calibrating.network.module.state_dict().items()}
    tensors |= {f"threshold.{name}": value for name, value in weights.thresholds.items()}
    ends = {
        name: (found.low.item(), found.high.item()) for (name, side), found in quantizers.items() if side == "input"
    }
    assert calibrating.folder is not None
    checkpoint.write(calibrating.folder / END, tensors, {"inputs": ends, "settings": calibrating.settings})
