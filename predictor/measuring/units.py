"""What is measured: a workload with its settings, in units of one candidate on one mini-batch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.pairs import Candidate
from numeric_formats.checks import at_least
from predictor.columns import ALL, FIRST
from predictor.effects import Effect, Points
from predictor.gradient.angle import degrees, failed, length_ratio, projection
from predictor.gradient.comparison import Comparison
from predictor.gradient.gradients import Gradients
from predictor.gradient.micro_batches import GradientsOfParts, parts_of
from predictor.recipes.gradients import quantized
from predictor.recipes.placed import Placed
from predictor.scheme import PAPER, Scheme
from workloads.minibatches import examples_of
from workloads.workload import Batch, Workload

DEFAULT_MINIBATCHES = 8
Measured = Candidate | Placed
"""What is measured: formats at points, or recipes at the products of layers."""


@dataclass(frozen=True, eq=False)
class Subject:
    """What is measured.

    Attributes:
        workload: the network, its loss and its mini-batches.
        exact: layers kept in full precision.
        scheme: by which activations and errors are rounded.
        points: where formats are rounded.
        parts: into how many micro-batches a mini-batch is split (`predictor.gradient.micro_batches`).
    """

    workload: Workload
    exact: Sequence[str] = ()
    scheme: Scheme = PAPER
    points: Points = field(default=Points.DATAFLOW, kw_only=True)
    parts: int = field(default=1, kw_only=True)

    def gradients(
        self, batch: Batch, watched: bool = False, kept: bool = True, pointed: bool | None = None
    ) -> Gradients:
        """The gradients of one mini-batch, to be used as a context manager. watched, kept: as for `Gradients`, like
        pointed, by default as kept."""
        pointed = kept if pointed is None else pointed
        settings: dict[str, Any] = {"exact": self.exact, "scheme": self.scheme, "watched": watched, "pointed": pointed}
        if self.parts > 1 and examples_of(batch) != 1:
            return GradientsOfParts(self.workload, batch, self.parts, **settings)
        return Gradients(self.workload, batch, kept=kept, **settings)

    def of_first_part(self, batch: Batch, watched: bool = False, kept: bool = True, pointed: bool = True) -> Gradients:
        """The same of its first micro-batch, where one pass tells enough; of the whole where it is not split."""
        [(first, _), *_] = parts_of(self.workload, batch, self.parts) if self.parts > 1 else [(batch, 1.0)]
        return replace(self, parts=1).gradients(first, watched, kept, pointed)


@dataclass(frozen=True)
class Unit:
    """What is measured in one go: one candidate on one mini-batch, by their places, and the effects, in the order of
    `Effect`."""

    minibatch: int
    format: int
    effects: tuple[Effect, ...]

    @property
    def keeps(self) -> bool:
        """Whether it needs the graph of the full-precision loss, which E alone starts from."""
        return Effect.E in self.effects

    @property
    def points(self) -> bool:
        """Whether it needs points in the full-precision pass."""
        return any(effect is not Effect.OPERANDS for effect in self.effects)


@dataclass(frozen=True)
class Measurement:
    """One gradient compared with the full-precision one.

    Attributes:
        format: the place of the candidate.
        effect: what was quantized.
        minibatch: the place of the mini-batch.
        parameters: names of the parameters whose gradients were compared, in the order of their first use.
        sums: <d,g>, |d|^2, |g|^2 of each of them, (parameters, 3).
        sketch: of d and g (`predictor.gradient.sketches`), (2, BUCKETS).
        loss: with the forward pass rounded as the effect has it, less that of full precision.
        seconds: what it took.
    """

    format: int
    effect: Effect
    minibatch: int
    parameters: tuple[str, ...]
    sums: NDArray[np.float64]
    sketch: NDArray[np.float32]
    loss: float
    seconds: float

    def angle(self, scope: str = ALL) -> float:
        """Degrees in a scope."""
        return degrees(self._sums(scope))

    def projection(self, scope: str = ALL) -> float:
        """<g_q, g> / |g|^2 in a scope."""
        return projection(self._sums(scope))

    def length_ratio(self, scope: str = ALL) -> float:
        """|g_q| / |g| in a scope."""
        return length_ratio(self._sums(scope))

    @property
    def square(self) -> float:
        """|g|^2 over all parameters."""
        return float(self.sums[:, 2].sum())

    def failed(self, scope: str = ALL) -> bool:
        """Whether the quantized gradient is zero or not finite there."""
        return failed(self._sums(scope))

    def _sums(self, scope: str) -> NDArray[np.float64]:
        if scope == ALL:
            return np.asarray(self.sums.sum(0))
        return np.asarray(self.sums[0 if scope == FIRST else self.parameters.index(scope)])


def check_minibatches(
    workload: Workload, minibatches: int | None, batch_size: int | None, default: int | None = None
) -> Sequence[Batch]:
    """The first mini-batches of a workload; ValueError where there are not as many. None: at most `default`, or all."""
    if minibatches is not None:
        at_least(f"{minibatches} mini-batches", minibatches)
    batches = workload.minibatches(batch_size)
    if minibatches is not None and minibatches > len(batches):
        raise ValueError(f"{minibatches} mini-batches were asked for; workload {workload.name} has {len(batches)}")
    return batches[: default if minibatches is None else minibatches]


def used_batch_size(workload: Workload, batch_size: int | None) -> int | None:
    """The examples of a mini-batch where `batch_size` was asked for; None where the workload has mini-batches of its
    own."""
    return workload.batch_size if batch_size is None and callable(workload.batches) else batch_size


def measure_unit(gradients: Gradients, unit: Unit, format: Measured) -> list[Measurement]:
    """The measurements of one unit, one an effect, on the open gradients of its mini-batch; `format` is its
    candidate."""
    parameters, found, began = tuple(gradients.names), [], time.monotonic()
    comparison = Comparison([g.numel() for g in gradients.full])
    for q in quantized(gradients, format, unit.effects, comparison.see):
        sums, sketched = comparison.taken()
        now = time.monotonic()
        found.append(
            Measurement(unit.format, q.effect, unit.minibatch, parameters, sums, sketched, q.loss, now - began)
        )
        began = now
    return found
