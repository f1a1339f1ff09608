"""The rules of the house: imports run one way and in no circle, files are short, and no module is hidden by what it
holds."""

import ast
from pathlib import Path

import pytest

from tests.imports import FLOORS, HOME, defining, file_of, imported_names, modules

MOST_LINES = 400
TABLES = ("formats/tables",)
"""Data: a table may be as long as it has to be."""
ABOVE = {
    "numeric_formats": (),
    "formats": ("numeric_formats",),
    "workloads": ("numeric_formats", "formats"),
    "predictor": ("numeric_formats", "formats", "workloads"),
    "search": ("numeric_formats", "formats", "workloads", "predictor"),
    "training": ("numeric_formats", "formats", "workloads", "predictor"),
    "reports": ("numeric_formats", "formats", "workloads", "predictor", "search", "training"),
    "commands": ("numeric_formats", "formats", "workloads", "predictor", "search", "training", "reports"),
    "cli": ("numeric_formats", "formats", "workloads", "predictor", "search", "training", "reports", "commands"),
}
"""The floors that each floor may import."""


def floor_of(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def edges(path: Path) -> set[Path]:
    """The files that a file imports, also inside functions and for type checkers alone."""
    found = {defining(module, name) if name else file_of(module) for module, name in imported_names(path)}
    return {file for file in found if file is not None and file != path}


def held_names(path: Path) -> set[str]:
    """The functions and classes of a module."""
    kinds = ast.FunctionDef | ast.ClassDef
    return {node.name for node in ast.parse((HOME / path).read_text()).body if isinstance(node, kinds)}


def test_the_floors_are_all_there() -> None:
    assert set(ABOVE) == set(FLOORS)
    assert {floor_of(path) for path in modules()} == set(FLOORS)


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_go_down(floor: str) -> None:
    up = {
        (str(path), str(used))
        for path in modules()
        if floor_of(path) == floor
        for used in edges(path)
        if floor_of(used) not in (floor, *ABOVE[floor])
    }
    assert up == set()


def circles() -> list[set[Path]]:
    """Groups of modules each of which leads to all others of its group (Tarjan's strongly connected components)."""
    graph = {path: edges(path) for path in modules()}
    order: dict[Path, int] = {}
    low: dict[Path, int] = {}
    stack: list[Path] = []
    found: list[set[Path]] = []

    def visit(path: Path) -> None:
        order[path] = low[path] = len(order)
        stack.append(path)
        for used in graph[path]:
            if used not in order:
                visit(used)
                low[path] = min(low[path], low[used])
            elif used in stack:
                low[path] = min(low[path], order[used])
        if low[path] == order[path]:
            group = set(stack[stack.index(path) :])
            del stack[stack.index(path) :]
            if len(group) > 1:
                found.append(group)

    for path in graph:
        if path not in order:
            visit(path)
    return found


def test_no_import_runs_in_a_circle() -> None:
    assert [sorted(map(str, group)) for group in circles()] == []


def test_files_are_short() -> None:
    long = {
        str(path): lines
        for path in modules()
        if (lines := len((HOME / path).read_text().splitlines())) > MOST_LINES and not str(path).startswith(TABLES)
    }
    assert long == {}


def test_no_module_is_named_like_what_it_holds() -> None:
    assert [str(path) for path in modules() if path.stem in held_names(path)] == []


def test_no_package_hides_a_module_of_its_own() -> None:
    """`from search import rank` must give the function, and no module of that name may stand beside it."""
    hidden = []
    for path in modules():
        if path.name == "__init__.py":
            inside = {other.stem for other in (HOME / path).parent.glob("*.py")} | {
                other.parent.name for other in (HOME / path).parent.glob("*/__init__.py")
            }
            taken = {name for module, name in imported_names(path) if file_of(f"{module}.{name}") is None}
            hidden += [f"{path}: {name}" for name in sorted((taken | held_names(path)) & inside)]
    assert hidden == []


def test_no_module_loads_all_of_scipys_distributions() -> None:
    """They take a second or two; scipy.special has the functions behind them."""
    found = [
        str(path)
        for path in modules()
        for node in ast.walk(ast.parse((HOME / path).read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        and any(name in ast.unparse(node) for name in ("scipy.stats", "from scipy import stats"))
    ]
    assert found == []
