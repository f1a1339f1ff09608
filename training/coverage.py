"""How much of a network a training method, or a calibration, quantizes, and what it leaves in float32."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from predictor.flow.coverage import Watch
from predictor.flow.points import Skipped

MOST_NAMED = 12
"""Products that a sentence names."""


@dataclass(frozen=True)
class Covered:
    """What one forward pass showed.

    Attributes:
        products: How many are quantized, each once.
        multiply_accumulates: Of all products that depend on the input.
        covered: Of those that are quantized.
        parameters: Elements of all parameters.
        quantized: Elements of those that the quantized weights are made of.
        left: Products that stay in float32, with the reason.
    """

    products: int
    multiply_accumulates: int
    covered: int
    parameters: int
    quantized: int
    left: tuple[Skipped, ...]

    @classmethod
    def of(cls, watch: Watch, parameters: Mapping[str, nn.Parameter]) -> Covered:
        """Of a pass that was watched."""
        whole: set[str] = set()
        parts: dict[str, int] = {}
        for site in watch.sites.values():
            if site.origin is None:
                continue
            if site.origin.place is None or site.origin.whole:
                whole |= set(site.origin.parameters)
            else:
                parts[str(site.weight)] = _elements(site.origin.place.size, site.origin.place.stride)
        of_parts = sum(count for name, count in parts.items() if name.partition("[")[0] not in whole)
        quantized = sum(parameters[name].numel() for name in whole) + of_parts
        seen = watch.result()
        everything = sum(parameter.numel() for parameter in parameters.values())
        return cls(
            len(watch.sites),
            seen.multiply_accumulates,
            seen.covered,
            everything,
            min(quantized, everything),
            watch.left,
        )

    @property
    def sentence(self) -> str:
        """What is covered, in a line."""
        share = 100 * self.covered / self.multiply_accumulates if self.multiply_accumulates else 100.0
        of_parameters = 100 * self.quantized / self.parameters if self.parameters else 100.0
        products = f"{self.products} product{'' if self.products == 1 else 's'}"
        return (
            f"quantized: {products} with {share:.4g}% of the multiply-accumulates, and {of_parameters:.4g}% of the "
            "parameters"
        )

    @property
    def remainder(self) -> str:
        """What stays in float32, in a line; "" where nothing does."""
        if not self.left:
            return ""
        return f"left in float32: {_listed(self.left)}"

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        left = [{"layer": e.layer, "operation": e.operation, "reason": e.reason} for e in self.left]
        return {
            "products": self.products,
            "multiply_accumulates": self.multiply_accumulates,
            "covered": self.covered,
            "parameters": self.parameters,
            "quantized": self.quantized,
            "left": left,
        }


def _elements(size: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """Of a view, those that are expanded once."""
    found = 1
    for count, step in zip(size, stride, strict=True):
        found *= count if step else 1
    return found


def _listed(left: Iterable[Skipped]) -> str:
    """Products by reason."""
    by_reason: dict[str, list[str]] = {}
    for entry in left:
        by_reason.setdefault(entry.reason, []).append(f"{entry.layer or '(network)'}:{entry.operation}")
    return "; ".join(
        f"{', '.join(names[:MOST_NAMED])}{f' and {len(names) - MOST_NAMED} more' if len(names) > MOST_NAMED else ''} "
        f"({reason})"
        for reason, names in by_reason.items()
    )
