"""Networks that compute in 16 bits somewhere are computed in float32: their own rounding is not what is measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from workloads.minibatches import HALVES, widened

_CASTS = frozenset({"to", "half", "bfloat16", "type", "type_as"})


def _as_float32(cast: Callable[..., Any]) -> Callable[..., Any]:
    """A cast that leaves float32 where it would make 16-bit numbers."""

    def wide(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        made = cast(x, *args, **kwargs)
        if isinstance(made, Tensor) and made.dtype in HALVES and isinstance(x, Tensor) and x.is_floating_point():
            return widened(x).to(made.device)
        return made

    wide.__name__ = cast.__name__
    return wide


def call_in_float32(function: Callable[..., Any], args: Any, kwargs: Any, call: Callable[..., Any]) -> Any:
    """`call(function, args, kwargs)` of one of torch's functions, with a cast that leaves float32 and in no autocast
    region."""
    if getattr(function, "__name__", "") in _CASTS:
        function = _as_float32(function)
    if not (torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")):
        return call(function, args, kwargs)
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        return call(function, args, kwargs)


class InFloat32(TorchFunctionMode):
    """Every call as a data flow makes it, without points."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return call_in_float32(func, args, kwargs or {}, lambda function, a, k: function(*a, **k))
