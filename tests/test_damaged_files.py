"""Damaged files of every kind (benchmarks/fuzz_files.py): the value that they held, or an error of one line."""

import pytest

from benchmarks.fuzz_files import KINDS, one

SEEDS = range(20)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(kind, tmp_path):
    wrong = {seed: found for seed in SEEDS if (found := one(kind, seed, tmp_path / "files")).startswith("WRONG")}
    assert wrong == {}
