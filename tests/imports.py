"""Which modules of ours a module uses, read from its imports as text."""

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
FLOORS = ("numeric_formats", "formats", "workloads", "predictor", "search", "training", "reports", "commands", "cli")


def modules() -> list[Path]:
    """Every module of the distribution, as paths from its root."""
    found: list[Path] = []
    for floor in FLOORS:
        folder = HOME / floor
        found += (
            folder.glob("**/*.py")
            if folder.is_dir()
            else [path]
            if (path := folder.with_suffix(".py")).exists()
            else []
        )
    return sorted(path.relative_to(HOME) for path in found)


def file_of(module: str) -> Path | None:
    """The file of a module of ours, from the root; None for other names."""
    path = Path(*module.split("."))
    return next((found for found in (path / "__init__.py", path.with_suffix(".py")) if (HOME / found).exists()), None)


@cache
def imported_names(path: Path) -> tuple[tuple[str, str], ...]:
    """(module of ours, name) of every `from module import name` of a file, also inside functions; name "" for `import
    module`."""
    found: list[tuple[str, str]] = []
    for node in ast.walk(ast.parse((HOME / path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in FLOORS:
            found += [(node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names if alias.name.partition(".")[0] in FLOORS]
    return tuple(found)


def defining(module: str, name: str) -> Path | None:
    """The file that an imported name comes from: through a package's __init__ to where it is defined."""
    if name and (inner := file_of(f"{module}.{name}")) is not None:
        return inner
    path = file_of(module)
    if path is not None and name and path.name == "__init__.py":
        for source, exported in imported_names(path):
            if exported == name:
                return defining(source, name)
    return path


def used_by(path: Path) -> set[Path]:
    """The files that a file takes something from. `import package` counts as nothing: what is looked up in it is found
    by its own name."""
    found = {defining(module, name) for module, name in imported_names(path) if name or "." in module}
    return {file for file in found if file is not None and file != path}


def reached(roots: Iterable[Path], leaving_out: Iterable[Path] = ()) -> set[Path]:
    """The roots and everything that they lead to, but not what lies behind `leaving_out`."""
    return set(_reached(list(roots), set(leaving_out)))


def _reached(todo: list[Path], seen: set[Path]) -> Iterator[Path]:
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            yield path
            todo += used_by(path)
