"""The gap that trainings of several networks tell: what never falls, what is held by networks that were left out."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from predictor.effects import Effect
from predictor.risk import DIVERGED, coverage, mean_gaps, risk_of


def trainings(slopes, count=40, noise=0.0, seed=0):
    """Networks whose gap is their slope times the angle's square, but for noise in the logarithm."""
    random = np.random.default_rng(seed)
    angles = np.geomspace(0.5, 40, count)
    return pd.concat(
        pd.DataFrame(
            {
                "network": f"net{number}",
                "name": [f"f{place}" for place in range(count)],
                "seed": 0,
                "angle_E": angles,
                "gap": np.expm1(np.log1p(slope * angles**2) + noise * random.standard_normal(count)),
            }
        )
        for number, slope in enumerate(slopes)
    )


def test_equal_networks_give_their_own_gap_without_an_interval():
    of = trainings([1e-3, 1e-3])
    risk = risk_of(of, Effect.E)
    gap, low, high = risk.gaps(of["angle_E"][:40])
    assert gap == pytest.approx(of["gap"][:40].to_numpy(), rel=1e-12)
    assert low == pytest.approx(gap, abs=1e-9)
    assert high == pytest.approx(gap, abs=1e-9)
    assert (risk.networks, risk.trainings) == (("net0", "net1"), 80)


def test_between_and_beyond_what_was_trained():
    # By hand: log(1 + gap) is the mean of both at 10 degrees, and half of that at 5, on the way from 0.
    of = pd.DataFrame(
        {"network": ["a", "b"], "seed": 0, "angle_E": [10.0, 10.0], "gap": [np.expm1(0.2), np.expm1(0.4)]}
    )
    gap, low, high = risk_of(of, Effect.E).gaps([0, 5, 10, 11, np.nan])
    assert np.log1p(gap[:4]) == pytest.approx([0, 0.15, 0.3, 0.3])
    assert np.isinf(high).tolist() == [False, False, False, True, False]
    assert not np.isinf(low).any()
    assert np.isnan([gap[4], low[4], high[4]]).all()
    # Left out, a lies 0.2 below what b says, and b 0.2 above a; both are so far off where the function is 0.4 and 0.2.
    risk = risk_of(of, Effect.E)
    assert risk.scatter == pytest.approx(0.2)
    assert (risk.below, risk.above) == (pytest.approx(0.2 / (0.2 + 0.4)), pytest.approx(0.2 / (0.2 + 0.2)))


def test_the_gap_never_falls_and_is_never_negative():
    of = trainings([1e-3, 2e-3, 5e-4], noise=0.3)
    gap, low, high = risk_of(of, Effect.E).gaps(np.geomspace(0.01, 40, 500))
    for values in (gap, high):
        assert (values[1:] >= values[:-1]).all()
    assert (gap >= 0).all()
    assert ((low <= gap) & (gap <= high)).all()


def test_an_interval_ends_where_trainings_diverge_and_where_nothing_is_gained():
    of = trainings([1e-3, 1e-2, 1e-3], noise=0.2)
    risk = risk_of(of, Effect.E)
    gap, low, high = risk.gaps(of["angle_E"][:40])
    level = np.log1p(gap)
    plain_low = np.expm1(level - risk.below * (risk.scatter + level))
    assert (low == np.maximum(plain_low, np.expm1(-risk.below * risk.scatter))).all()
    assert (low > plain_low).any()
    plain_high = np.expm1(level + risk.above * (risk.scatter + level))
    assert (np.isinf(high) == (plain_high >= DIVERGED)).all()
    assert np.isinf(high).any()
    assert (high[~np.isinf(high)] == plain_high[~np.isinf(high)]).all()


def test_the_largest_angle_of_a_gap():
    risk = risk_of(trainings([1e-3, 1e-3]), Effect.E)
    for gap in (0.003, 0.01, 0.1, 1.0):
        angle = risk.angle_within(gap)
        assert risk.gaps([angle])[0] == pytest.approx([gap])
        assert risk.gaps([angle * 1.001])[0] > gap
    assert risk.angle_within(1e-3 * 40**2 + 1e-9) == np.inf


