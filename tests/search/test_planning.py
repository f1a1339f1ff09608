"""What a ranking is going to do."""

import pytest

from predictor.effects import DEFAULT_EFFECTS, Effect
from search.planning import RankingOptions, plan
from search.policy import BY_E, DEFAULT
from tests.nets import small_workload


@pytest.fixture(scope="module")
def workload():
    return small_workload(4)


def test_plan(workload):
    planned = plan(workload)
    assert (planned.candidates, planned.minibatches, planned.points) == (498, 4, 3)
    assert planned.gradients < planned.exhaustive / 10
    assert planned.exhaustive == 498 * 4
    # 15 anchors on two mini-batches; 12 race to two and 10 on.
    assert (planned.measured, planned.gradients) == (15 + 12, 15 * 2 + 12 * 2 + 10 * 2)
    # Effects that do not order are measured for anchors on one.
    assert plan(workload, effects=["E", "AE"]).gradients == planned.gradients + 15
    by_e = plan(workload, effects=["E"])
    assert (by_e.gradients, by_e.exhaustive) == (22 * 2 + 14 * 2 + 12 * 2, 498 * 4)
    assert plan(workload, effects=["E", "A", "AE"]).exhaustive == 498 * 4 * 3
    assert planned.seconds > 0
    assert plan(workload, exhaustive=True).gradients == planned.exhaustive
    few = plan(workload, ["FP134", "FP143"])
    assert (few.measured, few.gradients) == (2, 2 * 4 * 3)


class Counting:
    """A format that counts the tensors that it rounds."""

    name, digest = "counting", "counting-1"

    def __init__(self):
        self.tensors = 0

    def round(self, x):
        self.tensors += 1
        return x


def test_exact_layers_and_one_term_are_planned_as_they_are_measured(workload):
    def planned(**arguments):
        format = Counting()
        points = plan(workload, [format], minibatches=1, effects=["AE"], **arguments).points
        return points, format.tensors / 3  # AE is measured three times

    # Activations of three points, two terms of the input's; errors of two, two terms of the last one's.
    assert planned() == (3, 3 + 1 + 2 + 1)
    assert planned(two_terms=False) == (3, 3 + 2)
    assert planned(exact=["0"]) == (2, 2 + 1 + 1 + 1)
    with pytest.raises(ValueError, match="there is no layer 'absent' to keep exact"):
        plan(workload, exact=["absent"])


def test_many_are_ranked_by_ae_alone_unless_another_orders_them():
    assert RankingOptions().checked_effects(498) == ((Effect.AE,), Effect.AE)
    assert RankingOptions(by="ae").checked_effects(25) == ((Effect.AE,), Effect.AE)
    assert RankingOptions(by="e").checked_effects(498) == ((Effect.E,), Effect.E)
    assert RankingOptions(by="A").checked_effects(25) == ((Effect.A,), Effect.A)
    for options in (RankingOptions(), RankingOptions(by="E")):
        assert options.checked_effects(24)[0] == DEFAULT_EFFECTS
    assert [RankingOptions(by=by).policy for by in (None, "AE", "A", "e")] == [DEFAULT, DEFAULT, DEFAULT, BY_E]
    assert RankingOptions(["E"]).policy == BY_E
    assert (DEFAULT.on(1), DEFAULT.on(16), BY_E.on(16)) == ((1, 1), (2, 1), (2, 2))


def test_an_effect_that_is_never_predicted_is_refused_with_the_remedy_and_measured_of_few(workload):
    for refused in (RankingOptions(by="WAE").checked_effects, lambda count: plan(workload, by="WAE")):
        with pytest.raises(
            ValueError, match=r"effect WAE is measured, never predicted: rank exhaustively, or at most 24"
        ):
            refused(498)
    assert RankingOptions(by="WAE").checked_effects(24) == ((*DEFAULT_EFFECTS, Effect.WAE), Effect.WAE)
    assert RankingOptions(by="WAE", exhaustive=True).checked_effects(498) == ((Effect.WAE,), Effect.WAE)
    assert plan(workload, ["FP134"], by="WAE").gradients == 4 * 4
