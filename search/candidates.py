"""Which formats are ranked."""

from __future__ import annotations

from collections.abc import Iterable

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
    return choose_and_tell(names, bits, family, max_binades)[0]


def choose_and_tell(
    names: Iterable[str | Candidate] | None = None,
    bits: int | None = None,
    family: str | None = None,
    max_binades: int | None = None,
) -> tuple[list[Candidate], list[str]]:
    """The same, and a line for each of them that was given under other names too."""
    if names is None:
        chosen: list[tuple[str, Candidate]] = [(entry.name, entry) for entry in formats.catalogue(bits, family)]
    else:
        chosen = [entry for name in names for entry in _by_name(name)]

    def kept(format: formats.Format) -> bool:
        of = outline(format)
        few = max_binades is None or of[BINADES] is None or of[BINADES] <= max_binades
        return few and bits in (None, of[BITS]) and (family is None or family.lower() == of[FAMILY].lower())

    unique: dict[tuple[str, ...], Candidate] = {}
    called: dict[tuple[str, ...], dict[str, None]] = {}
    for name, entry in chosen:
        if all(map(kept, formats_of(entry))):
            key = tuple(format.digest for format in formats_of(entry))  # a pair of one format is that format
            unique.setdefault(key, entry)
            called.setdefault(key, {})[name] = None
    if not unique:
        raise ValueError(f"no format is left to rank{_filters(bits, family, max_binades)}")
    seen: set[str] = set()
    for entry in unique.values():
        if entry.name in seen:
            raise ValueError(f"two different formats are called {entry.name}; give each a name of its own")
        seen.add(entry.name)
    told = [
        f"{', '.join(names)} are one and the same format; its row is {unique[key].name}"
        for key, names in called.items()
        if len(names) > 1
    ]
    return list(unique.values()), told


def _filters(bits: int | None, family: str | None, max_binades: int | None) -> str:
    """What formats were chosen by, for an error."""
    given = [
        *([f"{bits} bits"] if bits is not None else []),
        *([f"family {family}"] if family is not None else []),
        *([f"at most {max_binades} binades"] if max_binades is not None else []),
    ]
    return f": none has {' and '.join(given)}" if given else ""


def _by_name(name: str | Candidate) -> list[tuple[str, Candidate]]:
    """The candidate of this name, or all that a file defines, each by what it is called there."""
    if isinstance(name, str) and name.endswith(ENDINGS):
        return [(entry.name, entry) for entry in formats.load_formats(name)]
    found = candidate(name)
    return [(name if isinstance(name, str) else found.name, found)]
