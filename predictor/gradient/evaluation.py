"""The state that all passes of a network are made in, so that only what is rounded differs between them."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Batch normalization and dropout as in evaluation; every module's own mode is restored."""
    before = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training


@contextmanager
def same_passes(model: nn.Module) -> Iterator[None]:
    """Every pass made inside finds the same random numbers of torch, numpy and random, and the same buffers, so that
    only the format is to differ; all is afterwards as it was."""
    place = next((p.device for p in model.parameters()), torch.device("cpu"))
    held = [
        (module, name, buffer)
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    # What a network draws from numpy comes from its old global generator.
    numpys, pythons = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        # A pass writes into copies of its own, which its graph may keep.
        copies = {id(buffer): buffer.clone() for _, _, buffer in held}
        for module, name, buffer in held:
            module._buffers[name] = copies[id(buffer)]
        with torch.random.fork_rng([place] if place.type == "cuda" else []):
            torch.manual_seed(0)
            np.random.seed(0)  # noqa: NPY002
            random.seed(0)
            yield
    finally:
        np.random.set_state(numpys)  # noqa: NPY002
        random.setstate(pythons)
        for module, name, buffer in held:
            module._buffers[name] = buffer
