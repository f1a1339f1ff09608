"""One version, wherever it is asked for."""

import platform
import tomllib
from importlib.metadata import version

import torch

import numeric_formats
from numeric_formats.version import NAME, VERSION, versions_of
from tests.imports import HOME

PYPROJECT = HOME / "pyproject.toml"


def test_the_distribution_has_the_version_that_the_package_says():
    content = tomllib.loads(PYPROJECT.read_text())
    assert content["project"]["name"] == NAME
    assert content["project"]["dynamic"] == ["version"]
    assert content["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "numeric_formats.version.VERSION"}
    assert numeric_formats.__version__ == VERSION == version(NAME)


def test_versions_of_packages():
    assert versions_of("torch", NAME, "no-such-distribution") == {
        "python": platform.python_version(),
        "torch": torch.__version__,
        NAME: VERSION,
        "no-such-distribution": "not installed",
    }
