"""What formats lose of a network's numbers beyond their range: standards with a constant scale, such as E4M3, and those
whose largest value lies far below the largest number that their scale may meet, such as a codebook up to 1."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from formats import CodebookFormat, ProfileFormat, StandardFormat
from formats.description import overshoot
from formats.kinds.scaled_standards import ScaledStandardFormat, scaled_standard
from formats.names import parse
from formats.number_format import Format
from formats.pairs import Candidate, formats_of
from formats.recipes.value import Operand, Product
from formats.scale import group
from predictor.effects import Points
from predictor.flow.points import Point
from predictor.flow.sites import Site
from predictor.gradient.noise import Kind
from predictor.gradient.quantizers import round_in_dtype
from predictor.measuring.session import Measuring
from predictor.measuring.validity import batch_digest
from predictor.recipes.noise import KIND_OF, see_operands
from workloads.digests import digest
from workloads.workload import Batch

SATURATED, FLUSHED, NOISE = 0.001, 0.05, 0.5
"""What is worth a word: shares of a network's numbers that saturate, and that become 0; or saturation's share of a
format's noise."""
FAR = 4 / 3
"""How many times its largest value a number may be under a format's scale, for the format to be looked at."""
_WORDS = {Kind.A: "activations", Kind.E: "errors", Kind.W: "weights"}


@dataclass(frozen=True)
class _Rounded:
    """A format that may lose numbers, with what it rounds.

    given: as it was named. format: as it rounds there. scaled: of a constant scale, the same with one from the data.
    """

    kind: Kind
    given: Format
    format: ProfileFormat | CodebookFormat | StandardFormat
    scaled: ScaledStandardFormat | None

    def ends(self, x: NDArray[Any]) -> tuple[Any, Any]:
        """The least and the largest value where each element is."""
        format = self.format
        if isinstance(format, StandardFormat):
            return -format.max(), format.max()
        low, high = _ends(format)
        tops = group(format.scale, x.shape).per_element(format.find_top(x), x.shape)
        return np.ldexp(low, tops), np.ldexp(high, tops)

    @property
    def advice(self) -> str:
        """What to type instead."""
        if self.scaled is not None:
            return f"{self.scaled.name} takes its scale from the data"
        assert isinstance(self.format, ProfileFormat | CodebookFormat)
        more = replace(self.format.scale, headroom=self.format.scale.room + 1)
        try:
            parse(self.given.name)
            typed = self.format.with_scale(more).name
        except ValueError:  # of a file
            typed = f"in its file scale = {{ headroom = {more.headroom} }}"
        return f"numbers up to {overshoot(self.format):.3g} times its largest value come; {typed} keeps all within"


@dataclass
class _Lost:
    """Of the numbers that are finite and not 0: how many there are, lie beyond the values, become 0, and become 0 with
    a scale from the data; and the squares of what rounding adds, in all and where it saturates."""

    numbers: int = 0
    saturated: int = 0
    flushed: int = 0
    flushed_by_scaled: int = 0
    noise: float = 0.0
    noise_of_saturated: float = 0.0

    def count(self, x: Tensor, of: _Rounded) -> None:
        values = x.detach().float().cpu()
        known = values.isfinite() & (values != 0)
        if not known.any():
            return
        rounded = round_in_dtype(of.format, values)
        low, high = (torch.as_tensor(np.asarray(end)) for end in of.ends(values.numpy()))
        beyond = known & ((values < low) | (values > high))
        squares = torch.where(known, rounded.double() - values.double(), 0.0).square()
        self.numbers += int(known.sum())
        self.saturated += int(beyond.sum())
        self.noise += float(squares.sum())
        self.noise_of_saturated += float(squares[beyond].sum())
        if of.scaled is not None:
            self.flushed += int((known & (rounded == 0)).sum())
            self.flushed_by_scaled += int((known & (of.scaled.round(values) == 0)).sum())

    def sentence(self, of: str) -> str:
        """What is worth a word; nothing where nothing is."""
        count = max(1, self.numbers)
        share, noise = self.saturated / count, self.noise_of_saturated / (self.noise or 1.0)
        parts = []
        if (self.flushed - self.flushed_by_scaled) / count > FLUSHED:
            parts.append(f"makes {self.flushed / count:.0%} of the {of} 0")
        if share > SATURATED or noise > NOISE:
            told = f"{share:.2%}" if share >= 1e-4 else "less than 0.01%"
            parts.append(f"saturates {told} of the {of} ({noise:.0%} of its noise in them)")
        return " and ".join(parts)


def _ends(format: ProfileFormat | CodebookFormat) -> tuple[float, float]:
    """The least and the largest value at T = 0."""
    high = format.max()
    return (-high if isinstance(format, ProfileFormat) or format.signed else format.values[0]), high


def _looked_at(kind: Kind, given: Format, format: Format) -> _Rounded | None:
    """A format as it rounds, where it may lose numbers."""
    if isinstance(format, StandardFormat):
        try:
            return _Rounded(kind, given, format, scaled_standard(format))
        except ValueError:  # one without a sign, or as wide as float32
            return None
    if not isinstance(format, ProfileFormat | CodebookFormat):
        return None
    return _Rounded(kind, given, format, None) if (overshoot(format) or 0.0) > FAR else None


def _all_looked_at(candidates: Iterable[Candidate], measuring: Measuring) -> list[_Rounded]:
    """Each format that may lose numbers once for each kind that it rounds."""
    operands = measuring.points is Points.OPERANDS
    found = {}
    for candidate in candidates:
        first, second = formats_of(candidate)
        for kind, given in [(Kind.A, first), (Kind.E, second), *[(Kind.W, first)] * operands]:
            format = given if operands else measuring.scheme.at_rest(given)
            if (kind, given.name) not in found and (made := _looked_at(kind, given, format)) is not None:
                found[kind, given.name] = made
    return list(found.values())


def lost_out_of_range(measuring: Measuring, candidates: Iterable[Candidate], batch: Batch) -> list[str]:
    """What formats lose of a mini-batch beyond their range, a sentence for each that saturates, or makes 0, more than a
    little, with what to type; from the store where that has it."""
    of = _all_looked_at(candidates, measuring)
    if not of:
        return []
    # The checks, and this, come after what was measured on other threads.
    context, key = measuring.context(torch.get_num_threads()), batch_digest(batch)
    where = "" if measuring.points is Points.DATAFLOW else f" at {measuring.points}"
    what = f"out of range{where} {digest([f'{row.kind} {row.format.digest}' for row in of])}"
    kept = None
    if measuring.store is not None:
        kept = measuring.store.get_record(context, key, what, lambda data: [_Lost(**row) for row in json.loads(data)])
    if kept is None or len(kept) != len(of):
        kept = [_Lost() for _ in of]
        with measuring.opened(batch, kept=False) as gradients:

            def see(seen: Kind, x: Tensor) -> None:
                for row, lost in zip(of, kept, strict=True):
                    if row.kind is seen:
                        lost.count(x, row)

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
    for row, lost in zip(of, kept, strict=True):
        if part := lost.sentence(_WORDS[row.kind]):
            name = f"{row.given.name} has a constant scale, which" if row.scaled is not None else row.given.name
            said.setdefault((name, row.advice), []).append(part)
    return [f"{name} {' and '.join(parts)}; {advice}" for (name, advice), parts in said.items()]
