"""Weights of noise against known ones, and least squares against another method."""

import numpy as np
import pytest
from scipy.optimize import nnls

from predictor.estimate.regression import drawn_to_ones, fit_weights


def test_weights_come_back_from_many_formats():
    weights = np.array([0, 2.0, 0, 1, 0.5, 0, 3, 0, 0, 1])
    ratios = np.exp(np.random.default_rng(1).normal(-6, 1, (200, 10)))
    found = fit_weights(ratios, np.degrees(np.arctan(np.sqrt(ratios @ weights))))
    assert (found >= 0).all()
    # Drawn a little towards equal ones.
    assert np.corrcoef(found, weights)[0, 1] > 0.95
    drawn = np.log((ratios @ found) / (ratios @ weights)).std()
    assert drawn < 0.8 * np.log(ratios.sum(1) / (ratios @ weights)).std()


@pytest.mark.parametrize(
    ("formats", "tensors", "spread"), [(1, 5, 1), (8, 20, 1), (22, 100, 2), (48, 100, 3), (30, 10, 1)]
)
def test_least_squares_are_those_of_an_active_set_method(formats, tensors, spread):
    generator = np.random.default_rng(formats)
    rows = np.exp(generator.normal(0, spread, (formats, tensors))) / tensors
    pull = 0.05 * formats / tensors
    stacked = np.concatenate([rows, np.sqrt(pull) * np.eye(tensors)])
    expected, _ = nnls(stacked, np.concatenate([np.ones(formats), np.full(tensors, np.sqrt(pull))]))
    found = drawn_to_ones(rows, pull)
    assert ((found > 0) == (expected > 0)).all()
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9 * expected.max())


def test_least_squares_over_the_tensors_of_a_recurrent_network():
    # The conditions of the minimum, at a size at which an active set method takes minutes.
    rows = np.exp(np.random.default_rng(0).normal(0, 2, (48, 4_000))) / 4_000
    pull = 0.05 * 48 / 4_000
    found = drawn_to_ones(rows, pull)
    slope = rows.T @ (rows @ found - 1) + pull * (found - 1)
    assert (found >= 0).all()
    assert 100 < (found == 0).sum() < 3_900
    assert np.abs(slope[found > 0]).max() < 1e-12
    assert (slope[found == 0] >= 0).all()
    with pytest.raises(ValueError, match="infs or NaNs"):
        drawn_to_ones(np.array([[1.0, np.inf]]), pull)