def test_every_network_weighs_the_same():
    one, other = trainings([1e-3]), trainings([4e-3]).assign(network="other")
    alone = risk_of(pd.concat([one, other]), Effect.E).gaps([10.0])[0]
    thrice = risk_of(pd.concat([one, one, one, other]), Effect.E).gaps([10.0])[0]
    assert thrice == pytest.approx(alone, rel=1e-12)


def test_intervals_hold_a_network_that_was_left_out():
    of = trainings([1e-3, 1.5e-3, 7e-4, 1.2e-3, 9e-4], count=100, noise=0.05)
    held = coverage(of, Effect.E)
    assert list(held.index) == [f"net{number}" for number in range(5)]
    assert (held >= 0.9).all()
    # One that behaves in another way is not held, and that is told.
    strange = trainings([0.5]).assign(network="strange")
    assert coverage(pd.concat([of, strange]), Effect.E)["strange"] < 0.5


def test_seeds_count_not_trainings():
    """Every format of a seed shares the training of float32 that it is held against."""
    shifts = {0: 0.1, 1: 0.0, 2: -0.1}  # what float32 of the seed does to all logarithms

    def seeded(network, own=shifts):
        of = trainings([1e-3]).assign(network=network)
        return pd.concat(of.assign(seed=seed, gap=np.expm1(np.log1p(of["gap"]) + by)) for seed, by in own.items())

    of = pd.concat([seeded("a"), seeded("b")])
    risk = risk_of(of, Effect.E)
    # By hand: z is +-0.1 or 0 over the scatter and the level.
    level = np.log1p(1e-3 * np.geomspace(0.5, 40, 40) ** 2)
    parts = 0.1 / (risk.scatter + level)
    within = np.quantile(np.abs(parts - parts.mean()), 1.0)  # about the two seeds' own means
    next_seed = stats.t.ppf(0.975, 2) * parts.mean() * np.sqrt(1 + 1 / 3)
    assert next_seed < risk.above < np.hypot(next_seed, within)
    # A network with another seed, as far off again, is held, where the range of these trainings would not hold it.
    assert parts.max() < risk.above
    far = seeded("far", {3: 0.2})
    assert coverage(pd.concat([of, far]), Effect.E)["far"] > 0.95
    # Of one seed each, the range of trainings is all there is.
    alone = risk_of(of[of["seed"] == 0], Effect.E)
    assert (alone.below, alone.above) == (pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9))


def test_a_diverged_training_counts_with_a_large_gap():
    of = trainings([1e-3, 1e-3])
    of.loc[of["angle_E"] == of["angle_E"].max(), "gap"] = np.inf
    gap, _, _ = risk_of(of, Effect.E).gaps([of["angle_E"].max()])
    assert gap == pytest.approx([DIVERGED])


def test_trainings_as_a_validation_writes_them():
    """Which have an angle beside those of the effects, that of another effect maybe."""
    of = trainings([1e-3, 2e-3])
    more = of.assign(angle=99.0, angle_A=50.0, seed=0, outcome="finished", loss=1.0, metric=None)
    told = [risk_of(each, Effect.E).gaps([1.0, 9.0]) for each in (of, more)]
    for one, other in zip(*told, strict=True):
        assert (one == other).all()


def test_what_has_no_gap_or_angle_does_not_count():
    of = trainings([1e-3, 1e-3])
    more = pd.concat([of, of.head(3).assign(gap=np.nan), of.head(2).assign(angle_E=np.nan)])
    assert risk_of(more, Effect.E).trainings == 80
    with pytest.raises(ValueError, match="trainings of 1 network with an angle of E and a gap are there"):
        risk_of(of[of["network"] == "net1"], Effect.E)


def test_formats_by_how_they_trained():
    of = pd.DataFrame(
        {
            "network": ["a", "a", "a", "b", "a", "b"],
            "name": ["FP134", "FP134", "INT8", "INT8", "FP125", "FP125"],
            "seed": [0, 1, 0, 0, 0, 0],
            "gap": [0.0, 0.0, np.expm1(0.2), np.expm1(0.4), np.inf, -0.5],
        }
    )
    found = mean_gaps(of)
    assert list(found.index) == ["INT8", "FP125"]  # FP134 was not trained on b
    assert found["INT8"] == pytest.approx(np.expm1(0.3))
    assert found["FP125"] == pytest.approx(np.expm1((np.log1p(DIVERGED) + np.log(0.5)) / 2))
