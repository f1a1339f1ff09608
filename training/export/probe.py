"""An input that is made from its description alone, and what a network gives for it: a file that holds both shows
whether another network is the one that was exported, without any data in it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from numeric_formats.messages import first_line
from training.export.agreement import Call, difference, outputs_of
from workloads.containers import tensors_in

ROWS = 2
"""Of the first axis, where all inputs agree in it."""
LARGEST = 1 << 24
"""Elements; no probe is made of more."""
KEPT = 256
"""Numbers of the outputs."""
TOLERANCE = 0.05
"""Between them, relative to their size: codes near ties may be others on another machine."""
GOLDEN = (math.sqrt(5) - 1) / 2
DTYPES = {
    str(t).removeprefix("torch."): t for t in (torch.float32, torch.float64, torch.int64, torch.int32, torch.bool)
}


def probe_of(call: Call, evaluating: nn.Module) -> dict[str, Any] | None:
    """What a file holds of a network that is called so, as JSON has it; None where its input cannot be described, or
    the network does not take such a one."""
    tensors = list(tensors_in((call.args, call.kwargs)))
    counts = {len(t) for t in tensors if t.ndim}
    rows = ROWS if len(counts) == 1 and min(counts) >= ROWS else None
    try:
        given = {"args": _plain(list(call.args), rows), "kwargs": _plain(call.kwargs, rows)}
        count, outputs = _kept(outputs_of(evaluating, _call(given)))
    except Exception:  # of the user's network, for instance of what it asks of its input
        return None
    return {**given, "count": count, "outputs": outputs} if all(math.isfinite(y) for y in outputs) else None


def check_probe(name: str, probe: dict[str, Any], model: nn.Module) -> None:
    """ValueError where a network gives something else than the one that was exported, or the probe is damaged."""
    try:
        call, count, want = _call(probe), int(probe["count"]), torch.tensor(probe["outputs"], dtype=torch.float64)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{name} is cut short or no export ({type(error).__name__}: {error})") from None
    try:
        own, given = _kept(outputs_of(model, call))
    except Exception as error:
        raise ValueError(
            f"{name}: the network does not take what the exported one took ({first_line(error)}); it is an export of "
            "another network"
        ) from error
    apart = difference([torch.tensor(given, dtype=torch.float64)], [want]) if own == count else math.inf
    if not apart <= TOLERANCE:
        raise ValueError(
            f"{name}: the network's outputs differ from those of the exported one by {apart:.2g} of their size; it is "
            "an export of another network, or of one with other attributes or hooks"
        )


def _kept(outputs: list[Tensor]) -> tuple[int, list[float]]:
    """How many numbers there are, and some from all parts."""
    whole = torch.cat([y.flatten() for y in outputs])
    places = torch.linspace(0, len(whole) - 1, min(KEPT, len(whole)), dtype=torch.float64).round().long()
    return len(whole), whole[places].tolist()


def _plain(value: Any, rows: int | None) -> Any:
    """A description. Raises ValueError for what has none."""
    if isinstance(value, Tensor):
        shape = [rows, *value.shape[1:]] if rows is not None and value.ndim else list(value.shape)
        name = str(value.dtype).removeprefix("torch.")
        if name not in DTYPES or not value.numel() or math.prod(shape) > LARGEST or value.layout != torch.strided:
            raise ValueError(f"a tensor of {value.dtype} and shape {tuple(value.shape)}")
        low, high = value.double().amin().item(), value.double().amax().item()
        if not math.isfinite(low) or not math.isfinite(high):
            raise ValueError("a tensor that is not finite")
        return {"tensor": shape, "dtype": name, "low": low, "high": high}
    if type(value) in (list, tuple):
        return {type(value).__name__: [_plain(entry, rows) for entry in value]}
    if type(value) is dict and all(isinstance(key, str) for key in value):
        return {"dict": {key: _plain(entry, rows) for key, entry in value.items()}}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise ValueError(f"a {type(value).__name__}")


def _call(plain: dict[str, Any]) -> Call:
    return Call(tuple(_made(plain["args"])), _made(plain["kwargs"]))


def _made(plain: dict[str, Any]) -> Any:
    """What a description is of."""
    if "tensor" not in plain:
        kind, value = next(iter(plain.items()))
        if kind == "dict":
            return {key: _made(entry) for key, entry in value.items()}
        if kind in ("list", "tuple"):
            entries = [_made(entry) for entry in value]
            return tuple(entries) if kind == "tuple" else entries
        return plain["value"]
    shape, dtype = [int(size) for size in plain["tensor"]], DTYPES[plain["dtype"]]
    if math.prod(shape) > LARGEST:
        raise ValueError(f"a tensor of shape {shape}")
    low, high = float(plain["low"]), float(plain["high"])
    parts = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64).mul(GOLDEN).frac()
    if dtype is torch.bool:
        values = parts < 0.5 if low < high else torch.full_like(parts, low)
    else:
        values = low + parts * (high - low) if dtype.is_floating_point else low + (parts * (high - low + 1)).floor()
    return values.to(dtype).reshape(shape)
