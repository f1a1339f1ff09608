"""Training that begins from a network after calibration (docs/definitions/calibration.md section 3)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training import checkpoint
from training.calibration.equalization import absorb, equalize
from training.calibration.network import Network
from training.calibration.options import Absorb, Relu6
from training.calibration.result import END, RESULT
from training.quantizers.known_ranges import KnownRanges
from workloads.digests import weights_digest
from workloads.workload import Workload

ANEW = "make a run anew with formats quantize --force"


def begin_from(folder: Path | str, workload: Workload) -> tuple[Workload, KnownRanges]:
    """The workload with the network that `quantize(workload, ..., output=folder)` ended with, and the ranges that it
    found.

    The network has batch normalization folded, where that was asked for, and the weights as they were rounded; nothing
    rounds its activations. Use as `train(workload, method=LSQ(..., ranges=ranges), start="pretrained")`.

    Args:
        folder: That of `quantize`.
        workload: The one that was quantized.

    Returns:
        The workload with the network, and the ranges.

    Raises:
        ValueError: For a folder without a finished run, or with one of another network.
    """
    folder = Path(folder)
    if not (folder / RESULT).exists() or not (folder / END).exists():
        raise ValueError(
            f"{folder} holds no finished run of formats quantize --output; make one, or finish it with --resume"
        )
    tensors, state = checkpoint.read(folder / END, ANEW)
    with checkpoint.restoring(folder / END, ANEW):
        return _begun(folder, workload, tensors, state, state["settings"])


def _begun(
    folder: Path, workload: Workload, tensors: dict[str, torch.Tensor], state: dict[str, Any], settings: dict[str, Any]
) -> tuple[Workload, KnownRanges]:
    """The workload and its ranges from what the folder holds at the end of a run."""
    digest = weights_digest(workload.model)
    if settings["network"] != digest:
        raise ValueError(
            f"{folder} was made from the network {settings['workload']} with other weights than {workload.name} has now"
        )
    made = Network(workload.model, settings["fold"])
    # The same changes of the graph; all values are then read.
    if settings["equalize"]:
        if settings["relu6"] == Relu6.REPLACE:
            made.replace_relu6()
        equalize(made)
    if settings["absorb"] != Absorb.OFF:
        absorb(made, exact_only=settings["absorb"] == Absorb.EXACT)
    _fill(
        made.module,
        {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")},
    )
    # A weight that several layers share has the name of the first.
    names = {id(parameter): name for name, parameter in made.module.named_parameters()}
    thresholds = {
        names[id(layer.module.weight)]: tensors[f"threshold.{layer.name}"]
        for layer in made.layers
        if f"threshold.{layer.name}" in tensors
    }
    weights, activations = (settings[kind].partition(" ")[0] for kind in ("weights", "activations"))
    kinds = f"weights in {weights}, activations in {activations}"
    ranges = KnownRanges(thresholds, {name: (low, high) for name, (low, high) in state["inputs"].items()}, kinds)
    return replace(workload, model=made.module, source=None), ranges


def _fill(module: nn.Module, values: dict[str, torch.Tensor]) -> None:
    """Read all parameters and buffers; corrections have added biases to layers that had none."""
    own = module.state_dict()
    for name, value in values.items():
        layer, _, leaf = name.rpartition(".")
        if name not in own and leaf == "bias":
            module.get_submodule(layer).bias = nn.Parameter(torch.zeros_like(value))
    module.load_state_dict(values)
