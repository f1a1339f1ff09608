"""Formats for dumped tensors, without a model: ranked by the noise that they add, beside the best profile for these
tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from formats import ProfileFormat
from formats.pairs import Candidate, Pair
from numeric_formats.damage import archive_of, reading
from numeric_formats.files import TENSORS
from predictor.columns import NSR_MEAN, NSR_WORST, RANK, ROLE, WORST
from predictor.gradient.noise import NoiseTables, direct_nsr, has_table, noise_table
from search.candidates import choose
from search.knapsack import Constraints, ScoreTable, synthesize
from search.table import description_row, whole_numbers

MAGIC = b"\x93NUMPY"
"""What an array in numpy's form begins with."""


@dataclass(frozen=True)
class Fit:
    """Formats ranked on tensors.

    Attributes:
        table: One row a format, best first: rank, what describes it, role ("synthesized", or "given"), nsr_mean and
            nsr_worst (|Q(t) - t|^2 / |t|^2, the mean and the largest over tensors), worst (the tensor of the largest).
        tensors: How many were used.
        zero: The names of those that were left out since they hold nothing but zeros.
        ignored: NaN and infinite elements, read as zero.
    """

    table: pd.DataFrame
    tensors: int
    zero: tuple[str, ...]
    ignored: int


@dataclass(frozen=True, eq=False)
class Dump:
    """What a file of tensors holds.

    Attributes:
        tensors: float32, by name.
        left_out: Arrays that are not of floating-point numbers, each with its type.
        assumed: Arrays whose type the file does not say for certain, each with what it was read as.
    """

    tensors: Mapping[str, Tensor]
    left_out: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of `read_dump`."""
    return dict(read_dump(path).tensors)


def read_dump(path: Path) -> Dump:
    """The arrays of an .npz, .npy or .safetensors file as float32 tensors by name; the array of an .npy file has the
    file's name.

    Arrays of whole numbers, truth values and text beside others are left out. numpy writes bfloat16 of JAX and
    ml_dtypes as |V2, two bytes of any kind, which are read as that.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Another ending, a file that cannot be read as what its ending says or holds no array of
            floating-point numbers, or an array whose type cannot be told.
    """
    if path.suffix.lower() not in TENSORS:
        raise ValueError(f"{path}: tensors are read from {', '.join(TENSORS)}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with reading(path, path.suffix[1:]):
        if path.suffix.lower() == ".safetensors":
            found: Mapping[str, NDArray[Any] | Tensor] = load_file(path)
        else:
            with path.open("rb") as file:
                is_one = file.read(len(MAGIC)) == MAGIC
                file.seek(0)
                found = {path.stem: _array(file)} if is_one else _members(file)
    if not found:
        raise ValueError(f"{path} holds no array")
    tensors = {name: read for name, value in found.items() if (read := _to_float32(path, name, value)) is not None}
    if not tensors:
        name, value = next(iter(found.items()))
        raise ValueError(f"{path}: array {name!r} is of {value.dtype}; floating-point numbers are needed")
    return Dump(
        tensors,
        tuple(f"{name} ({value.dtype})" for name, value in found.items() if name not in tensors),
        tuple(f"{name} (|V2, read as bfloat16)" for name, value in found.items() if _is_bytes(value)),
    )


def _members(file: BinaryIO) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz; ValueError for a member that is none, or whose name comes twice."""
    arrays: dict[str, NDArray[Any]] = {}
    with archive_of(file) as archive:
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            if name in arrays:
                raise ValueError(f"it holds {name!r} twice")
            # All of it, since the sum that tells of damage is that of all.
            content = archive.read(entry)
            if not content.startswith(MAGIC):
                raise ValueError(f"its member {name!r} is no array")
            arrays[name] = _array(BytesIO(content))
    return arrays


def _array(file: BinaryIO) -> NDArray[Any]:
    """One array, with which the file ends. Objects, which unpickling could make do anything, are refused."""
    try:
        found: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except ValueError as error:
        if "dtype descriptor" not in str(error):
            raise
        raise ValueError(f"{error}; save what numpy has no type for as float32 or in a .safetensors") from None
    if file.read(1):
        raise ValueError("it goes on after its array")
    return found


