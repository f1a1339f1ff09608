"""How the data flow of a network in training is rounded: activations and errors at its points, and weight gradients,
each place by a scale of its own (docs/definitions/training.md section 1)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from predictor.flow.points import Point, Quantizer
from predictor.gradient.quantizers import two_terms
from predictor.scheme import ScaleRule
from training.delayed import Places, RoundingCounts
from training.scheme import TensorFormats


class RoundedFlow:
    """The places of one network in training.

    Attributes:
        places: Those of activations (A), errors (E) and weight gradients (G), of what has a format.
    """

    def __init__(self, given: TensorFormats):
        scheme = given.scheme
        rounded = (
            ("A", given.activation, scheme.headroom),
            ("E", given.error, scheme.headroom),
            ("G", given.gradient, scheme.gradient_headroom),
        )
        delayed = scheme.scale is ScaleRule.DELAYED
        self.places = {kind: Places(kind, f, room, delayed) for kind, f, room in rounded if f is not None}
        self._two_terms = scheme.two_terms
        self._last: Places | None = None
        if delayed and scheme.last_error is ScaleRule.CURRENT and given.error is not None:
            self._last = Places("E", given.error, scheme.headroom, delayed=False)

    @property
    def settles(self) -> bool:
        """Whether there is a delayed scale."""
        return any(places.delayed for places in self.places.values())

    @property
    def tops(self) -> dict[str, list[list[Any]]]:
        """All delayed scales between steps; plain values, for a checkpoint."""
        return {kind: places.tops for kind, places in self.places.items()}

    @tops.setter
    def tops(self, saved: dict[str, list[list[Any]]]) -> None:
        for kind, tops in saved.items():
            self.places[kind].tops = tops

    def quantizers(self, evaluation: bool) -> tuple[Quantizer | None, Quantizer | None]:
        """How points round activations and errors; for evaluation without a trace, and no errors."""
        # Errors are those of training: a derivative that a metric takes is none.
        return self._quantizer("A", evaluation), None if evaluation else self._quantizer("E", False)

    def _quantizer(self, kind: str, evaluation: bool) -> Quantizer | None:
        usual = self.places.get(kind)
        if usual is None:
            return None
        at_last = usual if kind == "A" or self._last is None else self._last

        def quantize(x: Tensor, point: Point) -> Tensor:
            places = at_last if point.last else usual
            round = places.evaluate if evaluation else places.round
            if self._two_terms and (point.two_terms if kind == "A" else point.last):
                return two_terms(x, lambda part, term: round(part, point.name, term))
            return round(x, point.name)

        return quantize

    def advance(self) -> list[RoundingCounts]:
        """End a step: scales move on. Returns what rounding did in it."""
        seen = []
        for kind, places in self.places.items():
            seen += places.advance()
            if kind == "E" and self._last is not None:
                seen += self._last.advance()
        return seen
