"""What decides the bits of a measurement: the network, its loss, this installation, and the code that rounds and
measures."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import numba
import torch

from predictor.device import device_of
from predictor.flow.layers import unwrapped
from predictor.measuring.code_digests import code_digest
from predictor.measuring.units import Subject
from workloads.containers import tensors_in
from workloads.digests import digest, weights_digest
from workloads.workload import Batch

HOME = Path(__file__).resolve().parents[2]
"""The folder that the packages lie in."""
MEASURING = (
    *("formats/kernel", "formats/kinds", "formats/tables", "predictor/flow", "predictor/gradient", "predictor/recipes"),
    *(
        f"formats/{name}.py"
        for name in ("checks", "layout", "number_format", "packing", "profile", "rounding", "scale")
    ),
    *(f"formats/{name}.py" for name in ("recipes/value", "specials", "spelling", "tensors")),
    *(f"predictor/{name}.py" for name in ("device", "effects", "scheme")),
    *(f"predictor/measuring/{name}.py" for name in ("code_digests", "units", "validity")),
    *(f"workloads/{name}.py" for name in ("containers", "copies", "digests", "minibatches", "workload")),
)
"""Folders and files that decide the bits of a kept measurement; tests/predictor/measuring/test_validity.py holds them
against the imports of what measures."""
TAKING_NO_PART = (
    "formats/kernel/accumulate.py",
    # Values, which are part of a format's digest.
    *("formats/kinds/codebooks.py", "formats/tables/codebooks.py", "formats/tables/posits.py"),
)
"""What lies in those folders and decides nothing."""


@dataclass(frozen=True)
class Context:
    """Everything that decides the bits of a measurement, but for the format, the effect and the mini-batch.

    Attributes:
        weights: SHA-256 of parameters and buffers.
        network: SHA-256 of its code and settings (predictor/measuring/code_digests.py says what that cannot see).
        loss: SHA-256 of its code and settings.
        points: exact layers, what of the scheme counts, how many micro-batches, and SHA-256 of the source that places
            points, rounds and measures.
        torch: its version, numba's, and the precision of float32 products.
        device: with the processor's kind.
        memory_format: of the parameters.
        threads: of one work unit.
    """

    weights: str
    network: str
    loss: str
    points: str
    torch: str
    device: str
    memory_format: str
    threads: int

    @property
    def digest(self) -> str:
        """SHA-256 of all fields."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def context_of(subject: Subject, threads: int | None = None) -> Context:
    """The context of measurements of a subject in this installation. threads: of one work unit, by default torch's in
    this process."""
    workload = subject.workload
    model = unwrapped(workload.model)
    device = device_of(workload)
    kind = (
        f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
        if device.type == "cpu"
        else torch.cuda.get_device_name(device)
    )
    products = torch.get_float32_matmul_precision()
    return Context(
        weights=weights_digest(model),
        network=code_digest(model, [*model.parameters(), *model.state_dict(keep_vars=True).values()]),
        loss=code_digest(workload.loss),
        points=json.dumps([sorted(subject.exact), subject.scheme.measured, subject.parts, source_digest()]),
        torch=f"{torch.__version__}, numba {numba.__version__}, float32 products {products}",
        device=f"{device.type} {kind}",
        memory_format=_memory_format(model),
        threads=torch.get_num_threads() if threads is None else threads,
    )


def batch_digest(batch: Batch) -> str:
    """SHA-256 of a mini-batch's contents, and of its tensors' strides, which decide bits as well."""
    return digest((batch, [tensor.stride() for tensor in tensors_in(batch)]))


def measuring_sources() -> list[Path]:
    """The files of `MEASURING`, in one order."""
    found: list[Path] = []
    for name in MEASURING:
        path = HOME / name
        found += [path] if path.suffix == ".py" else path.glob("**/*.py")
    return sorted(path for path in found if path.relative_to(HOME).as_posix() not in TAKING_NO_PART)


def source_digest() -> str:
    """SHA-256 of the files that decide the bits of a measurement: a release that changes them measures again."""
    hasher = hashlib.sha256()
    for path in measuring_sources():
        hasher.update(path.relative_to(HOME).as_posix().encode() + b"\0" + path.read_bytes())
    return hasher.hexdigest()


def _memory_format(model: torch.nn.Module) -> str:
    """channels_last where a parameter lies so and not in the usual order as well."""
    for parameter in model.parameters():
        if (
            parameter.ndim == 4
            and not parameter.is_contiguous()
            and parameter.is_contiguous(memory_format=torch.channels_last)
        ):
            return "channels_last"
    return "contiguous"
