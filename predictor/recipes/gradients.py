"""Weight gradients of one mini-batch with the products of layers computed as a recipe says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from formats.pairs import Candidate
from formats.recipes.value import uniform
from predictor.effects import Effect
from predictor.gradient.gradients import Gradients, Quantized, See
from predictor.gradient.quantizers import activation_quantizer, error_quantizer
from predictor.recipes.placed import Placed
from predictor.recipes.products import RecipeAtSites, random_seed
from predictor.scheme import CURRENT

BETWEEN = replace(CURRENT, two_terms=False)
"""How what lies between the products is rounded, where a recipe has a format for it."""


def check_products(workload: str, products: Sequence[object]) -> None:
    """ValueError where there are none. workload: its name; products: those with a weight."""
    if not products:
        raise ValueError(
            f"workload {workload}: no product of its network has a weight, so that there is nothing that a recipe "
            "changes"
        )


def last_of(products: Sequence[str], head: bool) -> frozenset[str]:
    """What a recipe leaves as it is unless it changes the head: the last product with a weight. products: their names,
    in the order of execution."""
    return frozenset() if head else frozenset(products[-1:])


def with_recipe(gradients: Gradients, placed: Placed, see: See | None = None) -> tuple[Quantized, RecipeAtSites]:
    """The gradients as a recipe computes them, on the opened ones of a mini-batch, and what computed the products.
    see: as for `Gradients.quantized`.

    Raises:
        ValueError: where no product of the network has a weight.
    """
    flow, products = gradients.flow, gradients.products
    check_products(gradients.workload.name, products)
    last = last_of([site.name for site in products], placed.head)
    sites, elsewhere = RecipeAtSites(placed, last, random_seed(placed, gradients.batch)), placed.recipe.elsewhere
    sites.once = True
    flow.site, flow.pointed = sites, elsewhere is not None
    try:
        loss = gradients.forward(None if elsewhere is None else activation_quantizer(elsewhere, BETWEEN))
        sites.backward = True
        error = None if elsewhere is None else error_quantizer(elsewhere, BETWEEN)
        found = gradients.backward(loss, error, keep=False, see=see)
    finally:
        flow.site, flow.pointed = None, True
    return Quantized(Effect.OPERANDS, found, gradients.full, gradients.more(loss)), sites


def quantized(
    gradients: Gradients, candidate: Candidate | Placed, effects: Sequence[Effect], see: See
) -> Iterator[Quantized]:
    """Each effect, in the order of `Effect`, or of a recipe its one, whose gradients were seen and let go."""
    if isinstance(candidate, Placed):
        yield with_recipe(gradients, candidate, see)[0]
        return
    yield from gradients.quantized(candidate, effects, see)
    if Effect.OPERANDS in effects:
        yield with_recipe(gradients, Placed(uniform(candidate)), see)[0]
