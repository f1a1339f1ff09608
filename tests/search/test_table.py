"""Tables: ties, what orders partial results, the bound of regret."""

import numpy as np
import pandas as pd
from scipy import stats

import formats
from formats.pairs import candidate as candidate_of
from predictor.effects import Effect
from predictor.statistics import interval, tied_ranks
from search.candidates import choose
from search.table import MeasuredAngles, description_row, minibatches_to_tell, regret, tabulate, with_differences


def test_ties_by_paired_differences():
    angles = MeasuredAngles()
    values = {
        0: [1.0, 2.0, 3.0],
        1: [1.1, 1.9, 3.1],  # wanders about the first: a tie, though its own interval is wide
        2: [1.3, 2.3, 3.3],  # always 0.3 above the first: no tie, though the intervals overlap
        3: [1.31, 2.29, 3.35],  # a tie with its own group's leader
        4: [9.0],  # one mini-batch: no interval, no tie
    }
    for candidate, of_minibatch in values.items():
        angles.by_minibatch[candidate, Effect.E] = dict(enumerate(of_minibatch))
    assert tied_ranks([angles.of(candidate, Effect.E) for candidate in range(5)]) == [1, 1, 3, 3, 5]


def test_differences_smaller_than_an_angle_repeats_itself_are_ties():
    values = [[10.0, 20.0, 30.0], [10.05, 20.05, 30.05], [10.15, 20.15, 30.15], [10.30, 20.30, 30.30]]
    by_minibatch = [dict(enumerate(row)) for row in values]
    # Each always ahead of the next: the paired intervals tell all four apart.
    assert tied_ranks(by_minibatch) == [1, 2, 3, 4]
    # 0.05 of 20 is 0.25%, 0.15 are 0.75%, 0.3 are 1.5%.
    assert tied_ranks(by_minibatch, 0.004) == [1, 1, 3, 4]
    assert tied_ranks(by_minibatch, 0.01) == [1, 1, 1, 4]
    assert tied_ranks([{0: 10.0}, {0: 10.05}], 0.01) == [1, 1]  # on one mini-batch, of which there is no interval
    table = tabulate(
        choose(["FP134", "FP143", "INT8", "FP152"]), [Effect.AE], Effect.AE, angles_of(values), {}, minibatches=3
    )
    assert table["rank"].tolist() == [1, 1, 1, 4]
    # Paired: each is above the first by the same on every mini-batch.
    table = with_differences(table, choose(["FP134", "FP143", "INT8", "FP152"]), Effect.AE, angles_of(values))
    columns = ["difference_AE", "difference_low_AE", "difference_high_AE"]
    assert table[columns].round(9).to_numpy().tolist() == [[less] * 3 for less in (0, 0.05, 0.15, 0.3)]


def test_partial_results_are_ordered_by_common_minibatches():
    # The second mini-batch turns every gradient further; only one format has run on it.
    angles = MeasuredAngles({(0, Effect.AE): {0: 1.0, 1: 9.0}, (1, Effect.AE): {0: 2.0}})
    candidates = [formats.get(name) for name in ("INT8", "FP134", "FP143")]
    table = tabulate(candidates, [Effect.AE], Effect.AE, angles, {}, 2)
    assert table.name.tolist() == ["INT8", "FP134", "FP143"]
    assert table.angle_AE.tolist()[:2] == [5.0, 2.0]
    table = with_differences(table, candidates, Effect.AE, angles)
    assert table.difference_AE.tolist()[1] == 1.0  # on the one mini-batch that both have
    assert table.difference_low_AE.isna().tolist() == [False, True, True]


def test_standards_and_codebooks_say_their_bits_family_and_profile():
    def row(name):
        return tuple(description_row(candidate_of(name)).values())

    assert row("E4M3") == ("E4M3", 8, "standard", "tensor", "4x15,3,2,1", 18)
    assert row("E5M2/block128") == ("E5M2/block128", 8, "standard", "block", "3x30,2,1", 32)
    assert row("E4M3/real/row") == ("E4M3/real/row", 8, "standard", "block", "4x15,3,2,1", 18)
    assert row("NF4/block64") == ("NF4/block64", 4, "codebook", "block", "", None)
    assert row("posit<8,2>") == ("posit<8,2>", 8, "codebook", "tensor", "", None)
    assert row("NVFP4") == ("NVFP4", 4, "standard", "block", "2x3,1", 4)
    assert row("INT8/real")[1:4] == (8, "INT", "tensor")
    assert row("E4M3+NF4") == ("E4M3+NF4", 8, "standard+codebook", "tensor+tensor", "4x15,3,2,1+", None)


def test_how_many_mini_batches_tell_two_formats_apart():
    first, second = {0: 1.0, 1: 2.0, 2: 3.0}, {0: 1.4, 1: 1.9, 2: 3.3}
    needed = minibatches_to_tell(Effect.AE, first, second)
    spread = np.std([0.4, -0.1, 0.3], ddof=1)

    def half(count):
        return stats.t.ppf(0.975, count - 1) * spread / np.sqrt(count)

    assert half(needed) < 0.2 <= half(needed - 1)
    assert minibatches_to_tell(Effect.AE, first, {0: 2.0, 1: 3.01, 2: 3.99}) is None  # they are told apart already
    assert minibatches_to_tell(Effect.AE, {0: 1.0}, {0: 2.0}) is None
    assert minibatches_to_tell(Effect.AE, first, {0: 1.1, 1: 1.9, 2: 3.0}) is None  # equal in the mean
    # By less than an angle repeats itself: more mini-batches tell nothing of formats.
    close = {0: 1.1, 1: 1.9, 2: 3.05}
    assert minibatches_to_tell(Effect.AE, first, close) is None
    assert minibatches_to_tell(Effect.E, first, close) is not None


def angles_of(rows):
    angles = MeasuredAngles()
    for index, row in enumerate(rows):
        angles.by_minibatch[index, Effect.AE] = dict(enumerate(row))
    return angles


def test_the_bound_of_regret():
    chosen = choose(["FP134", "FP143", "INT8"])
    table = pd.DataFrame({"name": ["FP134", "FP143", "INT8"], "angle_AE": [2.0, 2.1, 9.0], "low_AE": [1.0, 1.1, 1.5]})
    # FP143 wanders about FP134 by up to 0.3; INT8 was not measured, and may be as low as 1.5.
    both = angles_of([[1.0, 2.0, 3.0], [1.3, 1.9, 3.1], []])
    _, _, high = interval(np.array([-0.3, 0.1, -0.1]))
    assert regret(chosen, table, both, Effect.AE) == max(high, 0.5)
    alone = angles_of([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0], [8.0, 9.0, 10.0]])
    # Not less than the first's own angle repeats itself within.
    assert regret(chosen, table, alone, Effect.AE) == 0.01 * 2
    assert np.isnan(regret(chosen, table, angles_of([[1.0], [2.0], [9.0]]), Effect.AE))
    # Of a format about which nothing is known all is possible; no angle is below 0, so that no lead exceeds the first's
    # own.
    unknown = table.assign(low_AE=[1.0, 1.1, np.nan])
    assert regret(chosen, unknown, both, Effect.AE) == 2
    assert regret(chosen, table, angles_of([[1.0, 2.0, 3.0], [30.0, 1.0, 1.0], []]), Effect.AE) == 2
