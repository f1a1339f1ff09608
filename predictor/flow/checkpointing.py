"""Activation checkpointing inside a data flow: what is computed again counts its calls as the first time.

torch computes a checkpointed part again in the backward pass. There its operations must find the points and sites of
the forward pass, by the same names. Reentrant checkpointing calls backward() on its own, which writes `.grad` and
forbids gradients of chosen inputs; the non-reentrant kind gives the same numbers without either and takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.utils import checkpoint as torch_checkpoint

from workloads.containers import tensors_in

Place = Callable[[], AbstractContextManager[None]]
"""Makes a context in which calls are counted from where they were when the place was taken."""


_OPEN: dict[object, Callable[[], Place]] = {}
"""What takes places, of every data flow that is open. Flows are closed in any order; torch's own functions are back
once the last one is."""
_GENERATOR = torch_checkpoint._checkpoint_without_reentrant_generator
_PATCHES = ExitStack()


def _in_place(there: Place, function: Callable[..., Any]) -> Callable[..., Any]:
    def computed(*given: Any, **named: Any) -> Any:
        with there():
            return function(*given, **named)

    return computed


def _again(function: Any, *args: Any, **kwargs: Any) -> Any:
    for take in _OPEN.values():
        function = _in_place(take(), function)
    return _GENERATOR(function, *args, **kwargs)


def _reentrant(function: Any, preserve: bool, *args: Any) -> Any:
    if not any(t.requires_grad for t in tensors_in(args)):
        # So does torch: without an input that needs a gradient, nothing inside gets one.
        with torch.no_grad():
            return function(*args)
    return torch_checkpoint.checkpoint(function, *args, use_reentrant=False, preserve_rng_state=preserve)


@contextmanager
def checkpoints_find_their_points(place: Callable[[], Place]) -> Iterator[None]:
    """Inside, what a checkpoint computes again runs in the place that was taken before its first time."""
    own = object()
    if not _OPEN:
        _PATCHES.enter_context(patch.object(torch_checkpoint, "_checkpoint_without_reentrant_generator", _again))
        _PATCHES.enter_context(patch.object(torch_checkpoint.CheckpointFunction, "apply", _reentrant))
    _OPEN[own] = place
    try:
        yield
    finally:
        del _OPEN[own]
        if not _OPEN:
            _PATCHES.close()
