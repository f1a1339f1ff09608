"""Which formats are ranked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import formats
from formats.description import outline
from formats.from_file import ENDINGS
from formats.pairs import Candidate, candidate, formats_of
from predictor.columns import BINADES, BITS, FAMILY


def choose(
    names: Iterable[str | Candidate] | None = None,
    bits: int | None = None,
    family: str | None = None,
    max_binades: int | None = None,
) -> list[Candidate]:
    """Candidates by name, or those of the catalogue that a filter leaves; each once, by content.

    Args:
        names: Formats, pairs, names, and files (.py, .toml) that define formats; by default the catalogue.
        bits: Only formats of this width; of a pair, both.
        family: Only this family, such as FP, standard, MX or codebook; of a pair, both.
        max_binades: Only formats of at most this many binades, and those without a profile.

    Raises:
        ValueError: None is left, the catalogue has no such width or family, or different formats have one name, so that
            no table could tell them apart.
    """
    if names is None:
        chosen: list[Candidate] = list(formats.catalogue(bits, family))
    else:
        chosen = [entry for name in names for entry in _by_name(name)]

    def kept(format: formats.Format) -> bool:
        of = outline(format)
        few = max_binades is None or of[BINADES] is None or of[BINADES] <= max_binades
        return few and bits in (None, of[BITS]) and (family is None or family.lower() == of[FAMILY].lower())

    chosen = [entry for entry in chosen if all(map(kept, formats_of(entry)))]
    unique: dict[tuple[str, str], Candidate] = {}
    for entry in chosen:
        activation, error = formats_of(entry)  # a pair of one format is that format
        unique.setdefault((activation.digest, error.digest), entry)
    if not unique:
        raise ValueError(f"no format is left to rank{_filters(bits, family, max_binades)}")
    seen: set[str] = set()
    for entry in unique.values():
        if entry.name in seen:
            raise ValueError(f"two different formats are called {entry.name}; give each a name of its own")
        seen.add(entry.name)
    return list(unique.values())


def _filters(bits: int | None, family: str | None, max_binades: int | None) -> str:
    """What formats were chosen by, for an error."""
    given = [
        *([f"{bits} bits"] if bits is not None else []),
        *([f"family {family}"] if family is not None else []),
        *([f"at most {max_binades} binades"] if max_binades is not None else []),
    ]
    return f": none has {' and '.join(given)}" if given else ""


def _by_name(name: str | Candidate) -> list[Candidate]:
    """The candidate of this name, or all that a file defines."""
    if isinstance(name, str) and name.endswith(ENDINGS):
        return list(formats.load_formats(Path(name)))
    return [candidate(name)]
