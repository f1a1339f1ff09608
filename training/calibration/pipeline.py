"""Post-training quantization of any workload in one call: equalize, absorb, ranges of weights, AdaRound or bias
correction, ranges of activations.

Source: docs/definitions/calibration.md section 1 (M. Nagel et al., "A White Paper on Neural Network Quantization",
2021, section 3.7).
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, fx, nn

from formats import Format
from numeric_formats.checks import number, one_of
from numeric_formats.files import check_same, hold, read_json, write_json
from predictor.gradients import evaluation_mode
from training import checkpoint
from training.calibration.activations import ActivationStore, at_layer, run
from training.calibration.adaround import INPUT, TARGET, AdaRound, Rounded, round_layer
from training.calibration.correction import correct_analytic, correct_empirical, input_means
from training.calibration.equalize import absorb, equalize
from training.calibration.grids import Grid, OwnScales, WeightGrid, activation_grid, weight_grid
from training.calibration.network import FoldedLayer, Network
from training.calibration.ranges import Range, RangeRule, Seen, find_range, normalized_range
from training.methods.method import ExportedLayer, Run
from workloads.digests import weights_digest
from workloads.workload import Batch, Workload

SAMPLE = 1 << 14
"""Elements that each mini-batch gives to the search for an activation's range."""

RANKED_ON = 4
"""Mini-batches that the ranking of layers is measured on."""

FOLDING_ERROR = 1e-3
"""More than this, relative, between the losses before and after folding means that the normalization was not of the
layer's channels."""

SETTINGS, RESULT = "settings.json", "result.json"
END = "network.safetensors"
"""Of a finished run: the network, without quantizers of activations, and all ranges
(`training.calibration.begin_from`)."""


class Absorb(StrEnum):
    """Which high biases are absorbed: none, all, or only where no padding makes it inexact."""

    OFF = "off"
    ALL = "all"
    EXACT = "exact"


class Correction(StrEnum):
    """Bias correction: none, from data, or from batch normalization."""

    OFF = "off"
    EMPIRICAL = "empirical"
    ANALYTIC = "analytic"


class Relu6(StrEnum):
    """What becomes of ReLU6 in equalization: a cap a channel, which keeps the function, or ReLU, which does not."""

    CAP = "cap"
    REPLACE = "replace"


class ActivationRule(StrEnum):
    """How ranges of activations are set; bn: from batch normalization where the input is one normalized layer's, minmax
    elsewhere."""

    MINMAX = "minmax"
    MSE = "mse"
    PERCENTILE = "percentile"
    BN = "bn"


