"""The surrogate against angles whose law is known."""

import numpy as np
import pytest

from predictor.effects import Effect
from predictor.estimate.regression import LEAST
from predictor.estimate.surrogate import Observation, fit, places, spread, to_degrees, to_scale
from predictor.gradient.noise import Kind

KINDS = [Kind.A] * 6 + [Kind.E] * 4


def made(formats=200, minibatches=8, seed=0):
    """Ratios (formats, 10), true weights and angles (formats, minibatches): tan^2 is linear in the ratios, mini-batches
    scale all alike.

    Formats differ in how much noise they make, and in which of the tensors in two ways.
    """
    generator = np.random.default_rng(seed)
    level = np.exp(generator.uniform(-9, -3, formats))
    ratios = level[:, None] * np.exp(0.4 * generator.normal(size=(formats, 2)) @ generator.normal(size=(2, 10)))
    weights = np.array([0, 2.0, 0, 1, 0.5, 0, 3, 0, 0, 1])
    common = np.exp(0.15 * generator.normal(size=minibatches))
    noise = np.exp(0.1 * generator.normal(size=(formats, minibatches)))
    return ratios, weights, np.degrees(np.arctan(np.sqrt((ratios @ weights)[:, None] * common * noise)))


def test_the_scale_is_smooth_through_90_degrees():
    angle = np.array([1e-4, 1.0, 45, 89.9, 90, 91, 170])
    assert to_degrees(to_scale(angle)) == pytest.approx(angle, rel=1e-12)
    assert np.diff(to_scale(np.array([89.0, 90, 91]))) == pytest.approx(np.full(2, 2 * np.radians(1)), rel=1e-3)


def test_an_effect_feels_only_its_own_tensors():
    ratios, _, angles = made()
    observed = [Observation(i, 0, angles[i, 0]) for i in range(30)]
    assert fit(Effect.E, KINDS, ratios, observed, 8).weights[:6].tolist() == [0] * 6
    assert fit(Effect.A, KINDS, ratios, observed, 8).weights[6:].tolist() == [0] * 4
    assert (fit(Effect.AE, KINDS, ratios, observed, 8).weights > 0).any()


def test_predictions_and_their_intervals():
    inside = []
    for seed in range(4):
        ratios, _, angles = made(seed=seed)
        chosen = spread(places(ratios)[0], 24, [0])
        observed = [Observation(i, b, angles[i, b]) for i in chosen for b in range(2)]
        observed += [Observation(i, b, angles[i, b]) for i in chosen[:6] for b in range(2, 8)]
        surrogate = fit(Effect.AE, KINDS, ratios, observed, 8)
        mean, low, high = surrogate.predict(ratios, range(200))
        truth = angles.mean(1)
        rest = np.setdiff1d(np.arange(200), chosen)
        assert np.median(np.abs(mean / truth - 1)[rest]) < 0.1
        inside.append(np.mean((low <= truth) & (truth <= high)))
        assert 0.9 <= surrogate.held_out <= 1
        new = surrogate.predict(ratios)
        assert new[0][rest] == pytest.approx(mean[rest], rel=1e-9)
    assert np.mean(inside) >= 0.93


def test_what_was_measured_everywhere_is_not_predicted_otherwise():
    ratios, _, angles = made()
    observed = [Observation(i, b, angles[i, b]) for i in range(30) for b in range(8)]
    mean, low, high = fit(Effect.AE, KINDS, ratios, observed, 8).predict(ratios, range(200))
    # The mean of logarithms comes back; from there to the mean of angles it is half their variance, for which typical
    # values stand in.
    geometric = to_degrees(to_scale(angles[:30]).mean(1))
    assert ((geometric < mean[:30]) & (mean[:30] < 1.05 * geometric)).all()
    assert np.std(mean[:30] / geometric) < 0.01
    assert ((high - low)[:30] < 0.01 * mean[:30]).all()
    assert ((high - low)[30:] > 0.05 * mean[30:]).all()


def test_ratios_that_are_no_numbers():
    ratios, _, angles = made()
    ratios[0], ratios[1], ratios[2] = 0, np.inf, np.nan
    observed = [Observation(i, 0, angles[i, 0]) for i in range(3, 40)]
    mean, low, high = fit(Effect.AE, KINDS, ratios, observed, 8).predict(ratios, range(200))
    assert np.isfinite([mean, low, high]).all()
    assert mean[0] < mean[3:].min()
    assert (mean[1:3] > 60).all()
    assert LEAST > 0


def test_one_observation_is_enough_and_none_is_refused():
    ratios, _, angles = made()
    mean, low, high = fit(Effect.AE, KINDS, ratios, [Observation(5, 0, angles[5, 0])], 8).predict(ratios, range(200))
    assert ((low < mean) & (mean < high)).all()
    with pytest.raises(ValueError, match="at least one"):
        fit(Effect.AE, KINDS, ratios, [], 8)


def test_anchors_stand_where_the_formats_are():
    generator = np.random.default_rng(0)
    clusters = np.concatenate([generator.normal(size=(50, 2)) * 0.1 + centre for centre in ([0, 0], [5, 0], [0, 5])])
    chosen = spread(np.concatenate([clusters, [[30.0, 30.0]]]), 4, [3])
    assert chosen[0] == 3
    assert {int(i) // 50 for i in chosen} == {0, 1, 2, 3}
    assert sorted(spread(clusters, 500, [])) == list(range(150))
