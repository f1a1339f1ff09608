"""How much of a network a calibration quantizes, counted in one forward pass."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from torch import nn

from predictor.flow.coverage import Watch
from training.calibration.activations import forward
from training.calibration.session import Calibrating
from training.coverage import Covered

ONLY_MODULES = "only convolution and linear modules are quantized"


def covered_by(calibrating: Calibrating) -> Covered:
    """What the layers of the network at hand cover, on the first mini-batch."""
    network, module = calibrating.network, calibrating.network.module
    layers = {layer.name for layer in network.layers}
    inside: list[str] = []
    watch = Watch(lambda: inside[-1] if inside else "")

    def enter(name: str) -> Any:
        def before(_: nn.Module, args: Any, kwargs: Any) -> None:
            inside.append(name)
            if not name:
                watch.begin((args, kwargs))
            if not name or name in layers:
                watch.enter_call()

        return before

    def leave(name: str) -> Any:
        def after(*_: Any) -> None:
            inside.pop()
            if not name or name in layers:
                watch.leave_call(True, name in layers)

        return after

    with ExitStack() as stack:
        for name, each in module.named_modules():
            stack.callback(each.register_forward_pre_hook(enter(name), with_kwargs=True).remove)
            stack.callback(each.register_forward_hook(leave(name), always_call=True).remove)
        with watch:
            forward(calibrating.workload, module, calibrating.batches[0])
    seen = watch.result()
    parameters = {id(p): p.numel() for p in module.parameters()}
    rounds = calibrating.options.weight_grid is not None
    weights = {id(layer.module.weight) for layer in network.layers} if rounds else set()
    return Covered(
        len(layers),
        seen.multiply_accumulates,
        seen.covered,
        sum(parameters.values()),
        sum(parameters[weight] for weight in weights),
        tuple(replace(entry, reason=ONLY_MODULES) for entry in watch.left),
    )
