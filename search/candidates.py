"""Which formats are ranked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import formats
from formats.from_file import ENDINGS
from formats.pairs import Candidate, candidate, formats_of


def choose(
    names: Iterable[str | Candidate] | None = None,
    bits: int | None = None,
    family: str | None = None,
    max_binades: int | None = None,
) -> list[Candidate]:
    """Candidates by name, or those of the catalogue that a filter leaves; each once, by content.

    Args:
        names: Formats, pairs, names, and files (.py, .toml) that define formats; by default the catalogue.
        bits: Only formats of this width.
        family: Only this family.
        max_binades: Only formats of at most this many binades, and those without a profile.

    Raises:
        ValueError: None is left, names were filtered, or different formats have one name, so that no table could tell
            them apart.
    """
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
    unique: dict[tuple[str, str], Candidate] = {}
    for entry in chosen:
        activation, error = formats_of(entry)  # a pair of one format is that format
        unique.setdefault((activation.digest, error.digest), entry)
    if not unique:
        raise ValueError("no format is left to rank")
    seen: set[str] = set()
    for entry in unique.values():
        if entry.name in seen:
            raise ValueError(f"two different formats are called {entry.name}; give each a name of its own")
        seen.add(entry.name)
    return list(unique.values())


def _by_name(name: str | Candidate) -> list[Candidate]:
    """The candidate of this name, or all that a file defines."""
    if isinstance(name, str) and name.endswith(ENDINGS):
        return list(formats.load_formats(Path(name)))
    return [candidate(name)]
