"""Random networks (benchmarks/random_modules.py): gradients are torch's own, and no operation is left out."""

import pytest

from benchmarks.random_modules import examine

SEEDS = range(20)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_network(seed):
    made_of, right, found = examine(seed)
    assert right, f"{made_of}: {found}"
