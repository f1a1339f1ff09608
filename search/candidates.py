"""Which formats are ranked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import formats
from formats.custom import ENDINGS
from predictor.gradient import Candidate, candidate, formats_of


def choose(
    names: Iterable[str | Candidate] | None = None,
    bits: int | None = None,
    family: str | None = None,
    max_binades: int | None = None,
) -> list[Candidate]:
    """Candidates by name, or those of the catalogue that a filter leaves; each once, by content."""
    if names is None:
        chosen: list[Candidate] = list(formats.catalogue(bits, family))
    else:
        chosen = [entry for name in names for entry in _by_name(name)]
        if bits is not None or family is not None:
            raise ValueError("candidates by name cannot be filtered by bits or family as well")
    if max_binades is not None:
        chosen = [
            entry
            for entry in chosen
            if all(not isinstance(f, formats.ProfileFormat) or f.binades <= max_binades for f in formats_of(entry))
        ]
    unique = list({entry.digest: entry for entry in chosen}.values())
    if not unique:
        raise ValueError("no format is left to rank")
    return unique


def _by_name(name: str | Candidate) -> list[Candidate]:
    """The candidate of this name, or all that a file defines."""
    if isinstance(name, str) and name.endswith(ENDINGS):
        return list(formats.load_formats(Path(name)))
    return [candidate(name)]
