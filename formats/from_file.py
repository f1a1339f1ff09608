"""Formats from a file of one's own: Python objects, or a description in TOML."""

from __future__ import annotations

import json
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
from numeric_formats.damage import reading
from numeric_formats.messages import one_line
from numeric_formats.user_file import run_file

ENDINGS = (".py", ".toml")
_KEYS = {
    "profile": ("bits", "scale"),
    "codebook": ("signed", "bits", "scale"),
    "exponent_bits": ("fraction_bits", "bias", "scale"),
}
"""What says of which kind a format is, and what may stand beside it."""
_OF_SCALE = ("per", "block", "axis", "headroom", "policy")


def load_formats(path: Path | str, name: str | None = None) -> list[Format]:
    """All formats that a file defines, in its order.

    Args:
        path: .py: every object at the top of the module that has `name`, `digest` and `round`. .toml: one table a
            format, named by it, with `profile` (a list of significant bits, or text such as "5x7,4,3,2,1"), or
            `codebook` (a list of values, which are sorted; `signed = true` for magnitudes), or `exponent_bits` and
            `fraction_bits` (with `bias` for a constant scale); optional `bits` and `scale` (a table of per, block,
            axis, headroom, policy). A headroom, 0 too, goes before that of a scheme.
        name: of the one that is wanted: where a .toml has it, other tables may be wrong.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where the file cannot be read so or defines no format.

    Source: the grids and scales of docs/definitions/formats.md sections 1 and 2.

    >>> import formats, tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "mine.toml")
    ...     _ = file.write_text("[mine]\\nprofile = '5x7,4,3,2,1'\\n[table]\\ncodebook = [0, 1, 3]\\nsigned = true\\n")
    ...     [(f.name, f.bits) for f in formats.load_formats(str(file))]
    [('mine', 8), ('table', 3)]
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    found = _from_toml(path, name) if path.suffix == ".toml" else _from_python(path)
    if not found:
        raise ValueError(f"{path} defines no format: nothing in it has name, digest and round")
    return found


def _from_python(path: Path) -> list[Format]:
    module = run_file(path, f"formats_file_{path.stem}")
    objects = [value for name, value in vars(module).items() if not name.startswith("_")]
    return [value for value in objects if not isinstance(value, type) and isinstance(value, Format)]


def _from_toml(path: Path, wanted: str | None) -> list[Format]:
    with reading(path, "TOML"):
        tables = tomllib.loads(path.read_text("utf-8"))
    if wanted in tables:
        tables = {wanted: tables[wanted]}
    return [_from_table(path, name, table) for name, table in tables.items()]


def _from_table(path: Path, name: str, table: Any) -> Format:
    where = f"{path}, format {name!r}"
    if not name.strip() or not name.isprintable():
        raise ValueError(f"{where}: a name of characters that can be printed is needed")
    if not isinstance(table, dict):
        raise ValueError(f"{where}: a table is needed, such as [{name}] and profile = [5, 4, 3, 2, 1] below it")
    known = {*_KEYS, *(key for beside in _KEYS.values() for key in beside)}
    if unknown := sorted(set(table) - known):
        if isinstance(table[unknown[0]], dict):
            dotted = json.dumps(f"{name}.{unknown[0]}")
            raise ValueError(f"{where}: a name with a dot stands in quotes, as [{dotted}]; without, it is two tables")
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; allowed are {', '.join(sorted(known))}")
    kinds = [kind for kind in _KEYS if kind in table]
    if len(kinds) != 1:
        raise ValueError(f"{where}: exactly one of profile, codebook, and exponent_bits with fraction_bits is needed")
    if foreign := sorted(set(table) - {*kinds, *_KEYS[kinds[0]]}):
        raise ValueError(f"{where}: {foreign[0]} says nothing of a {kinds[0]}; {', '.join(_KEYS[kinds[0]])} may")
    try:
        return _READERS[kinds[0]](table, name)
    except Exception as error:  # of numbers of any size and kind
        raise ValueError(f"{where}: {one_line(error)}") from error


def _scale(table: dict[str, Any]) -> Scale:
    given = table.get("scale", {})
    if not isinstance(given, dict):
        raise ValueError(f"scale {given!r}: a table is needed, such as {{ per = 'block', block = 32 }}")
    if unknown := sorted(set(given) - set(_OF_SCALE)):
        raise ValueError(f"scale: unknown key {unknown[0]!r}; allowed are {', '.join(_OF_SCALE)}")
    if "axis" in given:
        _whole(given, "axis")
    block = given.get("block")
    return Scale(**{**given, "block": tuple(block) if isinstance(block, list) else block})


def _whole(table: dict[str, Any], key: str) -> int:
    """A whole number that a table has to have."""
    if key not in table:
        raise ValueError(f"{key} is missing")
    if not isinstance(table[key], int) or isinstance(table[key], bool):
        raise ValueError(f"{key} {table[key]!r}: a whole number is needed")
    return int(table[key])


def _codebook(table: dict[str, Any], name: str) -> Format:
    values, signed = table["codebook"], table.get("signed", False)
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise ValueError("codebook: a list of numbers is needed")
    if not isinstance(signed, bool):
        raise ValueError(f"signed {signed!r}: true or false is needed")
    return replace(from_codebook(values, signed, table.get("bits"), name), scale=_scale(table))


def _profile(table: dict[str, Any], name: str) -> Format:
    profile = table["profile"]
    if isinstance(profile, str):
        if "/" in profile:
            raise ValueError(f"profile {profile!r}: its scale is said by the key scale")
        profile = parse(f"profile:16:{profile}").profile  # type: ignore[attr-defined]
    return from_profile(profile, table.get("bits"), name, _scale(table))


def _minifloat(table: dict[str, Any], name: str) -> Format:
    x, y = _whole(table, "exponent_bits"), _whole(table, "fraction_bits")
    if "bias" not in table:
        grid = parse(f"FP1{x}{y}")
        return from_profile(grid.profile, 1 + x + y, name, _scale(table))  # type: ignore[attr-defined]
    if "scale" in table:
        raise ValueError("bias makes the scale a constant; bias and scale do not go together")
    return replace(minifloat(x, y, bias=_whole(table, "bias")), name=name)


_READERS = {"profile": _profile, "codebook": _codebook, "exponent_bits": _minifloat}
