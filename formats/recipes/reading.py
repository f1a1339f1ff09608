"""From a name, a file or fields to a recipe."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from formats.lookup import format_or_none
from formats.number_format import Format
from formats.pairs import candidate
from formats.recipes.presets import PRESETS
from formats.recipes.value import (
    ALL_BEFORE,
    OPERANDS,
    Operand,
    Product,
    ProductRecipe,
    Quantization,
    Recipe,
    uniform,
)
from formats.rounding import Rounding
from formats.scale import ScalePolicy
from numeric_formats.checks import one_of

FIELDS = ("base", *Operand, *Product, "elsewhere", "history")
POWERS_OF_TWO = "MX"
"""How the names of formats begin that a policy behind a preset's name is for."""


def recipe(name: str | Recipe, /, **fields: Any) -> Recipe:
    """A recipe: by its name alone, from a file, or from fields.

    Args:
        name: a preset (`formats recipes list`), one with MX formats also with a scale policy behind it
            ("mxfp8/rceil"); FILE.toml, with the fields below; a format or pair ACTIVATION+ERROR, which then stands for
            all six operands. With fields, the name of the new recipe.
        fields: `base`, a recipe from which the rest is taken; `x`, `w` and `dy`, the formats (or "float32") of input,
            weight and error in every product; `fprop`, `dgrad` and `wgrad`, of one product alone: a mapping from its
            two operands to formats, with `rounding` ("nearest", "stochastic", or a mapping from operands to these) and
            `hadamard` (the length of a random Hadamard transform of both operands along the contraction); `elsewhere`,
            the format of what lies between the products; `history`, of delayed scaling: how many mini-batches before a
            tensor's scale is from, or "all".

    Raises:
        ValueError: for unknown names, fields and formats, and for what cannot be: a rounding that a format does not
            have, a transform whose length is no power of two.
        FileNotFoundError: where there is no such file.

    Source:
        docs/definitions/recipes.md section 2.

    >>> import formats
    >>> mine = formats.recipe("mine", base="mxfp8", dgrad={"dy": "MXFP8-E5M2"}, wgrad={"hadamard": 32})
    >>> mine.dgrad.first.name, mine.wgrad.first.name, mine.wgrad.hadamard
    ('MXFP8-E5M2', 'MXFP8-E4M3', 32)
    """
    if isinstance(name, Recipe):
        return name
    if not isinstance(name, str):
        raise TypeError(f"{name!r} is neither a recipe nor the name of one")
    if fields:
        return _made(name, fields)
    if name.strip().endswith(".toml"):
        return _from_file(Path(name.strip()))
    return _named(name.strip())


def recipe_without_files(name: str) -> Recipe:
    """A recipe by a name that is data, such as that of a table: a preset, or a format for all operands; no name reads a
    file. ValueError for others."""
    return _named(name, files=False)


def _named(name: str, files: bool = True) -> Recipe:
    """A preset, or a format in the place of all operands."""
    base, _, policy = name.lower().partition("/")
    if base in PRESETS and (not policy or policy in tuple(ScalePolicy)):
        row = PRESETS[base]
        given = {operand.value: getattr(row, operand) for operand in Operand}
        if policy:
            if not all(entry.startswith(POWERS_OF_TWO) for entry in given.values()):
                raise ValueError(f"recipe {name!r}: a scale policy is for recipes of MX formats, such as mxfp8/rceil")
            given = {key: f"{entry}/{policy}" for key, entry in given.items()}
        return _made(base + (f"/{policy}" if policy else ""), given | dict(row.also))
    try:
        chosen = candidate(name, files=files)
    except ValueError:
        near = difflib.get_close_matches(base, PRESETS, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}? " if near else ""
        raise ValueError(
            f"unknown recipe {name!r}; {hint}Recipes are {', '.join(PRESETS)}, FILE.toml, or a format for all operands"
        ) from None
    return uniform(chosen)


def _from_file(path: Path) -> Recipe:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no TOML file: {' '.join(str(error).split())}") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder; a TOML file is needed") from None
    name = found.pop("name", path.stem)
    if not isinstance(name, str):
        raise ValueError(f"{path}: name is {name!r}; a string is needed")
    if not found:
        raise ValueError(f"{path} has no field of a recipe; there are {', '.join(FIELDS)}")
    try:
        return _made(name, found)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _made(name: str, fields: Mapping[str, Any]) -> Recipe:
    _known(f"recipe {name}", fields, FIELDS)
    base = recipe(fields["base"]) if "base" in fields else None
    products = []
    for product in Product:
        of_base = ProductRecipe() if base is None else base.of(product)
        products.append(_product(f"recipe {name}, {product}", product, fields, of_base))
    fprop, dgrad, wgrad = products
    elsewhere = None if base is None else base.elsewhere
    if "elsewhere" in fields:
        elsewhere = _format(f"recipe {name}, elsewhere", fields["elsewhere"])
    history = None if base is None else base.history
    if "history" in fields:
        given = fields["history"]
        if given == ALL_BEFORE or isinstance(given, bool):
            raise ValueError(f'recipe {name}: history {given!r}: a number from 1 on is needed, or "all"')
        history = ALL_BEFORE if given == "all" else given
    return Recipe(name, fprop, dgrad, wgrad, elsewhere, history)


def _product(where: str, product: Product, fields: Mapping[str, Any], base: ProductRecipe) -> ProductRecipe:
    operands = OPERANDS[product]
    own = fields.get(product, {})
    if not isinstance(own, Mapping):
        raise ValueError(f"{where} is {own!r}; a table with {', '.join(operands)}, rounding or hadamard is needed")
    _known(where, own, (*operands, "rounding", "hadamard"))
    roundings = own.get("rounding", {})
    if isinstance(roundings, str):
        roundings = dict.fromkeys(operands, roundings)
    if not isinstance(roundings, Mapping):
        raise ValueError(f"{where}: rounding is {roundings!r}; a name, or a table from operands to names is needed")
    _known(f"{where}, rounding", roundings, operands)
    made = []
    for operand, before in zip(operands, base, strict=True):
        given = own.get(operand, fields.get(operand))
        format = before.format if given is None else _format(f"{where}, {operand}", given)
        rounding = before.rounding
        if operand in roundings:
            rounding = one_of(f"{where}: rounding", Rounding, roundings[operand])
        try:
            made.append(Quantization(format, rounding))
        except ValueError as error:
            raise ValueError(f"{where}, {operand}: {error}") from None
    try:
        return ProductRecipe(made[0], made[1], own.get("hadamard", base.hadamard))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _known(where: str, given: Mapping[str, Any], allowed: tuple[str, ...]) -> None:
    for key in given:
        if key not in allowed:
            near = difflib.get_close_matches(str(key), allowed, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ValueError(f"{where}: unknown field {key!r}; {hint}allowed are {', '.join(allowed)}")


def _format(where: str, given: Any) -> Format | None:
    """A format by its name or as it is; None for float32."""
    try:
        return format_or_none(given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None
