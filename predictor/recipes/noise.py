"""Noise of the operands of products in one full-precision pass: what a format does to each of them, along the
contraction of each product (docs/definitions/prediction.md section 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from formats.pairs import Candidate
from formats.recipes.value import OPERANDS, Operand, Product, uniform
from predictor.flow.points import Point
from predictor.flow.sites import Quantizers, Site
from predictor.gradient.gradients import Gradients
from predictor.gradient.noise import Kind, Noise, NoiseTables, needs_rounding, noise_table, nsr_of
from predictor.recipes.gradients import check_products, last_of
from predictor.recipes.placed import Placed
from predictor.recipes.products import RecipeAtSites, rounded_operand

KIND_OF = {Operand.X: Kind.A, Operand.W: Kind.W, Operand.DY: Kind.E}
See = Callable[[Site, Operand, Tensor, list[Product]], None]
"""Sees an operand of a call, and the products that it takes part in."""


class _Seen:
    """Shows every operand that a recipe rounds to a function, and leaves it as it is; what `DataFlow.site` asks."""

    def __init__(self, exact: frozenset[str], see: See):
        self.exact, self.see = exact, see

    def __call__(self, site: Site) -> Quantizers | None:
        if site.origin is None or site.name in self.exact:
            return None
        held: list[Tensor] = []

        def hold(t: Tensor) -> Tensor:
            held.append(t)
            # A product without a gradient has no error; in a checkpointed part it is computed again with one.
            if len(held) > 1 and torch.is_grad_enabled() and not any(each.requires_grad for each in held):
                self.show(site, held[0], held[1], None)
            return t

        def error(e: Tensor) -> tuple[Tensor, Tensor]:
            self.show(site, held[0], held[1], e)
            return e, e

        return Quantizers(input=hold, weight=hold, error=error, once=True)

    def show(self, site: Site, x: Tensor, w: Tensor, e: Tensor | None) -> None:
        """The operands of a call, each with the products that take it."""
        wanted = [Product.FPROP, *[Product.DGRAD] * x.requires_grad, *[Product.WGRAD] * w.requires_grad]
        for operand, t in zip(Operand, (x, w, e), strict=True):
            if t is not None:
                self.see(site, operand, t.detach(), [product for product in wanted if operand in OPERANDS[product]])


def see_operands(gradients: Gradients, see: See) -> None:
    """Show every operand that a recipe rounds, in a full-precision pass, to a function.

    Raises:
        ValueError: where no product of the network has a weight.
    """
    flow, products = gradients.flow, gradients.products
    check_products(gradients.workload.name, products)
    flow.site, flow.pointed = _Seen(last_of([site.name for site in products], head=False), see), False
    try:
        loss = gradients.forward(None)
        gradients.backward(loss, None, keep=False, see=lambda *_: None)
    finally:
        flow.site, flow.pointed = None, True


def observe_operands(gradients: Gradients, candidates: Iterable[Candidate] = ()) -> Noise:
    """The noise of every operand of every product that a recipe changes, a row for each; candidates without tables are
    rounded there and then, as a recipe rounds them."""
    direct = needs_rounding(candidates)
    sites = [RecipeAtSites(Placed(uniform(format))) for format in direct.values()]
    points: list[Point] = []
    kinds: list[Kind] = []
    tables = []
    ratios: list[list[float]] = []

    def see(site: Site, operand: Operand, t: Tensor, products: list[Product]) -> None:
        table = noise_table(t)
        for product in products:
            operation = f"{site.operation} {product} {operand}"
            points.append(Point(len(points), site.layer, operation, site.call, tuple(t.shape)))
            kinds.append(KIND_OF[operand])
            tables.append(table)
            rounded = [partial(_rounded, of_format, site, product, operand) for of_format in sites]
            ratios.append([nsr_of(each, t) for each in rounded])

    see_operands(gradients, see)
    by_format = np.array(ratios).reshape(len(points), len(direct)).T
    direct_ratios = dict(zip(direct, by_format, strict=True))
    return Noise(tuple(points), tuple(kinds), NoiseTables.of(tables), direct_ratios, gradients.scheme)


def _rounded(sites: RecipeAtSites, site: Site, product: Product, operand: Operand, t: Tensor) -> Tensor:
    return rounded_operand(sites, site, t, product, operand)
