"""Candidates of a ranking: a format, or one for the forward pass and another for errors."""

from __future__ import annotations

from dataclasses import dataclass

from formats.lookup import get
from formats.number_format import Format


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


def candidate(given: str | Candidate, *, files: bool = True) -> Candidate:
    """A format or pair from its name; a pair is written ACTIVATION+ERROR. files: as for `formats.get`."""
    if isinstance(given, Pair):
        return given
    if isinstance(given, str) and "+" in given:
        activation, _, error = given.partition("+")
        return Pair(get(activation, files=files), get(error, files=files))
    return get(given, files=files)


def formats_of(candidate: Candidate) -> tuple[Format, Format]:
    """The formats of activations and of errors."""
    return (candidate.activation, candidate.error) if isinstance(candidate, Pair) else (candidate, candidate)
