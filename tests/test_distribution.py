"""What a wheel holds: every package with its types and its files, and nothing else."""

import fnmatch
import tomllib

from numeric_formats.faults import OURS
from tests.imports import FLOORS, HOME

PYPROJECT = tomllib.loads((HOME / "pyproject.toml").read_text())
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]


def test_the_packages_are_known_by_one_list():
    found = SETUPTOOLS["packages"]["find"]["include"], SETUPTOOLS["py-modules"]
    assert found == ([f"{name}*" for name in FLOORS if name != "cli"], ["cli"])
    assert set(OURS) == set(FLOORS)


def test_every_package_says_that_it_has_types():
    assert all((HOME / name / "py.typed").is_file() for name in FLOORS if name != "cli")


def test_every_file_in_a_package_comes_along():
    patterns = SETUPTOOLS["package-data"]
    for floor in FLOORS:
        for path in (HOME / floor).glob("**/*"):
            if path.is_file() and path.suffix != ".py" and path.parent.name != "__pycache__":
                own = ".".join(path.parent.relative_to(HOME).parts)
                wanted = patterns["*"] + patterns.get(own, [])
                assert any(fnmatch.fnmatch(path.name, pattern) for pattern in wanted), path
                assert (path.parent / "__init__.py").is_file(), path


def test_every_folder_of_modules_is_a_package():
    for floor in FLOORS:
        for path in (HOME / floor).glob("**/*.py"):
            assert (path.parent / "__init__.py").is_file(), path


def test_an_editable_installation_is_found_before_folders_that_are_no_packages():
    """By a path, which comes before a namespace; the finder of the usual mode comes after one."""
    assert PYPROJECT["tool"]["distutils"]["editable_wheel"] == {"mode": "compat"}
