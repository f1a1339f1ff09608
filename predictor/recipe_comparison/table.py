"""The table of a comparison of recipes: angles, lengths and bias of each row, over mini-batches and draws."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from formats.recipes.presets import BASELINE
from predictor.columns import (
    ALL,
    ANGLE,
    ANGLE_OF_MEAN,
    BIAS,
    BIAS_HIGH,
    BIAS_LOW,
    BY_ANGLE,
    BY_PROJECTION,
    DRAWS,
    FAILURES,
    GATES,
    HIGH,
    HIGH_OF_MEAN,
    HIGH_OF_PROJECTION,
    KEPT,
    LAYER,
    LENGTH_RATIO,
    LOSS_RISE,
    LOW,
    LOW_OF_MEAN,
    LOW_OF_PROJECTION,
    PART,
    PRODUCT,
    PROJECTION,
    RANK,
    RECIPE,
    SHARE,
    TO_TELL,
    N,
)
from predictor.gradient.angle import degrees
from predictor.measuring.units import Measurement
from predictor.recipe_comparison.parts import Order, Part
from predictor.recipes.placed import Placed
from predictor.requirements.multiply_accumulates import ProductCost, gates, kept_share, share_of
from predictor.statistics import angle_interval, bias, interval, tied_ranks, values_to_tell

COLUMNS = (
    *(RANK, BY_PROJECTION, BY_ANGLE, RECIPE, PRODUCT, LAYER, PART),
    *(ANGLE, LOW, HIGH, ANGLE_OF_MEAN, LOW_OF_MEAN, HIGH_OF_MEAN),
    *(PROJECTION, LOW_OF_PROJECTION, HIGH_OF_PROJECTION, LENGTH_RATIO, BIAS, BIAS_LOW, BIAS_HIGH, LOSS_RISE),
    *(SHARE, KEPT, GATES, DRAWS, N, TO_TELL, FAILURES),
)
LATER = (LOW_OF_PROJECTION, HIGH_OF_PROJECTION, TO_TELL)
"""Columns that older files have not."""


@dataclass(frozen=True)
class Row:
    """A row of the table: a recipe, and where it holds."""

    placed: Placed
    product: str = ALL
    layer: str = ALL
    part: Part = Part.EVERYWHERE

    @property
    def may_keep(self) -> bool:
        """Whether it is a recipe everywhere, and not the baseline, beside which products may be kept."""
        return self.product == ALL and self.part is Part.EVERYWHERE and self.placed.name != BASELINE

    def draws(self, draws: int) -> int:
        """How many draws of a mini-batch are measured."""
        return draws if self.placed.recipe.random else 1


def of_mean(draws: Sequence[Measurement]) -> float:
    """The angle of the mean over many draws of one mini-batch, in degrees: <E d, g> and |E d|^2 are estimated without
    bias, the latter from pairs of draws."""
    sums = np.array([each.sums.sum(0) for each in draws])
    if len(draws) < 2 or not np.isfinite(sums).all():
        return float(np.mean([each.angle() for each in draws]))
    pairs = [float(np.dot(one.sketch[0], other.sketch[0])) for one, other in combinations(draws, 2)]
    return degrees(np.array([sums[:, 0].mean(), max(np.mean(pairs), 0.0), sums[:, 2].mean()]))


def tabulated(
    rows: Sequence[Row],
    found: dict[int, list[tuple[int, Measurement]]],
    costs: list[ProductCost],
    exact: tuple[str, ...],
    order: Order = Order.PROJECTION,
) -> pd.DataFrame:
    """The columns of `COLUMNS`, the recipes in this order."""
    cells: dict[int, dict[str, Any]] = {}
    numbers: dict[Order, dict[int, dict[int, float]]] = {each: {} for each in Order}
    for index, row in enumerate(rows):
        if index not in found:
            continue
        by_batch: dict[int, list[Measurement]] = defaultdict(list)
        # In one order, since the last bit of a mean depends on it.
        for _, measurement in sorted(found[index], key=lambda entry: (entry[1].minibatch, entry[0])):
            by_batch[measurement.minibatch].append(measurement)
        numbers[Order.ANGLE][index] = {number: of_mean(drawn) for number, drawn in by_batch.items()}
        numbers[Order.PROJECTION][index] = _distances(by_batch)
        cells[index] = _cells(row, by_batch, numbers[Order.ANGLE][index]) | {
            SHARE: share_of(row.placed, costs, exact),
            KEPT: kept_share(row.placed, costs),
            GATES: gates(row.placed, costs, exact),
        }
    whole = [index for index in cells if rows[index].product == ALL and rows[index].part is Part.EVERYWHERE]
    for each, values in numbers.items():
        for index, rank in _ranked({index: values[index] for index in whole}).items():
            cells[index][each.column] = rank
    baseline = next((index for index in whole if rows[index].placed.name == BASELINE), None)
    for index in whole:
        beside = {} if baseline is None else numbers[order][baseline]
        cells[index][TO_TELL] = values_to_tell(beside, numbers[order][index])
    lines = []
    for index in _ranked({index: numbers[order][index] for index in whole}):
        cells[index][RANK] = cells[index][order.column]
        own = [other for other in cells if rows[other].placed.recipe is rows[index].placed.recipe and other != index]
        lines += [index, *sorted(own, key=lambda other: rows[other].part is not Part.KEPT)]
    table = pd.DataFrame([cells[index] for index in lines], columns=list(COLUMNS))
    return table.astype(dict.fromkeys((RANK, BY_PROJECTION, BY_ANGLE, TO_TELL), "Int64"))


def _ranked(values: dict[int, dict[int, float]]) -> dict[int, int]:
    """Ranks by row, the smallest mean over mini-batches first. values: by row and mini-batch."""
    ordered = sorted(values, key=lambda index: float(np.mean(list(values[index].values()))))
    return dict(zip(ordered, tied_ranks([values[index] for index in ordered]), strict=True))


def _distances(by_batch: dict[int, list[Measurement]]) -> dict[int, float]:
    """By mini-batch, numbers whose mean is the distance of the mean projection from 1: all have the sign of that."""
    short = {number: 1 - float(np.mean([each.projection() for each in drawn])) for number, drawn in by_batch.items()}
    sign = -1.0 if np.mean(list(short.values())) < 0 else 1.0
    return {number: sign * value for number, value in short.items()}


def _cells(row: Row, by_batch: dict[int, list[Measurement]], of_mean: dict[int, float]) -> dict[str, Any]:
    """Means over mini-batches of the means over draws."""

    def mean(value: Any) -> NDArray[np.float64]:
        return np.array([np.mean([value(each) for each in drawn]) for drawn in by_batch.values()])

    everything = [each for drawn in by_batch.values() for each in drawn]
    sketches = [np.mean([each.sketch for each in drawn], 0) for drawn in by_batch.values()]
    of_bias = bias(sketches, [drawn[0].square for drawn in by_batch.values()])
    angles = dict(zip((ANGLE, LOW, HIGH), angle_interval(mean(lambda each: each.angle())), strict=True))
    projections = interval(mean(lambda each: each.projection()))
    means = angle_interval(np.array(list(of_mean.values())))
    return {
        RECIPE: row.placed.name,
        PRODUCT: row.product,
        LAYER: row.layer,
        PART: row.part.value,
        **angles,
        **dict(zip((ANGLE_OF_MEAN, LOW_OF_MEAN, HIGH_OF_MEAN), means, strict=True)),
        **dict(zip((PROJECTION, LOW_OF_PROJECTION, HIGH_OF_PROJECTION), projections, strict=True)),
        LENGTH_RATIO: float(mean(lambda each: each.length_ratio()).mean()),
        **dict(zip((BIAS, BIAS_LOW, BIAS_HIGH), (of_bias.value, of_bias.low, of_bias.high), strict=True)),
        LOSS_RISE: float(mean(lambda each: each.loss).mean()),
        DRAWS: max(map(len, by_batch.values())),
        N: len(by_batch),
        FAILURES: sum(each.failed() for each in everything),
    }
