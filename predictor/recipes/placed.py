"""A recipe on a network: in which products and layers it holds, and which draw of its random numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from formats.number_format import fingerprint
from formats.pairs import Candidate
from formats.recipes.value import Operand, Product, ProductRecipe, Recipe, uniform
from predictor.effects import Effect

EVERY_PRODUCT = frozenset(Product)
OPERANDS_OF = {
    Effect.E: (Operand.DY,),
    Effect.A: (Operand.X,),
    Effect.AE: (Operand.X, Operand.DY),
    Effect.W: (Operand.W,),
    Effect.WAE: tuple(Operand),
}
"""Which operands a format has for an effect at operands, in every product that they take part in."""
Top = float
"""A scale found from a tensor: a top exponent or a real scale."""


@dataclass(frozen=True)
class Placed:
    """What is measured of a recipe.

    Attributes:
        recipe: whose.
        products: those that it changes; the others are computed in full precision.
        only: names of the sites that it changes; None for all.
        without: names of sites that it does not change.
        kept: names of sites that are computed by another recipe.
        instead: that one, where there are some.
        head: whether it changes the last product of the network, which otherwise stays in full precision.
        seed: of its random numbers, with `draw` and the mini-batch.
        draw: see there.
        tops: of delayed scaling: the scale of each operand, by site, product and operand; found from the tensor itself
            where there is none.
    """

    recipe: Recipe
    products: frozenset[Product] = EVERY_PRODUCT
    only: frozenset[str] | None = None
    without: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    instead: Recipe | None = None
    head: bool = False
    seed: int = 0
    draw: int = 0
    tops: tuple[tuple[str, Top], ...] = ()

    @property
    def name(self) -> str:
        """The recipe's."""
        return self.recipe.name

    @cached_property
    def digest(self) -> str:
        """A stable fingerprint of everything that decides what it computes."""
        return fingerprint(
            [
                self.recipe.digest,
                sorted(self.products),
                None if self.only is None else sorted(self.only),
                sorted(self.without),
                [sorted(self.kept), self.instead.digest] if self.kept and self.instead is not None else [],
                self.head,
                [self.seed, self.draw] if self.recipe.random else None,
                self.tops,
            ]
        )

    def changes(self, site: str) -> bool:
        """Whether a site is computed in another way than in full precision, by its name."""
        return (self.only is None or site in self.only) and site not in self.without

    def of(self, product: Product, site: str) -> ProductRecipe:
        """How a product of a site that it changes is computed."""
        if product not in self.products:
            return ProductRecipe()
        return (self.recipe if self.instead is None or site not in self.kept else self.instead).of(product)


def recipe_at(candidate: Candidate, effect: Effect) -> Placed:
    """A format, or a pair, in the place of an effect's operands: for WAE the recipe of its name."""
    return Placed(uniform(candidate, OPERANDS_OF[effect]))
