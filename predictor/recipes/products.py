"""The three products of a layer, computed from operands that a recipe quantizes: each operand of each product by
itself, from the tensor as it came, with scales along the contraction (docs/definitions/recipes.md section 1)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from formats import StandardFormat
from formats.number_format import Format
from formats.recipes.value import OPERANDS, Operand, Product, Quantization
from formats.rounding import Rounding
from formats.scale import Granularity, Scale
from predictor.flow.sites import Quantizers, Site
from predictor.recipes.placed import Placed, Top
from predictor.recipes.transforms import transformed
from predictor.recipes.views import natural, views_of
from workloads.digests import digest
from workloads.workload import Batch


class RecipeAtSites:
    """Says at every product of a network how a recipe computes it; what `DataFlow.site` asks. One for each pass,
    forward and backward.

    Args:
        placed: the recipe, and where it holds.
        exact: names of further sites that stay in full precision.
        seed: of random numbers, below 2^64.

    Attributes:
        backward: True while the backward pass runs, so that what is computed again (checkpointing) draws the same
            random numbers.
        once: whether there is one backward pass, so that nothing is kept for another.
        changed: names of the sites that it has changed.
        tops: of delayed scaling, the scales that were found, by site, product and operand.
    """

    def __init__(self, placed: Placed, exact: frozenset[str] = frozenset(), seed: int = 0):
        self.placed, self.exact, self.seed = placed, exact, seed
        self.backward = self.once = False
        self.changed: dict[str, None] = {}
        self.tops: dict[str, Top] = {}
        self._given = dict(placed.tops)
        self._calls: dict[bool, Counter[str]] = {False: Counter(), True: Counter()}

    def __call__(self, site: Site) -> Quantizers | None:
        """The quantizers of a product with a weight; None where it stays as it is."""
        if site.origin is None or site.name in self.exact or not self.placed.changes(site.name):
            return None
        self.changed[site.name] = None
        # Steps of a recurrent layer are one site.
        self._calls[self.backward][site.name] += 1
        return _Call(self, site, self._calls[self.backward][site.name] - 1).quantizers()

    def top(self, key: str, found: Callable[[], Any]) -> Any:
        """The scale of delayed scaling for an operand; None where it is the tensor's own."""
        if self.placed.recipe.history is None:
            return None
        own = found()
        self.tops[key] = max(self.tops.get(key, own), own)
        return self._given.get(key)


def rounded_operand(sites: RecipeAtSites, site: Site, t: Tensor, product: Product, operand: Operand) -> Tensor:
    """An operand of a call as a product takes it, where a recipe computes it."""
    return _Call(sites, site, 0)._rounded(t, product, operand)


