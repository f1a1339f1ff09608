"""Ranges of activations from calibration data: what layers read, and what the network gives, pass by pass."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from torch import nn

from training.calibration.activation_quantizers import ActivationQuantizer, input_of
from training.calibration.activations import forward, read_by
from training.calibration.folded_layer import FoldedLayer
from training.calibration.network import Network
from training.calibration.options import ActivationRule
from training.calibration.ranges import Range, RangeRule, Seen, normalized_range
from training.calibration.session import Calibrating

SAMPLE = 1 << 14
"""Elements that each mini-batch gives to the search for an activation's range."""


def activation_quantizers(calibrating: Calibrating) -> dict[tuple[str, str], ActivationQuantizer]:
    """By name of the layer and "input" or "output"; layers that read the same tensor share one. None where activations
    stay float32."""
    network, options = calibrating.network, calibrating.options
    grid = options.activation_grid
    if grid is None:
        return {}
    readers = _readers(network)
    last = _last_layer(network) if options.logits_range is not None else None
    inputs, logits = _seen(calibrating, [members[0].name for members in readers], last)
    from_data = options.activation_range is not ActivationRule.BN
    normalized = {} if from_data else normalized_ranges(network)
    rule = RangeRule(str(options.activation_range)) if from_data else RangeRule.MINMAX
    found: dict[tuple[str, str], ActivationQuantizer] = {}
    for k, members in enumerate(readers):
        name = members[0].name
        if inputs[name].full is None:
            raise ValueError(f"the loss of workload {calibrating.workload.name} does not come to layer {name}")
        chosen = normalized.get(name) or inputs[name].range(grid, rule, options.percentile)
        quantizer = ActivationQuantizer(grid, chosen)
        found |= {(member.name, "input"): quantizer for member in members}
        calibrating.report("ranges of activations", k + 1, len(readers))
    if last is not None:
        chosen = logits.range(grid, cast(RangeRule, options.logits_range), options.percentile)
        found[last.name, "output"] = ActivationQuantizer(grid, chosen)
    return found


def _readers(network: Network) -> list[list[FoldedLayer]]:
    """The layers that read each tensor: it is seen once for all of them."""
    found: dict[Any, list[FoldedLayer]] = {}
    for layer in network.layers:
        own = layer.calls != 1 or layer.hooked  # hooks may change the tensor for the layer alone
        found.setdefault(layer if own else input_of(layer.node), []).append(layer)
    return list(found.values())


def _last_layer(network: Network) -> FoldedLayer | None:
    """The layer whose output is the network's; none where hooks come between."""
    (given,) = [node for node in network.module.graph.nodes if node.op == "output"]
    last = next((layer for layer in network.layers if layer.node is given.args[0] and layer.calls == 1), None)
    return None if last is None or network.module._forward_hooks or last.module._forward_hooks else last


def _seen(calibrating: Calibrating, layers: list[str], last: FoldedLayer | None) -> tuple[dict[str, Seen], Seen]:
    """What layers read over the calibration data, and what the last one gives."""
    inputs, logits = {name: Seen(SAMPLE) for name in layers}, Seen(SAMPLE, whole=True)
    module, handles = calibrating.network.module, []
    try:
        for name, sample in inputs.items():
            layer, see = module.get_submodule(name), partial(_see_input, sample)
            handles.append(layer.register_forward_pre_hook(see, with_kwargs=True))
        if last is not None:
            handles.append(last.module.register_forward_hook(lambda _, args, y: logits.see(y), prepend=True))
        for k, batch in enumerate(calibrating.batches):
            forward(calibrating.workload, module, batch)
            calibrating.report("activations", k + 1, len(calibrating.batches))
    finally:
        for handle in handles:
            handle.remove()
    return inputs, logits


def _see_input(sample: Seen, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    sample.see(read_by(args, kwargs))


def normalized_ranges(network: Network) -> dict[str, Range]:
    """Ranges from batch normalization, by name of the layer that reads the tensor."""
    found = {}
    for link in network.links():
        if link.first.gamma is None or link.first.beta is None or link.activation == "leaky":
            continue
        activation = "none" if link.activation == "none" else "relu"
        own = normalized_range(link.first.gamma, link.first.beta, activation)
        if link.activation == "capped":
            caps = [network.submodule(node).cap.amax() for node in link.nodes if network.kind(node) == "Capped"]
            own = Range(own.low, torch.minimum(own.high, caps[0] if caps else torch.tensor(6.0)))
        found[link.second.name] = own
    return found
