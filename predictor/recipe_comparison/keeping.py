"""Which products of a network are kept in bfloat16 beside a recipe, by what each does alone for its cost
(docs/definitions/recipes.md section 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import pandas as pd

from formats.recipes.presets import BASELINE
from formats.recipes.reading import recipe
from numeric_formats.checks import number
from predictor.columns import ALL, ANGLE_OF_MEAN, LAYER, PART, PRODUCT, RECIPE
from predictor.recipe_comparison.parts import Part
from predictor.recipe_comparison.table import Row
from predictor.recipes.placed import Placed
from predictor.requirements.multiply_accumulates import ProductCost

Keep = float | Sequence[float] | Sequence[str]
"""A share of the multiply-accumulates, several, or names of layers."""


@dataclass(frozen=True)
class Keeping:
    """What is kept.

    Attributes:
        shares: of the multiply-accumulates, each of which is filled by what turns the gradient most.
        layers: or names of layers.
    """

    shares: tuple[float, ...] = ()
    layers: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """How many a recipe has."""
        return len(self.shares) or min(len(self.layers), 1)

    def check(self, changed: Sequence[str]) -> None:
        """ValueError where a share is none, or a layer has no product that recipes change. changed: names of those."""
        for share in self.shares:
            number("the share to keep", share, 0, 1)
        products_of(self.layers, changed)


def keeping_of(keep: Keep | None) -> Keeping:
    """What a user asked for; TypeError for something else."""
    given = () if keep is None else (keep,) if isinstance(keep, int | float) else tuple(keep)
    layers = tuple(each for each in given if isinstance(each, str))
    shares = tuple(float(each) for each in given if isinstance(each, int | float))
    if isinstance(keep, str) or (layers and shares) or len(layers) + len(shares) < len(given):
        raise TypeError(f"keep {keep!r}: a share from 0 to 1, several, or a list of names of layers is needed")
    return Keeping(shares, layers)


def products_of(layers: Sequence[str], changed: Sequence[str]) -> list[str]:
    """Which products that recipes change are named, or lie in a layer that is, or match a pattern (* ? [...]); in the
    network's order.

    Raises:
        ValueError: there is none of a name.
    """
    found = set()
    for name in layers:
        own = {each for each in changed if each == name or _lies_in(each.rpartition(":")[0], name)}
        if not own:
            shown = ", ".join(changed[:8]) + (", ..." if len(changed) > 8 else "")
            raise ValueError(
                f"no product of layer {name!r} is changed by a recipe, to keep it; there are {shown}; what a layer's "
                "name begins with, up to a dot, and patterns name several"
            )
        found |= own
    return [each for each in changed if each in found]


def _lies_in(layer: str, name: str) -> bool:
    """Whether a layer is the one of a name, or below it, or matches it as a pattern."""
    return f"{layer}.".startswith(f"{name}.") or fnmatchcase(layer, name)


def rows_to_choose_by(rows: Sequence[Row], keeping: Keeping, changed: Sequence[str]) -> list[Row]:
    """What is measured to choose a share: each recipe in each product alone, where that is not among the rows."""
    if not keeping.shares or any(row.part is Part.ALONE and row.product == ALL for row in rows):
        return []
    return [
        Row(replace(row.placed, only=frozenset({name})), layer=name, part=Part.ALONE)
        for row in rows
        if row.may_keep
        for name in changed
    ]


def rows_of_kept(
    rows: Sequence[Row], keeping: Keeping, changed: Sequence[str], costs: Sequence[ProductCost], table: pd.DataFrame
) -> list[Row]:
    """Each recipe with products kept in the baseline's formats; none for the baseline itself. table: of what was
    measured to choose by."""
    made = []
    for row in rows:
        sets = [_chosen(share, changed, costs, table, row.placed) for share in keeping.shares] if row.may_keep else []
        if keeping.layers and row.may_keep:
            sets.append(products_of(keeping.layers, changed))
        for names in sets:
            placed = replace(row.placed, kept=frozenset(names), instead=recipe(BASELINE))
            made.append(Row(placed, layer=" ".join(_written(names, changed)), part=Part.KEPT))
    return made


def _written(kept: Sequence[str], changed: Sequence[str]) -> list[str]:
    """Names to paste: of a layer all of whose products are kept its own, as modules are called, else those of
    its products."""
    layers = {name: name.rpartition(":")[0] for name in changed}
    parts = {layer for name, layer in layers.items() if name not in kept}
    return list(dict.fromkeys(name if layers[name] in parts else layers[name] for name in kept))


def _chosen(
    share: float, changed: Sequence[str], costs: Sequence[ProductCost], table: pd.DataFrame, placed: Placed
) -> list[str]:
    """The products that turn the gradient most for their cost, those first as long as they fit; in the network's order.

    How much is 1 - cos of the angle of the mean, which adds up where errors are small and of no one direction.
    """
    cost_of = {cost.name: cost.multiply_accumulates * len(cost.products) for cost in costs}
    left = share * sum(cost_of.values()) * (1 + 1e-12)
    own = table[(table[RECIPE] == placed.name) & (table[PRODUCT] == ALL) & (table[PART] == Part.ALONE)]
    turned = {
        name: 1 - math.cos(math.radians(angle)) for name, angle in zip(own[LAYER], own[ANGLE_OF_MEAN], strict=True)
    }
    kept = set()
    for name in sorted(turned, key=lambda each: -turned[each] / cost_of[each]):
        if turned[name] > 0 and cost_of[name] <= left:
            kept.add(name)
            left -= cost_of[name]
    return [name for name in changed if name in kept]
