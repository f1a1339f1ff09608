"""What decides the bits of a kept measurement is declared, and the declaration agrees with what measuring imports."""

import ast
from pathlib import Path

from predictor.measuring.context import HOME, measuring_sources
from tests.imports import file_of, modules, reached

NAMES = tuple(Path("formats", name) for name in ("names.py", "from_file.py", "families.py", "pairs.py"))
"""From a name to a format: what the format is decides bits, not how it was asked for; its digest is part of a
measurement's key."""


def kinds_of_formats() -> list[Path]:
    """Modules with a class of format: one that has `Emulated` among its ancestors."""
    classes = [
        (path, node)
        for path in modules()
        for node in ast.parse((HOME / path).read_text()).body
        if isinstance(node, ast.ClassDef)
    ]
    kinds, found = {"Emulated"}, dict[Path, None]()
    for _ in classes:
        for path, node in classes:
            if any(isinstance(base, ast.Name) and base.id in kinds for base in node.bases):
                kinds.add(node.name)
                found[path] = None
    return list(found)


def measuring() -> set[Path]:
    """What takes part in a measurement: all that measures a unit, observes noise, makes a key, and every kind of
    format."""
    roots = [file_of(name) for name in ("predictor.measuring.units", "predictor.noise", "predictor.measuring.context")]
    return reached([*(path for path in roots if path is not None), *kinds_of_formats()], leaving_out=NAMES)


def declared() -> set[Path]:
    """The declared files that hold code: the __init__ of a folder may be one docstring."""
    return {path.relative_to(HOME) for path in measuring_sources() if len(ast.parse(path.read_text()).body) > 1}


def test_every_kind_of_format_is_found() -> None:
    assert len(kinds_of_formats()) >= 5


def test_every_module_that_takes_part_in_a_measurement_decides_its_key() -> None:
    assert measuring() - declared() == set()


def test_no_module_that_takes_no_part_makes_users_measure_again() -> None:
    assert declared() - measuring() == set()