class _Straight(torch.autograd.Function):
    """What a function makes of a tensor; the gradient goes straight through."""

    @staticmethod
    def forward(ctx: Any, t: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        return function(t)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return gradient, None


class _Call:
    """One call of a product."""

    def __init__(self, sites: RecipeAtSites, site: Site, number: int):
        self.sites, self.site, self.number = sites, site, number
        self.needs_input = self.needs_weight = True

    def quantizers(self) -> Quantizers:
        """What is done to the tensors of the call."""
        # What was rounded in the forward pass is rounded again, also where it comes out the same: kept, it would take
        # as much memory as the network and its activations.
        return Quantizers(
            input=self._input,
            weight=self._weight,
            operands=self._operands if self._rounds(Operand.X) or self._rounds(Operand.W) else None,
            error=self._errors if self._rounds(Operand.DY) else None,
            once=self.sites.once,
        )

    def _of(self, product: Product, operand: Operand) -> Quantization:
        recipe = self.sites.placed.of(product, self.site.name)
        return recipe.first if operand is OPERANDS[product][0] else recipe.second

    def _rounds(self, operand: Operand) -> bool:
        """Whether an operand is rounded in any product."""
        return any(self._of(product, operand).format is not None for product, of in OPERANDS.items() if operand in of)

    @property
    def _one_error(self) -> bool:
        """Whether dgrad and wgrad take the same rounded errors."""
        one, other = Product.DGRAD, Product.WGRAD
        first, second = self._of(one, Operand.DY), self._of(other, Operand.DY)
        if first.format is None and second.format is None:
            return True
        if first.format is None or second.format is None or first.format.digest != second.format.digest:
            return False
        plain = first.rounding is second.rounding is Rounding.NEAREST
        return plain and not self._length(one) and not self._length(other) and not in_lines(first.format)

    def _length(self, product: Product) -> int:
        """Of the transform. A convolution's wgrad has none: its operands are not indexed alike."""
        recipe = self.sites.placed.of(product, self.site.name)
        conv = self.site.operation.startswith("conv") and product is Product.WGRAD
        return recipe.hadamard if recipe.changes and not conv else 0

    def _input(self, x: Tensor) -> Tensor:
        self.needs_input = x.requires_grad
        return self._forward(x, Operand.X)

    def _weight(self, w: Tensor) -> Tensor:
        self.needs_weight = w.requires_grad
        return self._forward(w, Operand.W)

    def _forward(self, t: Tensor, operand: Operand) -> Tensor:
        if self._of(Product.FPROP, operand).format is None:
            return t
        made: Tensor = _Straight.apply(t, lambda given: self._rounded(given, Product.FPROP, operand))
        return made

    def _operands(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Those of the backward products, from the tensors as they came."""
        of_x = self._rounded(x, Product.WGRAD, Operand.X) if self.needs_weight else x
        of_w = self._rounded(w, Product.DGRAD, Operand.W) if self.needs_input else w
        return of_x, of_w

    def _errors(self, e: Tensor) -> tuple[Tensor, Tensor]:
        """Those of wgrad and of dgrad."""
        if self._one_error:
            both = self._rounded(e, Product.DGRAD, Operand.DY)
            return both, both
        for_weight = self._rounded(e, Product.WGRAD, Operand.DY) if self.needs_weight else e
        for_input = self._rounded(e, Product.DGRAD, Operand.DY) if self.needs_input else e
        return for_weight, for_input

    def _rounded(self, t: Tensor, product: Product, operand: Operand) -> Tensor:
        """An operand as a product takes it."""
        quantization = self._of(product, operand)
        format = quantization.format
        if format is None:
            return t
        key = f"{self.site.name} {product} {operand}"
        options: dict[str, Any] = {}
        if quantization.rounding is Rounding.STOCHASTIC:
            stream = number_of(f"{key} {self.number}")
            options = {"rounding": Rounding.STOCHASTIC, "seed": self.sites.seed, "stream": stream}
        length = self._length(product)
        views = views_of(self.site, t.ndim)
        if length:
            view = views[product, operand]
            lines = transformed(view.lines(t), length, self.sites.seed)
            rounded = transformed(self._round(format, lines, key, options), length, self.sites.seed, inverse=True)
            return view.back(rounded, t)
        if shared(format) is Granularity.TENSOR and not options:
            return self._round(format, t, key, options)
        if in_lines(format) or shared(format) is Granularity.TENSOR:
            view = views[product, operand]
            # Random numbers follow the lines, and torch brings those together sooner.
            lines = view.lines(t).contiguous() if options else view.lines(t)
            return view.back(self._round(format, lines, key, options), t)
        view = natural(views, operand)
        return view.back(self._round(format, view.matrices(t), key, options), t)

    def _round(self, format: Format, t: Tensor, key: str, options: dict[str, Any]) -> Tensor:
        if shared(format) is Granularity.TENSOR and not isinstance(format, StandardFormat):
            top = self.sites.top(key, lambda: format.find_top(t).item())  # type: ignore[attr-defined]
            if top is not None:
                options = options | {"top": top}
        rounded: Tensor = format.round(t, **options)
        return rounded


def shared(format: Format) -> Granularity | None:
    """What shares a scale of a format; None where the format does not say."""
    scale = getattr(format, "scale", None)
    return scale.per if isinstance(scale, Scale) else None


def in_lines(format: Format) -> bool:
    """Whether the scales of a format lie along the contraction of a product, so that it matters which that is; not so
    where a tensor or a two-dimensional tile has one."""
    scale = getattr(format, "scale", None)
    if not isinstance(scale, Scale):
        return True
    return scale.per is not Granularity.TENSOR and not isinstance(scale.block, tuple)


def random_seed(placed: Placed, batch: Batch) -> int:
    """Of the random numbers of a recipe on a mini-batch; 0 where it draws none."""
    return number_of(f"{placed.seed} {placed.draw} {digest(batch)}") if placed.recipe.random else 0


def number_of(text: str) -> int:
    """A whole number below 2^64 that a text decides."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
