"""Operands as matrices whose columns lie along the contraction of the product at hand, whatever layer they are of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from formats.recipes.value import OPERANDS, Operand, Product
from predictor.flow.operands import CONVOLUTIONS, Labels
from predictor.flow.sites import Site

Axes = Mapping[Operand, tuple[str, ...]]


@dataclass(frozen=True)
class View:
    """A tensor as matrices: which of its axes become batches, rows and columns."""

    batch: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    @property
    def order(self) -> tuple[int, ...]:
        """The tensor's axes in the order of the matrices'."""
        return (*self.batch, *self.rows, *self.columns)

    def matrices(self, t: Tensor) -> Tensor:
        """(batches, rows, columns)."""
        sizes = [math.prod(t.shape[d] for d in axes) for axes in (self.batch, self.rows, self.columns)]
        return t.permute(self.order).reshape(sizes)

    def lines(self, t: Tensor) -> Tensor:
        """(batches * rows, columns): every line along the contraction, in t's own memory where that can be."""
        matrices = self.matrices(t)
        return matrices.reshape(-1, matrices.shape[-1])

    def back(self, made: Tensor, like: Tensor) -> Tensor:
        """What was made of matrices or lines, as a tensor of the shape that they came from."""
        inverse = sorted(range(len(self.order)), key=self.order.__getitem__)
        return made.reshape([like.shape[d] for d in self.order]).permute(inverse)


def views_of(site: Site, dimensions: int) -> dict[tuple[Product, Operand], View]:
    """The view of each operand in each product of a call. dimensions: of a convolution's input, which may be one
    example.

    A convolution's fprop and dgrad contract channels, for each place of its kernel; its wgrad contracts examples and
    places. Axes that only one factor has, and the product has not, are rows.
    """
    convolves = site.operation in CONVOLUTIONS
    axes, by_product = _of_convolution(site.operation, dimensions) if convolves else _of_labels(site.labels)
    found = {}
    for product, operands in OPERANDS.items():
        summed, together = by_product[product]
        for operand in operands:
            own = axes[operand]
            # In the order of the contraction's own labels, so that both operands run alike.
            columns = [own.index(label) for label in summed if label in own]
            batch = [d for d, label in enumerate(own) if label in together]
            rows = [d for d in range(len(own)) if d not in columns and d not in batch]
            found[product, operand] = View(tuple(batch), tuple(rows), tuple(columns))
    return found


def natural(views: Mapping[tuple[Product, Operand], View], operand: Operand) -> View:
    """The view that does not depend on the product, for scales of two-dimensional tiles: W as (N, K), x as (M, K), dy
    as (M, N)."""
    if operand is Operand.DY:
        return views[Product.DGRAD, operand]
    return views[Product.FPROP, operand]


Contractions = Mapping[Product, tuple[tuple[str, ...], frozenset[str]]]
"""The labels that each product sums over, in order, and those that it has in common with both operands."""


def _of_labels(labels: Labels | None) -> tuple[Axes, Contractions]:
    if labels is None:
        raise ValueError("a product without labels of its axes")
    x, w, y = labels
    batch = frozenset(set(x) & set(w) & set(y))
    only = {
        Product.FPROP: tuple(label for label in x if label in w and label not in y),
        Product.DGRAD: tuple(label for label in y if label in w and label not in x),
        Product.WGRAD: tuple(label for label in y if label in x and label not in w),
    }
    return {Operand.X: x, Operand.W: w, Operand.DY: y}, {product: (own, batch) for product, own in only.items()}


def _of_convolution(operation: str, dimensions: int) -> tuple[Axes, Contractions]:
    spatial = int(operation[-2])
    kernel, places = (tuple(f"{kind}{d}" for d in range(spatial)) for kind in ("offset", "place"))
    examples = ("example",) if dimensions > spatial + 1 else ()
    channels = ("k", "n") if operation.startswith("conv_transpose") else ("n", "k")
    axes = {
        Operand.X: (*examples, "k", *places),
        Operand.W: (*channels, *kernel),
        Operand.DY: (*examples, "n", *places),
    }
    return axes, {
        Product.FPROP: (("k",), frozenset(kernel)),
        Product.DGRAD: (("n",), frozenset(kernel)),
        Product.WGRAD: ((*examples, *places), frozenset()),
    }
