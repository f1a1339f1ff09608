"""The script of the cost's benchmark, as a module."""

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(scope="session")
def bench():
    spec = importlib.util.spec_from_file_location("benchmarks_cost", BENCHMARKS / "cost.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def counts():
    return pd.read_csv(BENCHMARKS / "cost.csv").fillna(0)
