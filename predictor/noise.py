"""Noise tables: what any tensor-scaled profile does to the tensors of one full-precision pass (predictor.md section 3).

|Q(t) - t|^2 is a sum over binades of a number that depends only on the precision kept there, plus what saturates above and
what is flushed below. One read of a tensor gives the table from which every profile's noise-to-signal ratio is a sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from formats import Format, Granularity, ProfileFormat
from predictor.dataflow import Point
from predictor.gradient import Candidate, Gradients, formats_of

BINADES = 48
"""Binades below a tensor's largest magnitude that are told apart; all energy further down is in the last row."""
PRECISIONS = 12
"""Precisions 0 (only the value above and zero) to 11 bits; a finer format makes no noise that matters here."""


@njit(nogil=True, cache=True)
def _fill(bits, top, noise, saturated, energy):  # type: ignore[no-untyped-def]
    """Add the elements with float32 bits `bits` to the tables of a tensor whose top exponent is `top`, unscaled by binade."""
    binades, precisions = noise.shape
    for i in range(bits.size):
        a = np.int64(bits[i] & 0x7FFFFFFF)
        field = a >> 23
        if a == 0 or field == 255:
            continue
        significand = a & 0x7FFFFF
        if field == 0:
            field = np.int64(1)
            while significand < 0x800000:  # subnormal numbers, brought to 24 bits
                significand <<= 1
                field -= 1
        else:
            significand |= 0x800000
        # In units of the last of the 24 bits; `field` puts all of a binade on one unit.
        binade = top - (field - 127)
        value = np.float64(significand)
        if binade >= binades:
            energy[binades] += value * value * 4.0 ** (binades - binade)
            continue
        energy[binade] += value * value
        # Precision 0: one binade below the smallest value all goes to that value, but for the tie, which goes to zero.
        error = value if significand == 0x800000 else np.float64(0x1000000 - significand)
        noise[binade, 0] += error * error
        for p in range(1, precisions):
            drop = 24 - p
            multiple, rest, half = significand >> drop, significand & ((1 << drop) - 1), np.int64(1) << (drop - 1)
            up = rest > half or (rest == half and multiple & 1)
            error = np.float64((1 << drop) - rest if up else rest)
            noise[binade, p] += error * error
            if binade == 0:
                if up and multiple + 1 == 1 << p:
                    error = np.float64(rest)
                saturated[p] += error * error


@dataclass(frozen=True)
class NoiseTable:
    """One tensor's energy by binade below its top, relative to 2^(2 top).

    top: floor(log2) of the largest magnitude. noise: (binades, precisions), squared rounding error of the elements of a binade at each precision. saturated: (precisions,), the
    same for the top binade where what would round up to the next saturates instead. energy: (binades + 1,), squared
    magnitudes; the last for all binades below.
    """

    top: int
    noise: NDArray[np.float64]
    saturated: NDArray[np.float64]
    energy: NDArray[np.float64]

    def nsr(self, format: ProfileFormat) -> float:
        """|Q(t) - t|^2 / |t|^2 of a tensor-scaled format; 0 for an empty or zero tensor."""
        total = self.energy.sum()
        if not total:
            return 0.0
        low, high = format.top_range
        shift = min(max(self.top + format.scale.headroom, low), high) - self.top
        # Binade d of the format is binade d - shift of the tensor.
        kept = format.profile[shift : shift + BINADES]
        rows = np.arange(len(kept))
        precisions = np.array(kept, np.int64)
        fine = precisions < PRECISIONS
        found = self.noise[rows[fine], precisions[fine]].sum()
        if kept and not shift and fine[0]:
            found += self.saturated[precisions[0]] - self.noise[0, precisions[0]]
        below = format.binades - shift
        if 0 <= below < BINADES:
            found += self.noise[below, 0]
        return float((found + self.energy[max(below + 1, 0) :].sum()) / total)


def noise_table(x: Tensor) -> NoiseTable:
    """The table of one float32 tensor under the current tensor scale without headroom."""
    flat: NDArray[Any] = x.detach().float().contiguous().reshape(-1).numpy()
    noise, saturated, energy = np.zeros((BINADES, PRECISIONS)), np.zeros(PRECISIONS), np.zeros(BINADES + 1)
    finite = np.abs(flat[np.isfinite(flat)]).max(initial=0.0)
    top = int(np.frexp(np.float64(finite))[1]) - 1 if finite else 0
    if finite:
        _fill(flat.view(np.int32), top, noise, saturated, energy)
    # From units of the last bit to 2^top, so that squares of tiny gradients do not underflow.
    scale = np.ldexp(1.0, -2 * (np.arange(BINADES + 1) + 23))
    noise *= scale[:-1, None]
    saturated *= scale[0]
    energy *= scale
    return NoiseTable(top, noise, saturated, energy)


def direct_nsr(format: Format, x: Tensor) -> float:
    """|Q(x) - x|^2 / |x|^2 by rounding x; 0 for a zero tensor."""
    wide = x.detach().double()
    energy = wide.square().sum().item()
    return (format.round(x.detach()).double() - wide).square().sum().item() / energy if energy else 0.0


def _has_table(format: Format) -> bool:
    return isinstance(format, ProfileFormat) and format.granularity is Granularity.TENSOR and max(format.profile) < PRECISIONS


def screen(gradients: Gradients, candidates: Sequence[Candidate]) -> NDArray[np.float64]:
    """Noise-to-signal ratios of every candidate, summed over the points of one full-precision pass.

    Returns (candidates, 2) float64: the sum over activations, and over errors. Tensors that are rounded in two terms are left
    out (their noise is the square of a small number), and so are points that are kept exact.
    """
    activations = [formats_of(entry)[0] for entry in candidates]
    errors = [formats_of(entry)[1] for entry in candidates]
    sums = np.zeros((len(candidates), 2))

    def add(column: int, formats: list[Format], x: Tensor) -> None:
        table = noise_table(x)
        for row, format in enumerate(formats):
            if _has_table(format):
                assert isinstance(format, ProfileFormat)
                sums[row, column] += table.nsr(format)
            else:
                sums[row, column] += direct_nsr(format, x)

    def activation(x: Tensor, point: Point) -> None:
        if not point.exact and not (gradients.two_terms and point.two_terms):
            add(0, activations, x)

    def error(e: Tensor, point: Point) -> None:
        if not point.exact and not (gradients.two_terms and point.last):
            add(1, errors, e)

    gradients.observe(activation, error)
    return sums