@dataclass(frozen=True)
class Options:
    """What `quantize` does. weights, activations: formats, or float32, which rounds nothing. Each of the rest can be
    switched off.

    fold: batch normalization into the layers before it; equalize and absorb need it. per_channel: a range for each
    output channel of a weight.
    relu6: of equalization. weight_range: minmax, mse or percentile. activation_range: `ActivationRule`. logits_range:
    of what the network gives, where that is a layer's output: cross-entropy, mse, minmax, percentile, or off.
    percentile: of those rules.
    adaround: its options, None for nearest. bias_correction: off, empirical or analytic; of little use after AdaRound.
    minibatches, batch_size: of the calibration data. seed: of AdaRound. rank_layers: whether each layer's loss is
    measured.

    Raises ValueError for what is not allowed.
    """

    weights: str | Format = "INT4"
    activations: str | Format = "INT8"
    fold: bool = True
    equalize: bool = True
    relu6: Relu6 | str = Relu6.CAP
    absorb: Absorb | str = Absorb.ALL
    per_channel: bool = False
    weight_range: RangeRule | str = RangeRule.MSE
    activation_range: ActivationRule | str = ActivationRule.MSE
    logits_range: RangeRule | str | None = RangeRule.CROSS_ENTROPY
    percentile: float = 99.99
    adaround: AdaRound | None = AdaRound()
    bias_correction: Correction | str = Correction.OFF
    minibatches: int = 8
    batch_size: int | None = None
    seed: int = 0
    rank_layers: bool = True
    weight_grid: WeightGrid | None = field(init=False, repr=False, compare=False)
    activation_grid: Grid | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        kinds: tuple[tuple[str, type[StrEnum]], ...] = (
            ("relu6", Relu6), ("absorb", Absorb), ("weight_range", RangeRule), ("activation_range", ActivationRule), ("bias_correction", Correction)
        )  # fmt: skip
        for name, kind in kinds:
            object.__setattr__(self, name, one_of(name, kind, getattr(self, name)))
        if self.logits_range is not None:
            object.__setattr__(self, "logits_range", one_of("logits_range", RangeRule, self.logits_range))
        if self.weight_range is RangeRule.CROSS_ENTROPY:
            raise ValueError("weight_range 'cross-entropy': it is for logits; allowed are minmax, mse, percentile")
        number("quantize: minibatches", self.minibatches, 1, 1 << 30, whole=True)
        number("quantize: seed", self.seed, 0, (1 << 31) - 1, whole=True)
        if not 50 < self.percentile <= 100:
            raise ValueError(f"percentile {self.percentile}: above 50 and at most 100 is needed")
        if not self.fold and (self.equalize or self.absorb is not Absorb.OFF):
            raise ValueError("without folding there is nothing to equalize or absorb; switch those off too")
        object.__setattr__(self, "weight_grid", weight_grid(self.weights))
        object.__setattr__(self, "activation_grid", activation_grid(self.activations))

    def settings(self) -> dict[str, Any]:
        """As plain values; formats by name and digest."""
        plain = {
            key: value
            for key, value in asdict(replace(self, weights="float32", activations="float32")).items()
            if not key.endswith("_grid")
        }
        for name in ("weights", "activations"):
            given = getattr(self, name)
            plain[name] = given if isinstance(given, str) else f"{given.name} {given.digest}"
        return plain


@dataclass(frozen=True)
class Step:
    """The network after a step. loss: mean over the calibration mini-batches. metric: mean over the test mini-batches,
    None without them."""

    name: str
    loss: float
    metric: float | None


@dataclass(frozen=True)
class LayerLoss:
    """What one layer costs. weight, activation: what the workload's loss rises by where this layer's weight, or its
    input, alone is quantized.

    nearest, rounded: the layer's own loss before and after AdaRound (`training.calibration.adaround.Rounded`), settled
    and flipped as there; None where AdaRound did not come to it.
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


@dataclass(frozen=True)
class At:
    """How far it is: the stage, and units done of all in it."""

    stage: str
    done: int
    of: int


@dataclass(frozen=True, eq=False)
class Quantized:
    """What `quantize` gave.

    model: a torch module in evaluation mode that computes with quantized weights and activations, called like the
    original. network: the same without quantizers of activations, which `run` describes, for
    `training.export.codes.export(path, result.network, result.run)`.
    steps: in their order. layers: the costliest first; empty where they were not measured. kept: what has weights and
    is left in float32. settings: plain values.
    """

    model: nn.Module
    network: nn.Module
    run: Run
    steps: tuple[Step, ...]
    layers: tuple[LayerLoss, ...]
    kept: tuple[str, ...]
    settings: dict[str, Any]

    def plain(self) -> dict[str, Any]:
        """Steps, layers and settings as JSON has them."""
        layers = [{**asdict(layer), "total": layer.total} for layer in self.layers]
        return {
            "steps": [asdict(step) for step in self.steps],
            "layers": layers,
            "kept": list(self.kept),
            "settings": self.settings,
        }


class _Exported(Run):
    """Quantized layers, for what exports a training method's."""

    def __init__(self, layers: Callable[[], list[ExportedLayer]]):
        super().__init__()
        self._layers = layers

    def exported(self) -> list[ExportedLayer]:
        """As codes. Raises ValueError for formats with scales of blocks."""
        return self._layers()


