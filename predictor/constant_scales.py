"""Standards without a scale from the data, such as E4M3: what their constant scale loses of a network's numbers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from formats import StandardFormat
from formats.kinds.scaled_standards import ScaledStandardFormat, scaled_standard
from formats.pairs import Candidate, formats_of
from formats.recipes.value import Operand, Product
from predictor.effects import Points
from predictor.flow.points import Point
from predictor.flow.sites import Site
from predictor.measuring.session import Measuring
from predictor.measuring.validity import batch_digest
from predictor.noise import Kind
from predictor.recipes.noise import KIND_OF, see_operands
from workloads.digests import digest
from workloads.workload import Batch

SATURATED, FLUSHED = 0.001, 0.05
"""Shares of a network's numbers from which a constant scale is worth a word."""
_WORDS = {Kind.A: "activations", Kind.E: "errors", Kind.W: "weights"}


@dataclass
class _Lost:
    """Of the numbers that are finite and not 0: how many there are, lie beyond the largest value, become 0, and become
    0 with a scale from the data."""

    numbers: int = 0
    saturated: int = 0
    flushed: int = 0
    flushed_by_scaled: int = 0

    def count(self, x: Tensor, format: StandardFormat, scaled: ScaledStandardFormat) -> None:
        values = x.detach().float()
        values = values[values.isfinite() & (values != 0)]
        self.numbers += values.numel()
        self.saturated += int((values.abs() > format.max()).sum())
        if values.numel():
            self.flushed += int((format.round(values) == 0).sum())
            self.flushed_by_scaled += int((scaled.round(values) == 0).sum())

    def sentence(self, of: str) -> str:
        """What is worth a word; nothing where nothing is."""
        count = max(1, self.numbers)
        parts = []
        if (self.flushed - self.flushed_by_scaled) / count > FLUSHED:
            parts.append(f"makes {self.flushed / count:.0%} of the {of} 0")
        if self.saturated / count > SATURATED:
            parts.append(f"saturates {self.saturated / count:.2%} of the {of}")
        return " and ".join(parts)


def _fixed(candidates: Iterable[Candidate], points: Points) -> list[tuple[Kind, StandardFormat, ScaledStandardFormat]]:
    """The standards that a scale would change something of, each with what it rounds."""
    found = {}
    for candidate in candidates:
        first, second = formats_of(candidate)
        rounded = [(Kind.A, first), (Kind.E, second), *[(Kind.W, first)] * (points is Points.OPERANDS)]
        for kind, format in rounded:
            if isinstance(format, StandardFormat):
                try:
                    found[kind, format.name] = (kind, format, scaled_standard(format))
                except ValueError:  # one without a sign, or as wide as float32
                    continue
    return list(found.values())


def lost_to_constant_scales(measuring: Measuring, candidates: Iterable[Candidate], batch: Batch) -> list[str]:
    """What the constant scales of standards lose on a mini-batch, a sentence for each standard that saturates, or makes
    0, more than a little, with what to type; from the store where that has it."""
    fixed = _fixed(candidates, measuring.points)
    if not fixed:
        return []
    # The checks, and this, come after what was measured on other threads.
    context, key = measuring.context(torch.get_num_threads()), batch_digest(batch)
    where = "" if measuring.points is Points.DATAFLOW else f" at {measuring.points}"
    what = f"constant scales{where} {digest(sorted(f'{kind} {format.digest}' for kind, format, _ in fixed))}"
    kept = None
    if measuring.store is not None:
        kept = measuring.store.get_record(context, key, what, lambda data: [_Lost(**row) for row in json.loads(data)])
    if kept is None or len(kept) != len(fixed):
        kept = [_Lost() for _ in fixed]
        with measuring.opened(batch, kept=False) as gradients:

            def see(seen: Kind, x: Tensor) -> None:
                for (kind, format, scaled), lost in zip(fixed, kept, strict=True):
                    if kind is seen:
                        lost.count(x, format, scaled)

            def activation(x: Tensor, point: Point) -> None:
                see(Kind.A, x)

            def error(x: Tensor, point: Point) -> None:
                see(Kind.E, x)

            def operand(site: Site, operand: Operand, t: Tensor, products: list[Product]) -> None:
                see(KIND_OF[operand], t)

            if measuring.points is Points.OPERANDS:
                see_operands(gradients, operand)
            else:
                gradients.observe(activation, error)
        if measuring.store is not None:
            measuring.store.put_record(context, key, what, json.dumps([asdict(row) for row in kept]).encode())
    said: dict[tuple[str, str], list[str]] = {}
    for (kind, format, scaled), lost in zip(fixed, kept, strict=True):
        if part := lost.sentence(_WORDS[kind]):
            said.setdefault((format.name, scaled.name), []).append(part)
    return [
        f"{name} has a constant scale, which {' and '.join(parts)}; {scaled} takes its scale from the data"
        for (name, scaled), parts in said.items()
    ]
