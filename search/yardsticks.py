"""What a ranking is held against: formats of which one knows how they train, and the weights that it leaves out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pandas as pd

from formats.hardware.totals import PRODUCTS
from formats.pairs import Candidate, candidate
from predictor.columns import NAME, RANK
from predictor.effects import Effect
from predictor.measuring.session import Measuring
from predictor.risk import USUAL_PRECISION, Risk, bundled_trainings, mean_gaps
from search.table import MeasuredAngles, tabulate, with_gaps, with_gates
from workloads.workload import Batch

FEW, ON_MANY = 4, 2
"""Yardsticks are measured on all of up to so many mini-batches, as the formats beside them are; of more, on so many, as
a ranking measures few formats on all of them."""
LEADERS = 3
"""How many formats' weights are looked at."""


def yardsticks_of(chosen: Sequence[Candidate]) -> list[Candidate]:
    """bfloat16, and of the formats that were trained on every network the one that trained best; without those that are
    ranked anyhow."""
    ranked = {entry.digest for entry in chosen}
    return [
        entry
        for entry in map(candidate, (USUAL_PRECISION, mean_gaps(bundled_trainings()).index[0]))
        if entry.digest not in ranked
    ]


def minibatches_of_yardsticks(minibatches: int) -> int:
    """On how many of a ranking's mini-batches the yardsticks are measured."""
    return minibatches if minibatches <= FEW else ON_MANY


def measured_yardsticks(
    measuring: Measuring,
    chosen: Sequence[Candidate],
    batches: Sequence[Batch],
    effects: tuple[Effect, ...],
    by: Effect,
    risk: Risk | None,
    with_cost: bool = False,
    products: int = PRODUCTS,
    measured: Callable[[], None] = lambda: None,
) -> tuple[dict[str, Any], ...]:
    """Rows of a ranking's table, without rank, for the yardsticks, measured on the first mini-batches alone. measured:
    is called after each measurement."""
    beside = yardsticks_of(chosen)
    if not beside:
        return ()
    angles, count = MeasuredAngles(), minibatches_of_yardsticks(len(batches))
    for found in measuring.measured(beside, batches[:count], effects):
        angles.add(found)
        measured()
    table = tabulate(beside, effects, by, angles, {}, count)
    if risk is not None:
        table = with_gaps(table, risk)
    if with_cost:
        table = with_gates(table, beside, products)
    rows = table.drop(columns=RANK).astype(object)
    records = rows.where(pd.notna(rows), None).to_dict("records")
    return tuple({str(key): value for key, value in row.items()} for row in records)


def weights_alone(
    measuring: Measuring,
    chosen: Sequence[Candidate],
    table: pd.DataFrame,
    batches: Sequence[Batch],
) -> Iterator[tuple[str, float]]:
    """By name, the angle in degrees that rounding nothing but the weights turns the gradient by, of the first formats
    of a table, on the first mini-batch, as each is measured."""
    by_name = {entry.name: entry for entry in chosen}
    leaders = [by_name[name] for name in table[NAME].head(LEADERS)]
    for found in measuring.measured(leaders, batches[:1], (Effect.W,)):
        yield leaders[found.format].name, found.angle()