def _is_bytes(value: NDArray[Any] | Tensor) -> bool:
    """Whether numpy knows no more of a type than how many bytes it has."""
    return isinstance(value, np.ndarray) and value.dtype.kind == "V" and value.dtype.names is None


def _to_float32(path: Path, name: str, value: NDArray[Any] | Tensor) -> Tensor | None:
    """None for what is not of floating-point numbers. Raises ValueError where that cannot be told, and for complex
    ones."""
    if isinstance(value, Tensor):
        if value.is_complex():
            raise ValueError(f"{path}: array {name!r} is of {value.dtype}; save its real and imaginary parts")
        return value.detach().float() if value.is_floating_point() else None
    if _is_bytes(value):
        if value.dtype.itemsize != 2:
            raise ValueError(
                f"{path}: array {name!r} is of {value.dtype.str}, bytes of which numpy does not keep the type (float8, "
                "int4 and others); save it as float32 or in a .safetensors"
            )
        # The upper half of a float32, in the file's order of bytes.
        order = value.dtype.str[0].replace("|", "<")
        return torch.from_numpy((value.view(f"{order}u2").astype(np.uint32) << 16).view(np.float32))
    if value.dtype.kind == "c":
        raise ValueError(f"{path}: array {name!r} is of {value.dtype}; save its real and imaginary parts")
    if value.dtype.kind != "f":
        return None
    with np.errstate(over="ignore"):
        return torch.from_numpy(np.array(value, np.float32))


def fit(
    tensors: Mapping[str, Tensor],
    candidates: Sequence[str | Candidate] | None = None,
    bits: int = 8,
    constraints: Constraints = Constraints(),
    best: int = 1,
) -> Fit:
    """Rank formats by the mean of their noise-to-signal ratios over tensors, which count alike whatever their size.

    Args:
        tensors: float32, of any shape, by name.
        candidates: Formats or names; by default the catalogue's of `bits` bits.
        bits: The width of the profiles that are synthesized for these tensors and join the table.
        constraints: What they must keep to.
        best: How many they are.

    Raises:
        ValueError: No tensor is given, one holds no finite number, or all hold nothing but zeros; pairs.
    """
    if not tensors:
        raise ValueError("no tensor was given")
    chosen = choose(candidates, bits if candidates is None else None)
    for entry in chosen:
        if isinstance(entry, Pair):
            raise ValueError(f"{entry.name} is a pair, for activations and errors; these tensors are of one kind")
    used: dict[str, Tensor] = {}
    ignored = 0
    for name, given in tensors.items():
        finite = given.isfinite()
        if given.numel() and not finite.any():
            raise ValueError(f"tensor {name!r} holds no finite number")
        ignored += int((~finite).sum())
        value = torch.where(finite, given, 0.0)
        if value.any():
            used[name] = value
    if not used:
        raise ValueError("the tensors hold nothing but zeros")
    names = list(used)
    tables = NoiseTables.of([noise_table(value) for value in used.values()])
    table = ScoreTable.of([tables], [np.full(len(used), 1 / len(used))])
    synthesized = {entry.format.digest: entry.format for entry in synthesize(table, bits, constraints, best)}
    rows = []
    for candidate in {**{entry.digest: entry for entry in chosen}, **synthesized}.values():
        assert not isinstance(candidate, Pair)  # refused above
        if isinstance(candidate, ProfileFormat) and has_table(candidate):
            ratios = tables.nsr(candidate)
        else:
            ratios = np.array([direct_nsr(candidate, value) for value in used.values()])
        rows.append(
            description_row(candidate)
            | {
                ROLE: "synthesized" if candidate.digest in synthesized else "given",
                NSR_MEAN: ratios.mean(),
                NSR_WORST: ratios.max(),
                WORST: names[int(ratios.argmax())],
            }
        )
    found = whole_numbers(pd.DataFrame(rows).sort_values(NSR_MEAN, kind="stable").reset_index(drop=True))
    found.insert(0, RANK, found[NSR_MEAN].rank(method="min", na_option="bottom").astype(int))
    return Fit(found, len(used), tuple(name for name in tensors if name not in used), ignored)
