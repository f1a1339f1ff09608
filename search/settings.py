"""What results of a search say of how they were made; every field is a key of the sidecar of a result file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypedDict

from predictor.device import device_of
from predictor.effects import Effect, Points
from predictor.measuring.units import Subject, used_batch_size
from predictor.scheme import Scheme
from search.knapsack import Constraints
from workloads.digests import digest, weights_digest


@dataclass(frozen=True, kw_only=True)
class ResultSettings:
    """What every result of one network says.

    Attributes:
        workload: Its name.
        weights: SHA-256 of parameters and buffers.
        device: Where the network ran.
        data: SHA-256 of the mini-batches.
        scheme: By which activations and errors were rounded.
        points: Where formats were rounded: in data flow, or at operands of products.
    """

    workload: str
    weights: str
    device: str
    data: str
    scheme: Scheme
    points: Points = Points.DATAFLOW

    def as_dict(self) -> dict[str, Any]:
        """All fields by name, for a sidecar, the scheme with its parts."""
        return asdict(self) | self.scheme.settings


class Origin(TypedDict):
    """The settings that come from what was measured and how."""

    workload: str
    weights: str
    device: str
    data: str
    batch_size: int | None
    exact: tuple[str, ...]
    scheme: Scheme
    points: Points


def origin_of(subject: Subject, batches: Sequence[object], batch_size: int | None) -> Origin:
    """The origin of a result. batches: all that were used. batch_size: what the user gave, None for the workload's."""
    workload = subject.workload
    return {
        "workload": workload.name,
        "weights": weights_digest(workload.model),
        "device": str(device_of(workload)),
        "data": digest(list(batches)),
        "batch_size": used_batch_size(workload, batch_size),
        "exact": tuple(subject.exact),
        "scheme": subject.scheme,
        "points": subject.points,
    }


@dataclass(frozen=True)
class SurrogateCheck:
    """How well a surrogate foretells formats that were held out of it.

    Attributes:
        held_out: Share of them within its intervals.
        widened: By what factor the intervals had to be.
    """

    held_out: float
    widened: float


@dataclass(frozen=True, kw_only=True)
class RankingSettings(ResultSettings):
    """All that reproduces a ranking by `rank`, and what it took.

    Attributes:
        effects: What was measured.
        by: The effect that orders the table.
        parts: Into how many micro-batches a mini-batch was split.
        minibatches: Over how many angles are averaged.
        batch_size: Examples in one; None where the workload has mini-batches of its own.
        exhaustive: As it was given, like exact.
        time_budget: Seconds that it had, as time_budget or as seconds.
        candidates: How many formats are in the table.
        measured: How many of them have an exact angle of `by`.
        gradients: How many quantized ones were measured.
        exhaustive_gradients: How many would measure all.
        regret_at_most: By how many degrees at most another format is better than the first (search.table.regret).
        left_the_race: By name, after how many mini-batches a format left.
        surrogate: By effect; empty where all was measured.
        failures: How many gradients were zero or not finite.
        complete: Whether nothing ended it early.
        stage: The last stage that was finished: screen (all angles are estimates from noise alone), anchors, race or
            measure.
        seconds: What it took.
        formats: Digests by name.
        coverage: How much of the network is rounded and measured, in a line; None where all came from a store without
        it.
        gap: On which trainings the gaps stand; None where there are none, since the angles are of another effect or
        scheme than theirs, or nothing was measured.
        policy: What was measured, in words; empty where every candidate was.
        beyond: How many gradients were measured after those of the policy, in the time that it left.
        left: Seconds that were left of those that it had, below 0 where it took longer; None where nobody said.
        unspent: Why they were left, in words; empty where there is no reason but that measurements take their time.
        needed: How many mini-batches it would take, at the spread that was seen, to tell the first from the second;
        None where they are told apart, or nothing can be said.
        available: How many mini-batches the workload has; None where nobody asked, since nothing is open.
        notes: What else has to be said of formats (`predictor.out_of_range`).
        yardsticks: Rows of the table for formats that it is held against (`search.yardsticks`); empty where they are in
        it, or nobody asked.
        weights_alone: By name, the angle that rounding the weights alone makes on the first mini-batch, of the leaders;
        empty where weights are rounded anyhow, or nobody asked.
        products: Of a sum, in costs; None where there are none.
    """

    effects: tuple[Effect, ...]
    by: Effect
    minibatches: int
    batch_size: int | None
    exhaustive: bool
    time_budget: float | None
    exact: tuple[str, ...]
    candidates: int
    measured: int
    gradients: int
    exhaustive_gradients: int
    regret_at_most: float
    left_the_race: Mapping[str, int]
    surrogate: Mapping[Effect, SurrogateCheck]
    failures: int
    complete: bool
    seconds: float
    formats: Mapping[str, str]
    coverage: str | None
    gap: str | None
    stage: str = ""
    policy: str = ""
    beyond: int = 0
    left: float | None = None
    unspent: str = ""
    parts: int = 1
    needed: int | None = None
    available: int | None = None
    notes: tuple[str, ...] = ()
    yardsticks: tuple[Mapping[str, Any], ...] = ()
    weights_alone: Mapping[str, float] = field(default_factory=dict)
    products: int | None = None

    @property
    def budget_spent(self) -> bool:
        """Whether it took all the time that it was given."""
        return self.time_budget is not None and self.seconds >= self.time_budget


@dataclass(frozen=True, kw_only=True)
class SearchSettings(ResultSettings):
    """All that reproduces a ranking by `search`, and what it took.

    Attributes:
        bits: As it was given, like constraints, best and passes.
        held_out: Whether formats were made for other mini-batches than those that they were measured on.
        reference: The name of the format that differences are from.
        effects: As in `RankingSettings`, like all others.
    """

    bits: int
    effects: tuple[Effect, ...]
    by: Effect
    constraints: Constraints
    best: int
    passes: int
    held_out: bool
    reference: str
    minibatches: int
    batch_size: int | None
    exact: tuple[str, ...]
    candidates: int
    gradients: int
    failures: int
    complete: bool
    seconds: float
    formats: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class LayersSettings(ResultSettings):
    """All that reproduces a format for each layer: what was given, as in `SearchSettings`."""

    effect: Effect
    average_bits: float
    widths: tuple[int, ...]
    constraints: Constraints
    passes: int
    batch_size: int | None
    exact: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class AcrossSettings:
    """All that reproduces one ranking over several networks.

    Attributes:
        by: What orders equal mean ranks.
        effect: Whose angles they are.
        complete: Whether nothing ended it early.
        formats: Digests by name.
        models: The settings of each network's ranking.
    """

    by: str
    effect: Effect
    complete: bool
    formats: Mapping[str, str]
    models: Mapping[str, RankingSettings]

    def as_dict(self) -> dict[str, Any]:
        """All fields by name, for a sidecar; the formats of all networks are written once."""
        models = {name: own.as_dict() for name, own in self.models.items()}
        for own in models.values():
            del own["formats"]
        return asdict(self) | {"models": models}
