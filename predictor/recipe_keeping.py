"""Which products of a network are kept in bfloat16 beside a recipe, by what each saves for its cost
(docs/definitions/recipes.md section 3)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pandas as pd

from formats.recipes.presets import BASELINE
from formats.recipes.reading import recipe
from numeric_formats.checks import number
from predictor.columns import ANGLE_OF_MEAN, LAYER, PART, PRODUCT, RECIPE
from predictor.measuring.units import ALL
from predictor.multiply_accumulates import ProductCost
from predictor.recipe_table import Part, Row
from predictor.recipes.placed import Placed

Keep = float | Sequence[str]
"""A share of the multiply-accumulates, or names of layers."""


def check_keep(keep: Keep | None, changed: Sequence[str]) -> None:
    """ValueError where a share is none, or a layer has no product that recipes change. changed: names of those."""
    if keep is None:
        return
    if isinstance(keep, int | float):
        number("the share to keep", keep, 0, 1)
        return
    for layer in keep:
        if not _of_layers([layer], changed):
            shown = ", ".join(changed[:8]) + (", ..." if len(changed) > 8 else "")
            raise ValueError(f"no product of layer {layer!r} is changed by a recipe, to keep it; there are {shown}")


def _of_layers(layers: Iterable[str], products: Iterable[str]) -> list[str]:
    """The products that are named, or lie in a layer that is."""
    wanted = tuple(layers)

    def is_named(product: str) -> bool:
        layer = product.rpartition(":")[0]
        return any(name in (product, layer) or layer.startswith(f"{name}.") for name in wanted)

    return [product for product in products if is_named(product)]


def rows_to_choose_by(rows: Sequence[Row], keep: Keep | None, changed: Sequence[str]) -> list[Row]:
    """What is measured to choose a share: each recipe without each product, where that is not among the rows."""
    if not isinstance(keep, int | float) or any(row.part is Part.WITHOUT for row in rows):
        return []
    return [
        Row(replace(row.placed, without=frozenset({name})), layer=name, part=Part.WITHOUT)
        for row in _whole(rows)
        for name in changed
    ]


def rows_of_kept(
    rows: Sequence[Row], keep: Keep | None, changed: Sequence[str], costs: Sequence[ProductCost], table: pd.DataFrame
) -> list[Row]:
    """Each recipe with products kept in the baseline's formats; none for the baseline itself. table: of what was
    measured to choose by."""
    if keep is None:
        return []
    made = []
    for row in _whole(rows):
        if isinstance(keep, int | float):
            names = _chosen(keep, changed, costs, table, row.placed)
        else:
            names = _of_layers(keep, changed)
        made.append(
            Row(
                replace(row.placed, kept=frozenset(names), instead=recipe(BASELINE)),
                layer=" ".join(names),
                part=Part.KEPT,
            )
        )
    return made


def _whole(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.part is Part.EVERYWHERE and row.product == ALL and row.placed.name != BASELINE]


def _chosen(
    share: float, changed: Sequence[str], costs: Sequence[ProductCost], table: pd.DataFrame, placed: Placed
) -> list[str]:
    """The products that save most for their cost, the best first as long as they fit; in the network's order.

    Saved is of 1 - cos of the angle of the mean, which adds up where errors are small and of no one direction.
    """
    cost_of = {cost.name: cost.multiply_accumulates * len(cost.products) for cost in costs}
    left = share * sum(cost_of.values()) * (1 + 1e-12)
    own = table[(table[RECIPE] == placed.name) & (table[PRODUCT] == ALL)]
    [everywhere] = _turned(own[own[PART] == Part.EVERYWHERE])
    without = own[own[PART] == Part.WITHOUT]
    saved = {name: everywhere - turned for name, turned in zip(without[LAYER], _turned(without), strict=True)}
    kept = set()
    for name in sorted(saved, key=lambda each: -saved[each] / cost_of[each]):
        if saved[name] > 0 and cost_of[name] <= left:
            kept.add(name)
            left -= cost_of[name]
    return [name for name in changed if name in kept]


def _turned(rows: pd.DataFrame) -> list[float]:
    return [1 - math.cos(math.radians(angle)) for angle in rows[ANGLE_OF_MEAN]]
