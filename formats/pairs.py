"""TODO."""

from __future__ import annotations

from dataclasses import dataclass

import formats
from formats import Format


@dataclass(frozen=True)
class Pair:
    """One format for the forward pass (activations, and weights where they are quantized) and another for errors."""

    activation: Format
    error: Format

    @property
    def name(self) -> str:
        """Both names, activations first."""
        return f"{self.activation.name}+{self.error.name}"

    @property
    def digest(self) -> str:
        """Both digests."""
        return f"{self.activation.digest}+{self.error.digest}"


Candidate = Format | Pair


def candidate(given: str | Candidate) -> Candidate:
    """A format or pair from its name; a pair is written ACTIVATION+ERROR."""
    if isinstance(given, Pair):
        return given
    if isinstance(given, str) and "+" in given:
        activation, _, error = given.partition("+")
        return Pair(formats.get(activation), formats.get(error))
    return formats.get(given)


def formats_of(candidate: Candidate) -> tuple[Format, Format]:
    """The formats of activations and of errors."""
    return (candidate.activation, candidate.error) if isinstance(candidate, Pair) else (candidate, candidate)
