"""Reading weights from local files in the layouts in which they are published, and putting them into a network."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from numeric_formats.messages import first_line

PICKLED = (".pth", ".pt", ".bin", ".tar")
ENDINGS = (".safetensors", *PICKLED)
INSIDE = ("state_dict", "model")
"""Where a training checkpoint keeps the network's state."""


def read_state(path: Path) -> dict[str, Tensor]:
    """A network's state by name from a .safetensors, or from a .pth, .pt, .bin or .tar that torch.save wrote; floating
    tensors become float32.

    A training checkpoint gives what it holds under "state_dict" or "model"; a leading "module." of all names is taken
    off. Of a pickle only tensors and plain values are read. Raises FileNotFoundError, and ValueError for what is no
    such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of weights {path}")
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(f"weights {path}: a file that ends in {', '.join(ENDINGS)} is needed")
    content: Any
    try:
        content = torch.load(path, map_location="cpu", weights_only=True) if ending in PICKLED else load_file(path)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, KeyError) as error:
        raise ValueError(f"weights {path}: no state dict that can be read safely ({first_line(error)})") from error
    for key in INSIDE:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(value, Tensor) for value in content.values())
    ):
        raise ValueError(f"weights {path}: a state dict is needed, which names tensors and nothing else")
    if all(name.startswith("module.") for name in content):
        content = {name.removeprefix("module."): value for name, value in content.items()}
    return {name: value.float() if value.is_floating_point() else value for name, value in content.items()}


def fill(model: nn.Module, path: Path, network: str) -> None:
    """Put the weights of a file into a network; ValueError with the first names that are missing, unknown or of another
    shape."""
    state, own = read_state(path), model.state_dict()
    absent = [f"{name} is missing" for name in own if name not in state and not name.endswith("num_batches_tracked")]
    unknown = [f"{name} is not in the network" for name in state if name not in own]
    shapes = [(name, tuple(state[name].shape), tuple(own[name].shape)) for name in state if name in own]
    refuse(
        [f"{name} is {given}, the network's {needed}" for name, given, needed in shapes if given != needed]
        + absent
        + unknown,
        path,
        network,
    )
    model.load_state_dict(state, strict=False)


def refuse(wrong: list[str], path: Path, network: str) -> None:
    """Raise ValueError with the first few things that are wrong with a file of weights, if there are any."""
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"{path} does not fit {network}: {', '.join(wrong[:3])}{more}")
