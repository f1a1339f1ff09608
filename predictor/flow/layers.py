"""The modules inside a network, and their calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn


def unwrapped(model: nn.Module) -> nn.Module:
    """The module that torch.compile has wrapped, or the module itself; ValueError where part of it is TorchScript."""
    inner = getattr(model, "_orig_mod", model)
    assert isinstance(inner, nn.Module)
    for name, module in inner.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            what = f"module {name}" if name else "the model"
            raise ValueError(f"{what} is TorchScript, whose operations cannot be seen; use the Python module")
    return inner


def module_of(model: nn.Module, layer: str) -> str:
    """What a layer is, by the class of its module, such as `Linear` or `Conv2d depthwise`; "" for none of this name."""
    module = dict(unwrapped(model).named_modules(remove_duplicate=False)).get(layer) if layer else None
    if module is None:
        return ""
    groups, inputs = getattr(module, "groups", 1), getattr(module, "in_channels", None)
    beside = " depthwise" if groups == inputs else f" {groups} groups"
    return type(module).__name__ + beside * (groups != 1)


@contextmanager
def layers_followed(
    model: nn.Module, enter: Callable[[str], None], leave: Callable[[str, Any], None]
) -> Iterator[None]:
    """Inside, a function hears of each call by the module's name, and another of its end, with what it gave; in
    whichever thread it is made."""
    with ExitStack() as hooks:
        for name, module in model.named_modules():
            if module is not model:
                hooks.callback(module.register_forward_pre_hook(_before(enter, name)).remove)
                hooks.callback(module.register_forward_hook(_after(leave, name), always_call=True).remove)
        yield


def _before(enter: Callable[[str], None], name: str) -> Callable[..., None]:
    return lambda *_: enter(name)


def _after(leave: Callable[[str, Any], None], name: str) -> Callable[..., None]:
    return lambda module, given, output: leave(name, output)
