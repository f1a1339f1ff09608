"""The scripts of the costs' benchmarks, as modules, and their counts."""

import importlib.util
import sys
from pathlib import Path

import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


def script(name):
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def bench():
    return script("cost")


@pytest.fixture(scope="session")
def periphery():
    """The script, and its counts."""
    return script("periphery"), pd.read_csv(BENCHMARKS / "periphery.csv")


@pytest.fixture(scope="session")
def counts():
    return pd.read_csv(BENCHMARKS / "cost.csv").fillna(0)
