"""Noise tables: what any tensor-scaled profile does to the tensors of one full-precision pass
(docs/definitions/prediction.md section 3).

|Q(t) - t|^2 is a sum over binades of a number that depends only on the precision kept there, plus what saturates above
and what is flushed below. One read of a tensor gives the table from which every profile's noise-to-signal ratio (NSR)
is a sum.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from enum import StrEnum
from io import BytesIO
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from formats import Format, Granularity, ProfileFormat, ScalePolicy
from formats.kernel.caching import kept_njit
from formats.pairs import Candidate, formats_of
from predictor.flow.points import Point
from predictor.gradient.angle import layer_sums
from predictor.gradient.gradients import Gradients
from predictor.scheme import PAPER, Scheme

BINADES = 48
"""Binades below a tensor's largest magnitude that are told apart; all energy further down is in the last row."""
PRECISIONS = 12
"""Precisions 0 (only the value above and zero) to 11 bits; a finer format makes no noise that matters here."""
ELEMENTS_PER_THREAD = 1 << 16
PIECE = 1 << 20
"""Elements that are looked at at a time, so that what is made of them takes no memory beside a tensor's."""
INFINITE = np.int32(0x7F800000)
"""The bits of infinity."""
TABLES = ("top", "noise", "saturated", "energy")


class Kind(StrEnum):
    """Which tensor of a point: its activation in the forward pass or its error in the backward pass; or, of operands,
    a weight."""

    A = "A"
    E = "E"
    W = "W"


@kept_njit()
def _fill(bits, top, noise, saturated, energy):  # type: ignore[no-untyped-def]
    """Add the elements with float32 bits `bits` to the tables of a tensor whose top exponent is `top`, unscaled by
    binade."""
    binades = noise.shape[0]
    for i in range(bits.size):
        a = bits[i] & np.int32(0x7FFFFFFF)
        field = a >> 23
        if a == 0 or field == 255:
            continue
        # In units of the last of the 24 bits; `field` puts all of a binade on one unit.
        significand = a & np.int32(0x7FFFFF)
        if field == 0:
            field = np.int32(1)
            while significand < 0x800000:  # subnormal numbers, brought to 24 bits
                significand = np.int32(significand << 1)
                field -= 1
        else:
            significand |= np.int32(0x800000)
        binade = top - (field - 127)
        value = np.float64(significand)
        if binade >= binades:
            energy[binades] += value * value * 4.0 ** (binades - binade)
            continue
        energy[binade] += value * value
        row = noise[binade]
        # The distance to the nearest multiple of 2^(24-p); which one a tie takes does not matter for it. At precision 0
        # that is the value one binade up or zero. A constant length lets the compiler do it in vectors.
        for p in range(PRECISIONS):
            half = np.int32(1 << (23 - p))
            error = np.float64(np.int32(((significand + half) & (2 * half - 1)) - half))
            row[p] += error * error
        if binade == 0:
            for p in range(1, PRECISIONS):
                half = np.int32(1 << (23 - p))
                rest = significand & (2 * half - 1)
                if significand + half < 0x1000000:
                    rest = np.int32(((significand + half) & (2 * half - 1)) - half)
                saturated[p] += np.float64(rest) * np.float64(rest)


@dataclass(frozen=True)
class NoiseTable:
    """One tensor's energy by binade below its top, relative to 2^(2 top).

    Attributes:
        top: floor(log2) of the largest magnitude.
        noise: (binades, precisions), squared rounding error of the elements of a binade at each precision.
        saturated: (precisions,), the same for the top binade where what would round up to the next saturates instead.
        energy: (binades + 1,), squared magnitudes; the last for all binades below.
    """

    top: int
    noise: NDArray[np.float64]
    saturated: NDArray[np.float64]
    energy: NDArray[np.float64]

    def nsr(self, format: ProfileFormat) -> float:
        """|Q(t) - t|^2 / |t|^2 of a tensor-scaled format; 0 for an empty or zero tensor."""
        return float(NoiseTables.of([self]).nsr(format)[0])


