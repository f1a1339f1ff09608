"""An ONNX file in onnxruntime, as that runs it by default, beside evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from numeric_formats.messages import first_line
from training.export.agreement import CALLS, EXACT, Call, difference, outputs_of, where
from training.export.following import as_exported, first_other, with_inputs_of_products
from training.export.layer import Exportable

TOLERANCE = 1e-3
"""More than this between outputs of onnxruntime and of evaluation, relative to their size, is looked into."""
MOST = 0.05
"""More is no export, whatever the reason."""


def checked(
    path: Path | str,
    content: bytes,
    made: nn.Module,
    model: nn.Module,
    quantized: Exportable,
    call: Call,
    want: list[Tensor],
) -> float:
    """The difference between onnxruntime and evaluation, relative to the size of the outputs. made: the network in
    torch as it was written, inside a module under "network". Raises ValueError that says what is the cause, where it is
    larger than codes near ties make it."""
    found = difference(_outputs(path, content, call) * CALLS, want)
    if found <= TOLERANCE:
        return found
    cause = _cause(path, content, made, model, quantized, call, want)
    if cause is None and found <= MOST:
        return found
    cause = cause or "; it is not the same when it is called again, or at codes near ties"
    raise ValueError(
        f"export {path}: in onnxruntime it differs from evaluation by {found:.2g} of the outputs' size (at most "
        f"{TOLERANCE:g} is allowed, but for codes near ties){cause}; nothing was written"
    )


def _cause(
    path: Path | str,
    content: bytes,
    made: nn.Module,
    model: nn.Module,
    quantized: Exportable,
    call: Call,
    want: list[Tensor],
) -> str | None:
    """What makes the difference, in words; None where it is codes near ties."""
    if difference(outputs_of(made, call), want) > MOST:
        return where(made.get_submodule("network"), model, quantized, call, MOST)
    layers, count = quantized.exported(), len(want) // CALLS
    if difference(outputs_of(as_exported(model, layers), call), want) > EXACT:
        return where(as_exported(model, layers), model, quantized, call, EXACT)
    more, names = with_inputs_of_products(content)
    found: list[str | None] = []
    for optimized in (True, False):
        given = _outputs(path, more, call, optimized, names)
        found.append(first_other(model, layers, call, given[count:], given[:count]))
        # What it gives beside the outputs may keep it from optimizations.
        if found[-1] is None and difference(_outputs(path, content, call, optimized), given[:count]) > MOST:
            found[-1] = "what is optimized"
    if found[0] is None:
        return None
    return f"; {found[0]} is where they part" if found[1] else "; onnxruntime's optimizations make the difference"


def _outputs(
    path: Path | str, content: bytes, call: Call, optimized: bool = True, more: Sequence[str] = ()
) -> list[Tensor]:
    """What onnxruntime gives with its default settings, or without its optimizations. more: names of tensors that are
    given behind the outputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        given = {entry.name: x.detach().cpu().numpy() for entry, x in zip(session.get_inputs(), call.args, strict=True)}
        names = [entry.name for entry in session.get_outputs() if entry.name not in more]
        found = dict(zip(wanted := [*names, *dict.fromkeys(more)], session.run(wanted, given), strict=True))
        results = [torch.from_numpy(np.asarray(found[name])).double() for name in (*names, *more)]
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # onnxruntime has exceptions of its own
        raise ValueError(f"export {path}: onnxruntime cannot run it ({first_line(error)}); use .safetensors") from error
    return results
