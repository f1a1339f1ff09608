"""What a recipe is: the format and rounding of each operand of a layer's three products, and their transforms
(docs/definitions/recipes.md)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from formats.lookup import FULL_PRECISION, name_of
from formats.number_format import Format, check_rounds, fingerprint
from formats.pairs import Candidate, formats_of
from formats.rounding import Rounding

ROUNDINGS = (Rounding.NEAREST, Rounding.STOCHASTIC)
ALL_BEFORE = 0
"""The history of a scale that looks at all mini-batches before."""


class Product(StrEnum):
    """The three products of a layer: y = x W^T, dx = dy W, dW = dy^T x.

    Source:
        docs/definitions/recipes.md section 1.

    >>> from formats.recipes.value import OPERANDS, Product
    >>> [str(operand) for operand in OPERANDS[Product.WGRAD]]
    ['dy', 'x']
    """

    FPROP = "fprop"
    DGRAD = "dgrad"
    WGRAD = "wgrad"


class Operand(StrEnum):
    """What is multiplied: the input of a layer, its weight, the error of its output."""

    X = "x"
    W = "w"
    DY = "dy"


OPERANDS: Mapping[Product, tuple[Operand, Operand]] = MappingProxyType(
    {
        Product.FPROP: (Operand.X, Operand.W),
        Product.DGRAD: (Operand.DY, Operand.W),
        Product.WGRAD: (Operand.DY, Operand.X),
    }
)


@dataclass(frozen=True)
class Quantization:
    """What is done to one operand of one product.

    Args:
        format: None leaves it as it is.
        rounding: to nearest or stochastic.

    Raises:
        ValueError: for another rounding, or one that the format does not have.
    """

    format: Format | None = None
    rounding: Rounding = Rounding.NEAREST

    def __post_init__(self) -> None:
        if self.rounding not in ROUNDINGS:
            raise ValueError(f"rounding {str(self.rounding)!r}: allowed are {', '.join(ROUNDINGS)}")
        if self.format is not None:
            check_rounds(self.format, self.rounding, np.ones((1, 1), np.float32))

    @property
    def name(self) -> str:
        """The format's."""
        return name_of(self.format)

    @property
    def digest(self) -> list[str]:
        """What decides its bits."""
        return [FULL_PRECISION if self.format is None else self.format.digest, self.rounding.value]


@dataclass(frozen=True)
class ProductRecipe:
    """How one product is computed: its two operands in the order of `OPERANDS`, and the length of a random Hadamard
    transform along their contraction, 0 for none.

    Raises:
        ValueError: for a length that is no power of two.
    """

    first: Quantization = Quantization()
    second: Quantization = Quantization()
    hadamard: int = 0

    def __post_init__(self) -> None:
        n = self.hadamard
        if not isinstance(n, int) or n < 0 or n == 1 or n & (n - 1):
            raise ValueError(f"hadamard {n!r}: a power of two from 2 on is needed, or 0 for none")

    @property
    def digest(self) -> list[object]:
        """What decides its bits."""
        return [self.first.digest, self.second.digest, self.hadamard]

    @property
    def changes(self) -> bool:
        """Whether it is computed in another way than in full precision."""
        return self.first.format is not None or self.second.format is not None

    @property
    def random(self) -> bool:
        """Whether random numbers take part."""
        drawn = any(each.format is not None and each.rounding is Rounding.STOCHASTIC for each in self)
        return drawn or (self.changes and self.hadamard > 0)

    def __iter__(self) -> Iterator[Quantization]:
        return iter((self.first, self.second))


@dataclass(frozen=True)
class Recipe:
    """Which format each operand of the three products of a layer has, how it is rounded, and what is transformed.

    Equal by content. `formats.recipe` makes one from a name, a file or fields.

    Args:
        name: what tables print.
        fprop: of y = x W^T, operands x and W.
        dgrad: of dx = dy W, operands dy and W.
        wgrad: of dW = dy^T x, operands dy and x.
        elsewhere: the format of what lies between the products; None for float32.
        history: delayed scaling: how many mini-batches before the scale of a tensor is found from, ALL_BEFORE for all;
            None for the tensor's own.

    Raises:
        ValueError: for a history that is no number of mini-batches.

    Source:
        docs/definitions/recipes.md section 2.

    >>> import formats
    >>> fp8 = formats.recipe("fp8-tensor")
    >>> fp8.wgrad.first.name, fp8.wgrad.second.name
    ('E5M2/real', 'E4M3/real')
    """

    name: str = field(compare=False)
    fprop: ProductRecipe = ProductRecipe()
    dgrad: ProductRecipe = ProductRecipe()
    wgrad: ProductRecipe = ProductRecipe()
    elsewhere: Format | None = None
    history: int | None = None

    def __post_init__(self) -> None:
        if self.history is not None and (not isinstance(self.history, int) or self.history < 0):
            raise ValueError(f'history {self.history!r}: a number of mini-batches from 1 on is needed, or "all"')

    def of(self, product: Product) -> ProductRecipe:
        """How one of the products is computed."""
        return {Product.FPROP: self.fprop, Product.DGRAD: self.dgrad, Product.WGRAD: self.wgrad}[product]

    @property
    def random(self) -> bool:
        """Whether random numbers take part, so that two draws differ."""
        return any(self.of(product).random for product in Product)

    @cached_property
    def digest(self) -> str:
        """A stable fingerprint of everything that decides what it computes."""
        between = FULL_PRECISION if self.elsewhere is None else self.elsewhere.digest
        return fingerprint(["recipe", *(self.of(product).digest for product in Product), between, self.history])


def uniform(candidate: Candidate, operands: Collection[Operand] = tuple(Operand)) -> Recipe:
    """The recipe with one format in the place of all six operands, or of these alone; of a pair, the second for
    errors."""
    for_activation, for_error = (Quantization(format) for format in formats_of(candidate))
    of = {Operand.X: for_activation, Operand.W: for_activation, Operand.DY: for_error}

    def made(product: Product) -> ProductRecipe:
        first, second = (of[each] if each in operands else Quantization() for each in OPERANDS[product])
        return ProductRecipe(first, second)

    return Recipe(candidate.name, made(Product.FPROP), made(Product.DGRAD), made(Product.WGRAD))


def history_in_words(history: int | None) -> str:
    """Where the scales of a recipe come from."""
    if history is None:
        return "of the tensor itself"
    return "the largest of all mini-batches before" if history == ALL_BEFORE else f"the largest of {history} before"


def described(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain values, as JSON has them."""
    products = {
        product.value: {
            operand.value: {"format": each.name, "rounding": each.rounding.value}
            for operand, each in zip(OPERANDS[product], recipe.of(product), strict=True)
        }
        | {"hadamard": recipe.of(product).hadamard}
        for product in Product
    }
    history = "all" if recipe.history == ALL_BEFORE else recipe.history
    return {
        "name": recipe.name,
        **products,
        "elsewhere": name_of(recipe.elsewhere),
        "history": history,
        "digest": recipe.digest,
    }
