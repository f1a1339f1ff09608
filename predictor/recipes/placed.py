"""A recipe on a network: in which products and layers it holds, and which draw of its random numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from formats.number_format import fingerprint
from formats.recipes.value import Product, Recipe

EVERY_PRODUCT = frozenset(Product)
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
                self.head,
                [self.seed, self.draw] if self.recipe.random else None,
                self.tops,
            ]
        )

    def changes(self, site: str) -> bool:
        """Whether it holds at a site, by its name."""
        return (self.only is None or site in self.only) and site not in self.without