class ActivationQuantizer(nn.Module):
    """Rounds a tensor in a grid over a fixed range."""

    low: Tensor
    high: Tensor

    def __init__(self, grid: Grid, found: Range):
        super().__init__()
        self.grid = grid
        # No part of the state, so that the quantized network's is that of the network.
        self.register_buffer("low", found.low.clone(), persistent=False)
        self.register_buffer("high", found.high.clone(), persistent=False)

    @property
    def described(self) -> dict[str, Any]:
        """For `training.quantizers.clipped.from_description`."""
        return self.grid.described(self.low, self.high)

    def forward(self, x: Tensor) -> Tensor:
        return self.grid(x, self.low, self.high)


def quantize(
    workload: Workload,
    weights: str | Format = "INT4",
    activations: str | Format = "INT8",
    *,
    output: Path | str | None = None,
    resume: bool = False,
    force: bool = False,
    progress: Callable[[At], object] | None = None,
    **options: Any,
) -> Quantized:
    """Quantize a trained network without training it; the workload's own network stays as it is.

    weights, activations: formats with one scale a tensor (integers of activations get a zero point) or with scales of
    blocks, or "float32". Quantized are the weight and the input of every convolution and linear module, and the output
    of the last one where it is the network's. options: `Options`.
    output: a folder for AdaRound's checkpoints and `result.json`; without it nothing is kept. resume: go on with what
    is in it, to the same bits at the same number of threads. force: begin anew. progress: called with an `At`.

    Raises ValueError for options that are not allowed, where torch.fx cannot trace the network (naming the module), and
    for a folder that holds something else; FileExistsError where another process writes to it.
    """
    chosen = Options(weights=weights, activations=activations, **options)
    with ExitStack() as stack:
        folder = None if output is None else Path(output)
        if folder is not None:
            stack.enter_context(hold(folder))
        stack.enter_context(evaluation_mode(workload.model))
        pipeline = _Pipeline(workload, chosen, folder, progress)
        pipeline.open(resume, force)
        return pipeline.quantize()


