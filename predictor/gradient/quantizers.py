"""What rounds at the points of a data flow, and at its sites, when a gradient is measured."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import formats
from formats import Format
from predictor.flow.points import Point, Quantizer
from predictor.flow.sites import Quantizers, Site
from predictor.scheme import PAPER, Scheme


def round_in_dtype(format: Format, x: Tensor, top: int | None = None) -> Tensor:
    """Round without touching infinities (attention masks), in the dtype of x; `top` is for formats of this package that
    have one."""
    if isinstance(format, formats.ProfileFormat | formats.StandardFormat | formats.CodebookFormat):
        rounded: Tensor = format.round(x, top=top, keep_infinities=True)
    else:
        rounded = format.round(x)
        infinite = x.isinf()
        if infinite.any():
            rounded = torch.where(infinite, x, rounded)
    return rounded.to(x.dtype)


def two_terms(x: Tensor, round: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Q(x) + Q(x - Q(x)); `round` takes a tensor and the number of its term, 0 or 1, each of which has its own
    scale."""
    first = round(x, 0)
    return first + round(torch.where(first.isinf(), 0.0, x - first), 1)


def _two_terms(format: Format, x: Tensor) -> Tensor:
    return two_terms(x, lambda term, _: round_in_dtype(format, term))


def activation_quantizer(given: Format, scheme: Scheme = PAPER) -> Quantizer:
    """Rounds activations; inputs of the network get two terms."""
    format = scheme.at_rest(given)

    def quantize(x: Tensor, point: Point) -> Tensor:
        return _two_terms(format, x) if scheme.two_terms and point.two_terms else round_in_dtype(format, x)

    return quantize


def error_quantizer(given: Format, scheme: Scheme = PAPER) -> Quantizer:
    """Rounds errors; those of the last points get two terms."""
    format = scheme.at_rest(given)

    def quantize(e: Tensor, point: Point) -> Tensor:
        return _two_terms(format, e) if scheme.two_terms and point.last else round_in_dtype(format, e)

    return quantize


def computed_weights(format: Format, names: set[str]) -> Callable[[Site], Quantizers | None]:
    """Rounds the weights of products that are computed from some of these parameters; the gradient goes straight
    through."""

    def weight(w: Tensor) -> Tensor:
        return round_in_dtype(format, w.detach()) + (w - w.detach())

    def at(site: Site) -> Quantizers | None:
        made = site.origin is not None and site.origin.computed and names & set(site.origin.parameters)
        return Quantizers(weight=weight) if made else None

    return at
