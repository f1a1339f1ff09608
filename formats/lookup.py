"""From a name, or a file of one's own, to the format."""

from __future__ import annotations

import re
from pathlib import Path

from formats.from_file import load_formats
from formats.names import parse
from formats.number_format import Format

FULL_PRECISION = "float32"
"""The name by which a tensor is left as it is."""


def get(name: str | Format, *, files: bool = True) -> Format:
    """The format of this name, in any spelling and case; a format is returned as it is.

    Args:
        name: INT8, FP134 (sign, exponent, fraction bits), T8.5x3@2, BM43 or BM<4,3>, profile:8:4x2,5x3,4x7,3,2,1; the
            standards of `formats.names.standard` (E4M3, float8_e5m2, bf16, posit<8,2>, ...), MXFP4 and the other MX
            formats, NVFP4; any of them with another scale: FP134/channel, FP134/row, FP134/block32, INT8/tile16x16,
            FP134/headroom1, NF4/block64; standards with a scale from the data, a power of two (E4M3/tensor,
            E4M3/block128); INT8/real, E4M3/real and E4M3/real/row, whose scale is no power of two; FILE.toml or FILE.py
            for the format that a file of one's own defines (`formats.load_formats`), FILE:NAME for one of several.
        files: whether a name may be that of a file. False for names that stand in data, since a .py file is run.

    Raises:
        TypeError: for what is neither a name nor a format.
        ValueError: for other names; it suggests the nearest, or says what a file defines.

    >>> import formats
    >>> formats.get("fp116").name
    'INT8'
    """
    if not isinstance(name, str):
        if isinstance(name, Format):
            return name
        raise TypeError(f"{name!r} is neither a format's name nor an object with name, digest and round")
    if own := re.fullmatch(r"(.+\.(?:py|toml))(?::(.+))?", name.strip()):
        if not files:
            raise ValueError(f"{name!r} is the name of a file; only names of formats are taken from data")
        return _from_file(Path(own[1]), own[2])
    return parse(name)


def format_or_none(given: str | Format) -> Format | None:
    """A format by its name or as it is; None for "float32", which rounds nothing. Raises as `get` does."""
    if isinstance(given, str) and given.strip().lower() == FULL_PRECISION:
        return None
    return get(given)


def name_of(format: Format | None) -> str:
    """The name by which `format_or_none` knows it."""
    return FULL_PRECISION if format is None else format.name


def _from_file(path: Path, name: str | None) -> Format:
    """The format of this name in a file of the user's, or the only one; read anew each time, since files change."""
    found = load_formats(path, name)
    chosen = [entry for entry in found if name in (None, entry.name)]
    if len(chosen) == 1:
        return chosen[0]
    defined = ", ".join(entry.name for entry in found)
    if name is None or chosen:
        raise ValueError(f"{path} defines {defined}; one is needed here, as {path}:{found[0].name}")
    base, _, suffix = name.partition("/")
    if suffix and any(base == entry.name for entry in found):
        raise ValueError(
            f"{path}:{name}: suffixes do not go with formats of a file; give {base} another scale there "
            f"({'scale = { headroom = 1 }' if path.suffix == '.toml' else 'with_scale'}) and leave out /{suffix}"
        )
    raise ValueError(f"{path} has no {name!r}; it defines {defined}")