def noise_table(x: Tensor | NDArray[Any]) -> NoiseTable:
    """The table of one tensor or array, read as float32, under the current tensor scale without headroom."""
    tensor = torch.from_numpy(x) if isinstance(x, np.ndarray) else x.detach()
    flat: NDArray[Any] = tensor.float().cpu().contiguous().reshape(-1).numpy()
    bits = flat.view(np.int32)
    finite = max((_largest_finite(bits[i : i + PIECE]) for i in range(0, bits.size, PIECE)), default=0.0)
    top = int(np.frexp(np.float64(finite))[1]) - 1 if finite else 0
    parts = np.array_split(bits, max(1, min(torch.get_num_threads(), flat.size // ELEMENTS_PER_THREAD)))

    def fill(part: NDArray[np.int32]) -> tuple[NDArray[np.float64], ...]:
        tables = np.zeros((BINADES, PRECISIONS)), np.zeros(PRECISIONS), np.zeros(BINADES + 1)
        if finite:
            _fill(part, top, *tables)
        return tables

    if len(parts) == 1:
        filled = [fill(parts[0])]
    else:
        with ThreadPoolExecutor(len(parts)) as pool:
            filled = list(pool.map(fill, parts))
    noise, saturated, energy = (np.sum([tables[i] for tables in filled], axis=0) for i in range(3))
    # From units of the last bit to 2^top, so that squares of tiny gradients do not underflow.
    scale = np.ldexp(1.0, -2 * (np.arange(BINADES + 1) + 23))
    return NoiseTable(top, noise * scale[:-1, None], saturated * scale[0], energy * scale)


def _largest_finite(bits: NDArray[np.int32]) -> float:
    """The largest finite magnitude among float32 numbers by their bits; 0 where there is none."""
    magnitudes = bits & np.int32(0x7FFFFFFF)
    found = np.where(magnitudes < INFINITE, magnitudes, 0).max(initial=0)
    return float(found.astype(np.int32).view(np.float32))


@dataclass(frozen=True)
class NoiseTables:
    """The tables of several tensors, as in `NoiseTable`, but relative to each tensor's energy; all zero for a zero
    tensor.

    Attributes:
        top: (n,).
        noise: (n, binades, precisions).
        saturated: (n, precisions).
        energy: (n, binades + 1).
    """

    top: NDArray[np.int64]
    noise: NDArray[np.float64]
    saturated: NDArray[np.float64]
    energy: NDArray[np.float64]

    @classmethod
    def of(cls, tables: Sequence[NoiseTable]) -> NoiseTables:
        """Stack tables of single tensors."""
        total = np.array([table.energy.sum() or 1.0 for table in tables])
        return cls(
            np.array([table.top for table in tables], np.int64),
            np.array([table.noise for table in tables]).reshape(-1, BINADES, PRECISIONS) / total[:, None, None],
            np.array([table.saturated for table in tables]).reshape(-1, PRECISIONS) / total[:, None],
            np.array([table.energy for table in tables]).reshape(-1, BINADES + 1) / total[:, None],
        )

    def nsr(self, format: ProfileFormat) -> NDArray[np.float64]:
        """|Q(t) - t|^2 / |t|^2 of a tensor-scaled format on each tensor: (n,)."""
        low, high = format.top_range
        shifts = np.clip(self.top + format.scale.room, low, high) - self.top
        found = np.empty(len(shifts))
        for shift in np.unique(shifts):
            rows = shifts == shift
            found[rows] = self._nsr(rows, format, int(shift))
        return found

    def _nsr(self, rows: NDArray[np.bool_], format: ProfileFormat, shift: int) -> NDArray[np.float64]:
        """The same for those tensors whose scale is `shift` binades above their top."""
        # Binade d of the format is binade d - shift of the tensor.
        kept = np.array(format.profile[shift : shift + BINADES], np.int64)
        found = self.noise[rows][:, np.arange(len(kept)), kept].sum(1)
        if not shift:
            found += self.saturated[rows, kept[0]] - self.noise[rows, 0, kept[0]]
        below = format.binades - shift
        if 0 <= below < BINADES:
            found += self.noise[rows, below, 0]
        return np.asarray(found + self.energy[rows, max(below + 1, 0) :].sum(1))


def direct_nsr(format: Format, x: Tensor) -> float:
    """|Q(x) - x|^2 / |x|^2 over the finite elements, by rounding x; 0 for a zero tensor."""
    return nsr_of(format.round, x)


def nsr_of(round: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """The same of whatever rounds."""
    _, noise, energy = layer_sums([round(x.detach())], [x])[0]
    if not np.isfinite(energy):  # attention masks
        return nsr_of(round, torch.where(x.isfinite(), x, 0.0))
    return float(noise / energy) if energy else 0.0


def has_table(format: Format) -> bool:
    """Whether noise tables give a format's NSR: profiles with one scale for a tensor, found by the floor rule."""
    return (
        isinstance(format, ProfileFormat)
        and format.granularity is Granularity.TENSOR
        and format.scale.policy is ScalePolicy.FLOOR
        and format.scale.exponent_field is None
        and format.largest is None
        and max(format.profile) < PRECISIONS
    )


@dataclass(frozen=True)
class Noise:
    """What a full-precision pass says about formats: tables of every tensor, and the NSR of those formats that have no
    tables.

    Rows are tensors in the order in which they were seen; those rounded in two terms (their noise is the square of a
    small number) and those at points that are kept exact are left out.

    Attributes:
        points: where the tensor of each row is.
        kinds: whether it is an activation or an error.
        tables: of all rows.
        direct: the NSR of formats without tables, by digest, (rows,).
        scheme: by which all of them were rounded.
    """

    points: tuple[Point, ...]
    kinds: tuple[Kind, ...]
    tables: NoiseTables
    direct: dict[str, NDArray[np.float64]]
    scheme: Scheme = PAPER

    def rows(self, kind: Kind) -> NDArray[np.int64]:
        """The rows of activations or of errors."""
        return np.flatnonzero([entry is kind for entry in self.kinds])

    def nsr(self, format: Format) -> NDArray[np.float64]:
        """|Q(t) - t|^2 / |t|^2 on every tensor: (rows,). KeyError for a format that needs rounding and was not asked
        for."""
        if has_table(format):
            assert isinstance(format, ProfileFormat)
            at_rest = self.scheme.at_rest(format)
            assert isinstance(at_rest, ProfileFormat)  # as the format is
            return self.tables.nsr(at_rest)
        return self.direct[format.digest]

    def ratios(self, candidates: Sequence[Candidate]) -> NDArray[np.float64]:
        """The NSR of each candidate's own format on every tensor, activations and errors: (candidates, rows)."""
        errors = self.rows(Kind.E)
        found = np.empty((len(candidates), len(self.kinds)))
        for row, entry in zip(found, candidates, strict=True):
            for_activation, for_error = formats_of(entry)
            row[:] = self.nsr(for_activation)
            if for_error is not for_activation:
                row[errors] = self.nsr(for_error)[errors]
        return found

    def to_bytes(self) -> bytes:
        """Everything, for a store; `from_bytes` reads it again."""
        facts = {
            "points": [asdict(point) for point in self.points],
            "kinds": self.kinds,
            "direct": list(self.direct),
            "scheme": asdict(self.scheme),
        }
        arrays = {name: getattr(self.tables, name) for name in TABLES}
        file = BytesIO()
        ratios = np.array(list(self.direct.values())).reshape(len(self.direct), len(self.points))
        np.savez_compressed(file, facts=np.array(json.dumps(facts)), ratios=ratios, **arrays)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Noise:
        """What `to_bytes` gave."""
        with np.load(BytesIO(content)) as arrays:
            facts = json.loads(str(arrays["facts"]))
            points = tuple(Point(**{**fields, "shape": tuple(fields["shape"])}) for fields in facts["points"])
            tables = NoiseTables(*(arrays[name] for name in TABLES))
            return cls(
                points,
                tuple(Kind(kind) for kind in facts["kinds"]),
                tables,
                dict(zip(facts["direct"], arrays["ratios"], strict=True)),
                Scheme(**facts["scheme"]),
            )


def needs_rounding(candidates: Iterable[Candidate]) -> dict[str, Format]:
    """The formats among candidates that have no tables, by digest."""
    return {f.digest: f for entry in candidates for f in formats_of(entry) if not has_table(f)}


def observe(gradients: Gradients, candidates: Iterable[Candidate] = ()) -> Noise:
    """Record the noise of every tensor of one full-precision pass; candidates without tables are rounded there and
    then."""
    scheme = gradients.scheme
    direct = needs_rounding(candidates)
    points: list[Point] = []
    kinds: list[Kind] = []
    tables: list[NoiseTable] = []
    ratios: list[list[float]] = []
    at_rest = [scheme.at_rest(format) for format in direct.values()]

    def add(x: Tensor, point: Point, kind: Kind) -> None:
        points.append(point)
        kinds.append(kind)
        tables.append(noise_table(x))
        ratios.append([direct_nsr(format, x) for format in at_rest])

    def activation(x: Tensor, point: Point) -> None:
        if not point.exact and not (scheme.two_terms and point.two_terms):
            add(x, point, Kind.A)

    def error(e: Tensor, point: Point) -> None:
        if not point.exact and not (scheme.two_terms and point.last):
            add(e, point, Kind.E)

    gradients.observe(activation, error)
    by_format = np.array(ratios).reshape(len(points), len(direct)).T
    direct_ratios = dict(zip(direct, by_format, strict=True))
    return Noise(tuple(points), tuple(kinds), NoiseTables.of(tables), direct_ratios, scheme)
