"""The products of a network with their multiply-accumulates, for what share of them a recipe changes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from torch import Tensor

from formats.hardware.totals import gates_of
from formats.pairs import Pair
from formats.recipes.value import Product
from predictor.flow.dataflow import DataFlow
from predictor.flow.operands import CONVOLUTIONS
from predictor.flow.sites import Quantizers, Site
from predictor.gradient.evaluation import evaluation_mode, same_passes
from predictor.recipes.placed import Placed
from workloads.workload import Batch, Workload


@dataclass(frozen=True)
class ProductCost:
    """A product of the network.

    Attributes:
        name: of its site; of the calls of one site, such as the steps of a recurrent layer, there is one.
        parameter: of which its weight is made; "" where both factors depend on the input.
        multiply_accumulates: of its forward pass, all calls together.
        products: which of the three there are: no dgrad where its input needs no gradient, no wgrad of a frozen weight.
        last: whether it is the last with a weight.
    """

    name: str
    parameter: str
    multiply_accumulates: int
    products: frozenset[Product]
    last: bool


def product_costs(workload: Workload, batch: Batch) -> list[ProductCost]:
    """All products of a network on a mini-batch, in the order of execution; those of attention itself, of two factors
    that depend on the input, among them."""
    costs: Counter[str] = Counter()
    sites: dict[str, Site] = {}
    products: dict[str, frozenset[Product]] = {}

    def see(site: Site) -> Quantizers:
        factors: list[Tensor] = []

        def factor(t: Tensor) -> Tensor:
            factors.append(t)
            return t

        def product(y: Tensor) -> Tensor:
            x, w = factors
            costs[site.name] += _multiply_accumulates(site, x, w, y)
            backward = {Product.DGRAD: x.requires_grad, Product.WGRAD: w.requires_grad}
            products[site.name] = frozenset([Product.FPROP, *(each for each, needed in backward.items() if needed)])
            sites[site.name] = site
            return y

        return Quantizers(input=factor, weight=factor, output=product)

    with DataFlow(workload.model) as flow, evaluation_mode(flow.model), same_passes(flow.model):
        flow.site, flow.pointed = see, False
        workload.loss_of(flow.model, batch)
    weighted = [name for name, site in sites.items() if site.origin is not None]
    return [
        ProductCost(name, site.weight or "", costs[name], products[name], weighted[-1:] == [name])
        for name, site in sites.items()
    ]


def _multiply_accumulates(site: Site, x: Tensor, w: Tensor, y: Tensor) -> int:
    if site.operation in CONVOLUTIONS:
        # Of each element: of the product, or transposed of the input.
        of, channels = (x, w.shape[0]) if site.operation.startswith("conv_transpose") else (y, w.shape[0])
        return of.numel() * w.numel() // channels
    assert site.labels is not None  # of all others
    of_x, of_w, of_y = site.labels
    sizes = dict(zip(of_x, x.shape, strict=True)) | dict(zip(of_w, w.shape, strict=True))
    return y.numel() * math.prod(sizes[label] for label in set(of_x) & set(of_w) - set(of_y))


def share_of(placed: Placed, costs: list[ProductCost], exact: tuple[str, ...] = ()) -> float:
    """The share of a network's multiply-accumulates, of all three products, that a recipe changes. exact: layers that
    stay in full precision."""
    everything = changed = 0
    for cost in costs:
        everything += cost.multiply_accumulates * len(cost.products)
        if cost.name not in placed.kept:
            changed += cost.multiply_accumulates * len(_changed(placed, cost, exact))
    return changed / everything if everything else 0.0


def kept_share(placed: Placed, costs: list[ProductCost]) -> float:
    """The share of a network's multiply-accumulates, of all three products, that stay in the baseline's formats."""
    everything = sum(cost.multiply_accumulates * len(cost.products) for cost in costs)
    kept = sum(cost.multiply_accumulates * len(cost.products) for cost in costs if cost.name in placed.kept)
    return kept / everything if everything else 0.0


def gates(placed: Placed, costs: list[ProductCost], exact: tuple[str, ...] = ()) -> float:
    """Gates of a multiply-accumulate of the operands of a product (formats/hardware/totals.py), the mean over the
    multiply-accumulates that a recipe changes; not a number where an operand's format has no lane, or is float32."""
    total, count = 0.0, 0
    for cost in costs:
        for product in _changed(placed, cost, exact):
            one, other = (each.format for each in placed.of(product, cost.name))
            if one is None or other is None:
                return math.nan
            total += cost.multiply_accumulates * gates_of(Pair(one, other))
            count += cost.multiply_accumulates
    return total / count if count else math.nan


def _changed(placed: Placed, cost: ProductCost, exact: tuple[str, ...]) -> list[Product]:
    """Which of its products a recipe changes, those that are kept in the baseline's formats among them."""
    layer = cost.name.rpartition(":")[0]
    left = any(layer == name or layer.startswith(f"{name}.") for name in exact)
    if not cost.parameter or left or (cost.last and not placed.head) or not placed.changes(cost.name):
        return []
    return [each for each in cost.products & placed.products if placed.of(each, cost.name).changes]
