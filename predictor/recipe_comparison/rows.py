"""What is asked of a comparison of recipes: which recipes, taken apart by what, as rows of its table."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from enum import StrEnum

from formats.recipes.presets import BASELINE, PRESETS
from formats.recipes.reading import recipe
from formats.recipes.value import Product, Recipe
from numeric_formats.checks import at_least, one_of
from numeric_formats.messages import counted
from predictor.recipe_comparison.parts import Part
from predictor.recipe_comparison.table import Row
from predictor.recipes.placed import Placed
from predictor.requirements.multiply_accumulates import ProductCost, share_of

DEFAULT_MINIBATCHES = 4
DEFAULT_DRAWS = 4


class By(StrEnum):
    """What a recipe is taken apart by."""

    PRODUCT = "product"
    LAYER = "layer"
    BOTH = "both"


def check_draws(draws: int, chosen: Iterable[Recipe]) -> None:
    at_least(f"{counted(draws, 'draw')}", draws)
    if any(each.random for each in chosen):
        at_least(f"{counted(draws, 'draw')} of recipes with random numbers", draws, 2)


def chosen_recipes(recipes: Sequence[str | Recipe] | None) -> list[Recipe]:
    """The recipes, the baseline first where it was not asked for."""
    named = [recipe(each) for each in (list(PRESETS) if recipes is None else recipes)]
    if not named:
        raise ValueError("no recipe was given")
    baseline = recipe(BASELINE)
    if baseline not in named:
        named.insert(0, baseline)
    names = [each.name for each in named]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two recipes are called {name!r}: give one of them another name")
    return named


def taken_apart(by: Iterable[str]) -> set[By]:
    return {one_of("by", By, each) for each in by}


def changed_products(costs: Sequence[ProductCost], head: bool, exact: Sequence[str]) -> list[ProductCost]:
    """The products of the network that recipes change, in order."""
    everywhere = Placed(recipe(BASELINE), head=head)
    return [cost for cost in costs if share_of(everywhere, [cost], tuple(exact)) > 0]


def rows_of(
    chosen: Sequence[Recipe], apart: set[By], changed: Sequence[ProductCost], head: bool, seed: int
) -> Iterator[Row]:
    for one in chosen:
        placed = Placed(one, head=head, seed=seed)
        yield Row(placed)
        if one.name == BASELINE and len(chosen) > 1:
            continue  # it is there to be compared with, and nobody asks where it comes from
        if By.PRODUCT in apart:
            for product in Product:
                if one.of(product).changes:
                    yield Row(replace(placed, products=frozenset({product})), product=product.value)
        if By.LAYER in apart:
            for name in (cost.name for cost in changed):
                yield Row(replace(placed, only=frozenset({name})), layer=name, part=Part.ALONE)
                yield Row(replace(placed, without=frozenset({name})), layer=name, part=Part.WITHOUT)
        if By.BOTH in apart:
            for cost, product in itertools.product(changed, Product):
                if product in cost.products and one.of(product).changes:
                    alone = replace(placed, only=frozenset({cost.name}), products=frozenset({product}))
                    yield Row(alone, product=product.value, layer=cost.name, part=Part.ALONE)
