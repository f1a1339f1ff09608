"""Reading weights from local files in the layouts in which they are published, and putting them into a network."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from numeric_formats.damage import archive_of, reading
from numeric_formats.messages import printable

PICKLED = (".pth", ".pt", ".bin", ".tar")
ENDINGS = (".safetensors", *PICKLED)
INSIDE = ("state_dict", "model")
"""Where a training checkpoint keeps the network's state."""
FOLDER = 1 << 4
"""Of an entry of a zip archive: the attribute that makes it a folder."""
REPEATED = 1 << 26
"""Elements up to which a tensor may have more than its file holds, by repeating some."""


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
    with reading(f"weights {path}", "a state dict that is safe"):
        if ending in PICKLED:
            _check_sums(path)
        content = torch.load(path, map_location="cpu", weights_only=True) if ending in PICKLED else load_file(path)
    for key in INSIDE:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
    ):
        raise ValueError(f"weights {path}: a state dict is needed, which names tensors and nothing else")
    if all(name.startswith("module.") for name in content):
        content = {name.removeprefix("module."): value for name, value in content.items()}
    return {name: _plain(f"weights {path}: {printable(name)}", value) for name, value in content.items()}


def _check_sums(path: Path) -> None:
    """ValueError where what torch.save wrote is not what it was: torch.load itself compares no checksum."""
    if zipfile.is_zipfile(path):
        with archive_of(path) as archive:
            damaged = archive.testzip()
            folders = [entry.filename for entry in archive.infolist() if entry.external_attr & FOLDER]
        if folders:  # of which torch reads nothing, and leaves the tensor as it finds the memory
            raise ValueError(f"{folders[0]!r} is a folder")
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged!r} is another; it was damaged, or saved without checksums")


def _plain(what: str, value: Tensor) -> Tensor:
    """A dense tensor on the CPU, float32 where it is of floating-point numbers; ValueError for any other."""
    wrong = (
        f"{value.layout}"
        if value.layout is not torch.strided
        else "quantized"
        if value.is_quantized
        else "on the meta device, without numbers"
        if value.is_meta
        else f"of complex numbers ({value.dtype})"
        if value.is_complex()
        else ""
    )
    if wrong:
        raise ValueError(f"{what} is {wrong}; dense tensors of real numbers are needed")
    if value.numel() > max(REPEATED, value.untyped_storage().nbytes() // value.element_size()):
        raise ValueError(f"{what} claims {value.numel()} elements, of which the file holds few")
    with reading(what, "numbers"):
        return value.float() if value.is_floating_point() else value


def fill(model: nn.Module, path: Path, network: str) -> None:
    """Put the weights of a file into a network; ValueError with the first names that are missing, unknown or of another
    shape."""
    state, own = read_state(path), model.state_dict()
    absent = [f"{name} is missing" for name in own if name not in state and not name.endswith("num_batches_tracked")]
    unknown = [f"{name} is not in the network" for name in state if name not in own]
    shapes = [(name, tuple(state[name].shape), tuple(own[name].shape)) for name in state if name in own]
    kinds = [
        f"{name} is of {state[name].dtype}, the network's of {own[name].dtype}"
        for name in state
        if name in own and _kind(state[name]) != _kind(own[name])
    ]
    refuse(
        [f"{name} is {given}, the network's {needed}" for name, given, needed in shapes if given != needed]
        + absent
        + unknown
        + kinds,
        path,
        network,
    )
    model.load_state_dict(state, strict=False)


def _kind(t: Tensor) -> str:
    """Whether numbers are with a point, truth values, or whole: none is copied as another."""
    return "floating" if t.is_floating_point() else "bool" if t.dtype is torch.bool else "whole"


def refuse(wrong: list[str], path: Path, network: str) -> None:
    """Raise ValueError with the first few things that are wrong with a file of weights, if there are any."""
    if wrong:
        wrong = [printable(entry) for entry in wrong]
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"{path} does not fit {network}: {', '.join(wrong[:3])}{more}")
