"""Formats from a file of one's own: Python objects, or a description in TOML."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from formats.kinds.codebooks import from_codebook
from formats.kinds.profile_format import from_profile
from formats.kinds.standards import minifloat
from formats.names import parse
from formats.number_format import Format
from formats.scale import Scale
from numeric_formats.user_file import run_file

ENDINGS = (".py", ".toml")
_KEYS = {"profile", "codebook", "exponent_bits", "fraction_bits", "bias", "bits", "signed", "scale"}


def load_formats(path: Path) -> list[Format]:
    """All formats that a file defines, in its order.

    Args:
        path: .py: every object at the top of the module that has `name`, `digest` and `round`. .toml: one table a
            format, named by it, with `profile` (a list of significant bits, or text such as "5x7,4,3,2,1"), or
            `codebook` (a list of values; `signed = true` for magnitudes), or `exponent_bits` and `fraction_bits` (with
            `bias` for a constant scale); optional `bits` and `scale` (a table of per, block, axis, headroom, policy).

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where the file cannot be read so or defines no format.

    Source: the grids and scales of docs/definitions/formats.md sections 1 and 2.

    >>> import formats, tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "mine.toml")
    ...     _ = file.write_text("[mine]\\nprofile = '5x7,4,3,2,1'\\n[table]\\ncodebook = [0, 1, 3]\\nsigned = true\\n")
    ...     [(f.name, f.bits) for f in formats.load_formats(file)]
    [('mine', 8), ('table', 3)]
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    found = _from_toml(path) if path.suffix == ".toml" else _from_python(path)
    if not found:
        raise ValueError(f"{path} defines no format: nothing in it has name, digest and round")
    return found


def _from_python(path: Path) -> list[Format]:
    module = run_file(path, f"formats_file_{path.stem}")
    objects = [value for name, value in vars(module).items() if not name.startswith("_")]
    return [value for value in objects if not isinstance(value, type) and isinstance(value, Format)]


def _from_toml(path: Path) -> list[Format]:
    try:
        tables = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    return [_from_table(path, name, table) for name, table in tables.items()]


def _from_table(path: Path, name: str, table: Any) -> Format:
    where = f"{path}, format {name!r}"
    if not isinstance(table, dict):
        raise ValueError(f"{where}: a table is needed, such as [{name}] and profile = [5, 4, 3, 2, 1] below it")
    unknown = sorted(set(table) - _KEYS)
    if unknown:
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; allowed are {', '.join(sorted(_KEYS))}")
    kinds = [kind for kind in ("profile", "codebook", "exponent_bits") if kind in table]
    if len(kinds) != 1:
        raise ValueError(f"{where}: exactly one of profile, codebook, and exponent_bits with fraction_bits is needed")
    try:
        scale = Scale(**table.get("scale", {}))
        if "codebook" in table:
            values = from_codebook(table["codebook"], table.get("signed", False), table.get("bits"), name)
            return replace(values, scale=scale)
        if "profile" in table:
            profile = table["profile"]
            if isinstance(profile, str):
                profile = parse(f"profile:16:{profile}").profile  # type: ignore[attr-defined]
            return from_profile(profile, table.get("bits"), name, scale)
        x, y = table["exponent_bits"], table.get("fraction_bits")
        if not isinstance(y, int):
            raise ValueError("fraction_bits is missing")
        if "bias" in table:
            return minifloat(x, y, bias=table["bias"])
        grid = parse(f"FP1{x}{y}")
        return from_profile(grid.profile, 1 + x + y, name, scale)  # type: ignore[attr-defined]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from error