class _Pipeline:
    """One call of `quantize`."""

    def __init__(
        self, workload: Workload, options: Options, folder: Path | None, progress: Callable[[At], object] | None
    ):
        self.workload, self.options, self.folder, self.progress = workload, options, folder, progress
        self.network = Network(workload.model, options.fold)
        self.batches: list[Batch] = list(workload.minibatches(options.batch_size)[: options.minibatches])
        self.settings = {"workload": workload.name, "network": weights_digest(workload.model), **options.settings()}
        self.steps: list[Step] = []
        self.thresholds: dict[str, Tensor] = {}
        self.rounded: dict[str, Rounded] = {}

    def open(self, resume: bool, force: bool) -> None:
        """Look at what the folder holds, and write the settings into it."""
        if self.folder is None:
            return
        path = self.folder / SETTINGS
        if path.exists() and not force:
            if not resume:
                raise ValueError(
                    f"{self.folder} holds an earlier run; go on with resume (--resume) or replace it with force (--force)"
                )
            earlier = read_json(path, "start with --force")
            check_same(path, earlier, self.settings, "give the same, or start with --force")
        else:
            shutil.rmtree(self.folder / "adaround", ignore_errors=True)
            (self.folder / RESULT).unlink(missing_ok=True)
        write_json(path, self.settings)

    def _at(self, stage: str, done: int, of: int) -> None:
        if self.progress is not None:
            self.progress(At(stage, done, of))

    # Measuring.

    def _loss(self, model: nn.Module, batches: Sequence[Batch]) -> float:
        with torch.no_grad():
            return float(np.mean([self.workload.loss(model, batch).item() for batch in batches]))

    def _metric(self, model: nn.Module) -> float | None:
        workload = self.workload
        if workload.test is None or workload.metric is None:
            return None
        with torch.no_grad():
            return float(
                np.mean(
                    [workload.metric(model, batch) for batch in replace(workload, batches=workload.test).minibatches()]
                )
            )

    def _step(self, name: str, model: nn.Module) -> None:
        self.steps.append(Step(name, self._loss(model, self.batches), self._metric(model)))
        self._at(name, 1, 1)

    # The steps.

    def quantize(self) -> Quantized:
        """All steps, in the order of the source."""
        options, network = self.options, self.network
        self._step("float32", self.workload.model)
        if options.fold and network.folded:
            self._step("batch normalization folded", network.module)
            before, after = self.steps[-2].loss, self.steps[-1].loss
            if not abs(after - before) <= FOLDING_ERROR * max(1.0, abs(before)):
                raise ValueError(
                    f"folding batch normalization changed the loss from {before:g} to {after:g}; quantize with fold=False"
                )
        if options.equalize:
            if options.relu6 is Relu6.REPLACE and network.replace_relu6():
                self._step("ReLU6 replaced by ReLU", network.module)
            if equalize(network):
                self._step("equalized", network.module)
        if options.absorb is not Absorb.OFF and absorb(network, exact_only=options.absorb is Absorb.EXACT):
            self._step("high biases absorbed", network.module)
        self.full = copy.deepcopy(network.module)
        if options.weight_grid is not None:
            self._quantize_weights(options.weight_grid)
        quantizers = self._activation_quantizers()
        model = _with_quantizers(network.module, quantizers)
        if quantizers:
            if options.weight_grid is not None:
                self._step("activations alone", _with_quantizers(self.full, quantizers))
            self._step("weights and activations" if options.weight_grid is not None else "activations", model)
        layers = self._layer_losses(quantizers) if options.rank_layers else ()
        exported = _Exported(lambda: self._exported(quantizers))
        result = Quantized(
            model, network.module, exported, tuple(self.steps), layers, tuple(network.kept), self.settings
        )
        if self.folder is not None:
            self._write_end(self.folder / END, quantizers)
            write_json(self.folder / RESULT, result.plain())
        return result

    def _write_end(self, path: Path, quantizers: dict[tuple[str, str], ActivationQuantizer]) -> None:
        tensors = {f"network.{name}": value for name, value in self.network.module.state_dict().items()}
        tensors |= {f"threshold.{name}": value for name, value in self.thresholds.items()}
        inputs = {
            name: (found.low.item(), found.high.item()) for (name, side), found in quantizers.items() if side == "input"
        }
        checkpoint.write(path, tensors, {"inputs": inputs})

    def _weight_range(self, layer: FoldedLayer, grid: WeightGrid) -> Tensor:
        options = self.options
        axis = layer.output_axis if options.per_channel else None
        found = find_range(layer.weight, grid, options.weight_range, axis=axis, percentile=options.percentile)
        return layer.per_output(found.threshold) if options.per_channel else found.threshold

    def _quantize_weights(self, grid: WeightGrid) -> None:
        options, layers = self.options, self.network.layers
        weights = {}
        for k, layer in enumerate(layers):
            self.thresholds[layer.name] = self._weight_range(layer, grid)
            weights[layer.name] = layer.weight.clone()
            layer.module.weight.data = grid.weight(layer.weight, self.thresholds[layer.name])
            self._at("ranges of weights", k + 1, len(layers))
        self._step("weights to nearest", self.network.module)
        if options.adaround is not None:
            self._round(grid, options.adaround, weights)
            self._step("weights by AdaRound", self.network.module)
        if options.bias_correction is not Correction.OFF:
            means = input_means(self.network)
            for k, layer in enumerate(layers):
                if options.bias_correction is Correction.EMPIRICAL:
                    if layer.calls == 1:
                        correct_empirical(self.workload, self.full, self.network.module, layer, self.batches)
                elif layer.name in means:
                    correct_analytic(layer, weights[layer.name], means[layer.name])
                self._at("bias correction", k + 1, len(layers))
            self._step("biases corrected", self.network.module)

    def _round(self, grid: WeightGrid, adaround: AdaRound, weights: dict[str, Tensor]) -> None:
        """AdaRound, layer by layer; what a checkpoint holds is not done again. Layers that are called several times
        stay at nearest."""
        layers = [layer for layer in self.network.layers if layer.calls == 1]
        for k, layer in enumerate(layers):
            done = None if self.folder is None else self.folder / "adaround" / f"{k:04d}.safetensors"
            if done is not None and done.exists():
                saved, state = checkpoint.read(done)
                layer.module.weight.data.copy_(saved["weight"])
                self.rounded[layer.name] = Rounded(**state)
            else:
                unfinished = None if done is None else done.with_suffix(".unfinished.safetensors")
                with ExitStack() as stack:
                    store = ActivationStore(self._scratch(stack))
                    stack.callback(store.close)
                    activation = self.network.activation_after(layer)
                    store.fill(INPUT, at_layer(self.workload, self.network.module, layer.name, self.batches))
                    store.fill(
                        TARGET, at_layer(self.workload, self.full, layer.name, self.batches, output=True), activation
                    )
                    nearest = layer.module.weight.data
                    layer.module.weight.data = weights[layer.name]

                    def show(iteration: int, k: int = k) -> None:
                        self._at("AdaRound", k * adaround.iterations + iteration, len(layers) * adaround.iterations)

                    threshold = self.thresholds[layer.name]
                    rounded, self.rounded[layer.name] = round_layer(
                        layer,
                        grid,
                        threshold,
                        store,
                        activation,
                        adaround,
                        self.options.seed,
                        checkpoint=unfinished,
                        progress=show,
                    )
                    # With the strides that the weight had.
                    layer.module.weight.data = nearest.copy_(rounded)
                if done is not None and unfinished is not None:
                    checkpoint.write(done, {"weight": layer.weight}, asdict(self.rounded[layer.name]))
                    unfinished.unlink(missing_ok=True)
            self._at("AdaRound", (k + 1) * adaround.iterations, len(layers) * adaround.iterations)

    def _scratch(self, stack: ExitStack) -> Path:
        """An empty folder for activations, on the disk of the output where there is one; what an ended run left there
        is removed."""
        if self.folder is None:
            return Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = self.folder / "activations"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder

    # Activations.

    def _logits(self) -> FoldedLayer | None:
        """The layer whose output is the network's."""
        (given,) = [node for node in self.network.module.graph.nodes if node.op == "output"]
        return next((layer for layer in self.network.layers if layer.node is given.args[0] and layer.calls == 1), None)

    def _activation_quantizers(self) -> dict[tuple[str, str], ActivationQuantizer]:
        """By name of the layer and "input" or "output"; layers that read the same tensor share one."""
        grid, options = self.options.activation_grid, self.options
        if grid is None:
            return {}
        # Layers that read one tensor see it once.
        sources: dict[Any, list[FoldedLayer]] = {}
        for layer in self.network.layers:
            sources.setdefault(_input_of(layer.node) if layer.calls == 1 else layer, []).append(layer)
        logits = self._logits() if options.logits_range is not None else None
        seen = {members[0].name: Seen(SAMPLE) for members in sources.values()}
        of_logits = Seen(SAMPLE, whole=True)
        handles = []
        try:
            for name, sample in seen.items():
                handles.append(
                    self.network.module.get_submodule(name).register_forward_pre_hook(partial(_see_input, sample))
                )
            if logits is not None:
                handles.append(logits.module.register_forward_hook(lambda _, args, y: of_logits.see(y)))
            for k, batch in enumerate(self.batches):
                run(self.workload, self.network.module, batch)
                self._at("activations", k + 1, len(self.batches))
        finally:
            for handle in handles:
                handle.remove()
        normalized = self._normalized_ranges() if options.activation_range is ActivationRule.BN else {}
        rule = (
            RangeRule.MINMAX
            if options.activation_range is ActivationRule.BN
            else RangeRule(str(options.activation_range))
        )
        found: dict[tuple[str, str], ActivationQuantizer] = {}
        for k, members in enumerate(sources.values()):
            name = members[0].name
            if seen[name].full is None:
                raise ValueError(f"the loss of workload {self.workload.name} does not come to layer {name}")
            chosen = normalized.get(name) or seen[name].range(grid, rule, options.percentile)
            quantizer = ActivationQuantizer(grid, chosen)
            found |= {(member.name, "input"): quantizer for member in members}
            self._at("ranges of activations", k + 1, len(sources))
        if logits is not None:
            found[logits.name, "output"] = ActivationQuantizer(
                grid, of_logits.range(grid, cast(RangeRule, options.logits_range), options.percentile)
            )
        return found

    def _normalized_ranges(self) -> dict[str, Range]:
        """Ranges from batch normalization, by name of the layer that reads the tensor."""
        found = {}
        for link in self.network.links():
            if link.first.gamma is None or link.first.beta is None or link.activation == "leaky":
                continue
            activation = "none" if link.activation == "none" else "relu"
            own = normalized_range(link.first.gamma, link.first.beta, activation)
            if link.activation == "capped":
                caps = [
                    self.network.submodule(node).cap.amax()
                    for node in link.nodes
                    if self.network.kind(node) == "Capped"
                ]
                own = Range(own.low, torch.minimum(own.high, caps[0] if caps else torch.tensor(6.0)))
            found[link.second.name] = own
        return found

    def _layer_losses(self, quantizers: dict[tuple[str, str], ActivationQuantizer]) -> tuple[LayerLoss, ...]:
        batches, found = self.batches[:RANKED_ON], []
        whole = self._loss(self.full, batches)
        for k, layer in enumerate(self.network.layers):
            module: Any = self.full.get_submodule(layer.name)
            by_weight = by_input = 0.0
            if self.options.weight_grid is not None:
                kept = module.weight.data, module.bias
                module.weight.data, module.bias = layer.weight, layer.module.bias
                by_weight = self._loss(self.full, batches) - whole
                module.weight.data, module.bias = kept
            alone = {key: quantizer for key, quantizer in quantizers.items() if key[0] == layer.name}
            if alone:
                by_input = self._loss(_with_quantizers(self.full, alone), batches) - whole
            rounded = self.rounded.get(layer.name)
            own = (
                (None, None, None, None)
                if rounded is None
                else (rounded.nearest, rounded.loss, rounded.settled, rounded.flipped)
            )
            found.append(LayerLoss(layer.name, by_weight, by_input, *own))
            self._at("layer by layer", k + 1, len(self.network.layers))
        return tuple(sorted(found, key=lambda layer: -layer.total))

    def _exported(self, quantizers: dict[tuple[str, str], ActivationQuantizer]) -> list[ExportedLayer]:
        grid, found = self.options.weight_grid, []
        if grid is None:
            return []
        if isinstance(grid, OwnScales):
            raise ValueError(f"{grid.name} has scales of blocks, which exported files do not hold")
        for layer in self.network.layers:
            codes, scale = grid.clipped.encode(layer.weight, self.thresholds[layer.name])
            ends = [quantizers.get((layer.name, side)) for side in ("input", "output")]
            described = [None if quantizer is None else quantizer.described for quantizer in ends]
            found.append(
                ExportedLayer(
                    layer.name, f"{layer.name}.weight", codes, scale, grid.name, input=described[0], output=described[1]
                )
            )
        return found


def _see_input(sample: Seen, _: nn.Module, args: tuple[Any, ...]) -> None:
    sample.see(args[0])


def _input_of(node: fx.Node) -> Any:
    return node.args[0] if node.args else node.kwargs["input"]


def _with_quantizers(module: fx.GraphModule, quantizers: dict[tuple[str, str], ActivationQuantizer]) -> fx.GraphModule:
    """A copy of a traced network with quantizers before, and after, its layers."""
    made = copy.deepcopy(module)
    graph = made.graph
    for node in list(graph.nodes):
        if node.op != "call_module":
            continue
        for side in ("input", "output"):
            quantizer = quantizers.get((node.target, side))
            if quantizer is None:
                continue
            name = f"{node.target.replace('.', '_')}_{side}_quantizer"
            if not hasattr(made, name):
                made.add_submodule(name, quantizer)
            if side == "input":
                source = _input_of(node)
                with graph.inserting_before(node):
                    node.replace_input_with(source, graph.call_module(name, (source,)))
            else:
                with graph.inserting_after(node):
                    placed = graph.call_module(name, (node,))
                node.replace_all_uses_with(placed, delete_user_cb=lambda user, placed=placed: user is not placed)
    graph.lint()
    made.recompile()
    return made.eval()
