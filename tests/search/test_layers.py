"""Formats for layers under a budget."""

import itertools

import numpy as np
import pytest

import formats
from predictor.gradient.gradients import Gradients
from predictor.gradient.noise import observe
from predictor.scheme import CURRENT
from search.knapsack import Constraints
from search.layers import allocate, format_per_layer
from tests.nets import small_workload


@pytest.mark.parametrize("seed", range(8))
def test_the_best_choice_of_all(seed):
    rng = np.random.default_rng(seed)
    layers, choices = 6, 4
    scores = rng.random((layers, choices))
    sizes = [[int(size) for size in row] for row in rng.integers(1, 30, (layers, choices))]
    rows = range(layers)
    least = sum(min(row) for row in sizes)
    for budget in (least, least + 15, least + 60, 10_000):
        fitting = [
            c for c in itertools.product(range(choices), repeat=layers) if sum(sizes[i][c[i]] for i in rows) <= budget
        ]
        expected = min(sum(scores[i, c[i]] for i in rows) for c in fitting)
        found = allocate(scores, sizes, budget)
        assert tuple(found) in fitting
        assert sum(scores[i, found[i]] for i in rows) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match=f"a budget of {least - 1} bits: the narrowest formats take {least}"):
        allocate(scores, sizes, least - 1)


@pytest.fixture(scope="module")
def noise():
    workload = small_workload(1)
    with Gradients(workload, workload.batches[0], scheme=CURRENT) as gradients:
        return observe(gradients)


def test_layers_share_the_bits(noise):
    weights = [np.ones(3)]
    wide = format_per_layer([noise], weights, 8)
    assert wide.layer.tolist() == ["0", "3"]
    assert wide.bits.tolist() == [8, 8]
    # Layer 0 has an activation and an error of (16, 8, 6, 6); layer 3 an activation of (16, 10), since its error is
    # rounded in two terms.
    assert wide.elements.tolist() == [2 * 16 * 8 * 36, 160]
    table = format_per_layer([noise], weights, 6.5, constraints=Constraints(runs=3))
    assert (table.bits * table.elements).sum() <= 6.5 * table.elements.sum()
    assert table.bits.tolist() == [6, 8]
    ratios = noise.ratios([formats.get(name) for name in table.name])
    assert table.score.tolist() == pytest.approx([ratios[0, [0, 2]].sum(), ratios[1, 1]])
    assert all(profile.count(",") <= 2 for profile in table.profile)
    errors = format_per_layer([noise], [np.array([0.0, 0.0, 1.0])], 4, [4])
    assert (errors.layer.tolist(), errors.bits.tolist()) == (["0"], [4])


def test_refusals(noise):
    with pytest.raises(ValueError, match=r"an average of 3\.5 bits: the narrowest allowed format has 4"):
        format_per_layer([noise], [np.ones(3)], 3.5)
    with pytest.raises(ValueError, match="no width"):
        format_per_layer([noise], [np.ones(3)], 3.5, [])
    with pytest.raises(ValueError, match="9 bits"):
        format_per_layer([noise], [np.ones(3)], 6, [4, 9])
