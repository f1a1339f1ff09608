"""Synthesized profiles against all profiles there are."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import formats
from formats import Scale
from predictor.gradient.noise import BINADES, PRECISIONS, NoiseTables, has_table, noise_table
from predictor.scheme import CURRENT
from search.knapsack import Constraints, ProfileShape, ScoreTable, synthesize, synthesize_pairs

CONSTRAINTS = [
    Constraints(),
    Constraints(headrooms=(0,)),
    Constraints(headrooms=(2, 0)),
    Constraints(binades=3),
    Constraints(binades=1),
    Constraints(shape=ProfileShape.NON_INCREASING),
    Constraints(shape=ProfileShape.UNIMODAL),
    Constraints(precisions=1),
    Constraints(precisions=2),
    Constraints(runs=1),
    Constraints(runs=3),
    Constraints(precisions=2, runs=4),
    Constraints(binades=6, shape=ProfileShape.UNIMODAL, precisions=2, runs=3, headrooms=(1,)),
    Constraints(shape=ProfileShape.NON_INCREASING, precisions=3),
]


def all_profiles(budget):
    """Every profile of at most `budget` magnitudes besides zero."""
    for p in range(1, budget.bit_length() + 1):
        price = 1 << (p - 1)
        if price <= budget:
            yield (p,)
            for rest in all_profiles(budget - price):
                yield (p, *rest)


def fulfils(profile, constraints):
    rises = [b > a for a, b in itertools.pairwise(profile)]
    falls = [b < a for a, b in itertools.pairwise(profile)]
    return (
        (constraints.binades is None or len(profile) <= constraints.binades)
        and (constraints.precisions is None or len(set(profile)) <= constraints.precisions)
        and (constraints.runs is None or len(list(itertools.groupby(profile))) <= constraints.runs)
        and (constraints.shape != ProfileShape.NON_INCREASING or not any(rises))
        and (constraints.shape != ProfileShape.UNIMODAL or True not in falls or True not in rises[falls.index(True) :])
    )


def by_definition(table, profile, headroom):
    total = table.ended[max(len(profile) - headroom + 1, 0)]
    for d, p in enumerate(profile[headroom:]):
        total += table.saturated[p] if d == 0 and headroom == 0 else table.kept[d, p]
    return total


def random_table(seed):
    """Noise with no order in it, so that nothing but a search of all profiles finds the best."""
    rng = np.random.default_rng(seed)
    return ScoreTable(
        rng.random((BINADES, PRECISIONS)) - 0.3 * np.arange(PRECISIONS),
        rng.random(PRECISIONS),
        8 * rng.random(BINADES + 2),
    )


@pytest.fixture(scope="module")
def tensors():
    torch.manual_seed(0)
    return [torch.randn(3000) * torch.exp2(2 * torch.randn(3000)), torch.randn(2000).relu(), torch.rand(500) + 3.5]


@pytest.fixture(scope="module")
def tables(tensors):
    return NoiseTables.of([noise_table(x) for x in tensors])


WEIGHTS = np.array([0.5, 2.0, 0.25])


@pytest.mark.parametrize("bits", [2, 4, 5])
@pytest.mark.parametrize("constraints", CONSTRAINTS, ids=str)
def test_the_best_of_all_profiles(bits, constraints):
    profiles = list(all_profiles((1 << (bits - 1)) - 1))
    assert len(set(profiles)) == len(profiles) == {2: 1, 4: 71, 5: 6876}[bits]
    for seed in range(4):
        table = random_table(seed)
        every = {
            (profile, headroom): by_definition(table, profile, headroom)
            for profile in profiles
            if fulfils(profile, constraints)
            for headroom in constraints.headrooms_in(CURRENT)
        }
        found = synthesize(table, bits, constraints, 8)
        # Precision in a binade above all data changes nothing, so that several formats may share a score.
        keys = [(e.format.profile, e.format.scale.room) for e in found]
        assert len(set(keys)) == len(keys) == min(8, len(every))
        assert [e.score for e in found] == pytest.approx([every[key] for key in keys], rel=1e-12)
        assert [e.score for e in found] == pytest.approx(sorted(every.values())[:8], rel=1e-12)
        assert {e.format.bits for e in found} == {bits}


def test_scores_are_weighted_sums_of_noise(tables):
    table = ScoreTable.of([tables], [WEIGHTS])
    chosen = [f for f in formats.catalogue() if has_table(f)]
    width = max(f.binades for f in chosen)
    padded = np.array([f.profile + (0,) * (width - f.binades) for f in chosen], np.int8)
    for headroom in (0, 1, 3):
        expected = [tables.nsr(f.with_scale(Scale(headroom=headroom))) @ WEIGHTS for f in chosen]
        assert table.score(padded, headroom) == pytest.approx(np.array(expected), rel=1e-12)
    deep = formats.from_profile((1,) * 127, 8)
    assert table.score(np.array([deep.profile]))[0] == pytest.approx(tables.nsr(deep) @ WEIGHTS)
    # A profile that ends above the largest magnitude keeps nothing.
    assert table.score(np.array([[3, 2]]), 5)[0] == pytest.approx(WEIGHTS.sum())


def test_passes_count_alike(tensors, tables):
    other = NoiseTables.of([noise_table(x.square()) for x in tensors])
    table = ScoreTable.of([tables, other], [WEIGHTS, 3 * WEIGHTS])
    format = formats.get("FP134")
    expected = (tables.nsr(format) @ WEIGHTS + other.nsr(format) @ (3 * WEIGHTS)) / 2
    assert table.score(np.array([format.profile]))[0] == pytest.approx(expected)


def test_a_clamped_scale_is_scored_as_if_it_were_not():
    x = torch.randn(1000)
    plain, tiny = (NoiseTables.of([noise_table(x * 2.0**e)]) for e in (0, -135))
    profile, one = np.array([formats.get("FP134").profile]), np.ones(1)
    assert ScoreTable.of([tiny], [one]).score(profile) != tiny.nsr(formats.get("FP134"))
    assert ScoreTable.of([tiny], [one]).score(profile) == pytest.approx(plain.nsr(formats.get("FP134")), rel=1e-2)


@pytest.fixture(scope="module")
def best(tables):
    table = ScoreTable.of([tables], [WEIGHTS])
    return table, synthesize(table)[0]


def test_nothing_in_the_catalogue_is_better(tables, best):
    for bits in (8, 7, 6):
        score = synthesize(best[0], bits)[0].score
        assert all(score <= (tables.nsr(f) @ WEIGHTS) * (1 + 1e-12) for f in formats.catalogue(bits) if has_table(f))
    assert best[1].score < 0.95 * (tables.nsr(formats.get("FP134")) @ WEIGHTS)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=40), st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_no_other_profile_is_better(best, profile, headroom):
    while sum(1 << (p - 1) for p in profile) > 127:
        profile = profile[:-1]
    if profile:
        assert best[0].score(np.array([profile]), headroom)[0] >= best[1].score * (1 - 1e-12)


def test_saturation_is_what_headroom_saves(best):
    """Values just below a power of two: one binade above them, of a single magnitude, keeps them from saturating."""
    x = torch.rand(1000) * 0.001 + 0.999
    table = ScoreTable.of([NoiseTables.of([noise_table(x)])], [np.ones(1)])
    found = synthesize(table, 4)[0]
    assert found.format.scale.headroom == 1
    assert found.score < synthesize(table, 4, Constraints(headrooms=(0,)))[0].score / 100


@pytest.mark.parametrize("bits", [3, 5, 8])
def test_names_lead_back_to_the_format(bits):
    for seed in range(3):
        for entry in synthesize(random_table(seed), bits, count=5):
            again = formats.get(entry.format.name)
            assert again == entry.format
            assert again.digest == entry.format.digest
            x = torch.randn(100)
            assert torch.equal(again.round(x), entry.format.round(x))


def test_pairs():
    tables = [random_table(seed) for seed in (1, 2)]
    singles = [synthesize(table, 5, count=40) for table in tables]
    every = sorted((a.score + e.score, a.format.name, e.format.name) for a in singles[0] for e in singles[1])
    found = synthesize_pairs(*tables, 5, count=6)
    assert [(pair.activation.name, pair.error.name) for pair, _ in found] == [entry[1:] for entry in every[:6]]
    assert [score for _, score in found] == pytest.approx([entry[0] for entry in every[:6]])


def test_refusals(tables):
    table = random_table(0)
    for bits in (1, 9):
        with pytest.raises(ValueError, match=f"{bits} bits: formats of 2 to 8"):
            synthesize(table, bits)
    with pytest.raises(ValueError, match="at least 1"):
        synthesize(table, count=0)
    for arguments, message in (
        ({"binades": 0}, "at most 0 binades"),
        ({"runs": 1.5}, "at most 1.5 runs"),
        ({"shape": "falling"}, "shape 'falling': allowed are any, unimodal, non-increasing"),
        ({"headrooms": ()}, "no headroom"),
        ({"headrooms": (-1,)}, "headroom -1"),
    ):
        with pytest.raises(ValueError, match=message):
            Constraints(**arguments)
    for weights, message in (
        (np.ones(2), "weights of shape"),
        (-WEIGHTS, "not negative"),
        (WEIGHTS * np.nan, "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            ScoreTable.of([tables], [weights])
    with pytest.raises(ValueError, match="1 passes and 0 sets"):
        ScoreTable.of([tables], [])
    for profiles, error, message in (
        ([[5, 0, 4]], ValueError, "only at its end"),
        ([[0, 0]], ValueError, "only at its end"),
        ([[12]], ValueError, "precisions from 12"),
        ([[1.5]], TypeError, "whole numbers"),
        ([5, 4], TypeError, "one row a profile"),
    ):
        with pytest.raises(error, match=message):
            table.score(np.array(profiles))
