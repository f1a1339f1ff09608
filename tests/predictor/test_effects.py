"""Effects by name."""

import re

import pytest

from predictor.effects import DEFAULT_EFFECTS, Effect, Points, check_effects, effects_at, usual_effect


def test_effects_come_in_one_order():
    assert check_effects(["wae", "AE", "E", "e"]) == (Effect.E, Effect.AE, Effect.WAE)


@pytest.mark.parametrize(
    ("effects", "message"),
    [
        (["E", "X"], "effect 'X': allowed are E, A, AE, E|A, W, WAE"),
        ([], "no effect was given; allowed are E, A, AE, E|A, W"),
    ],
)
def test_effects_that_there_are_not(effects, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_effects(effects)


def test_effects_at_points():
    flow, operands = Points.DATAFLOW, Points.OPERANDS
    assert effects_at(flow, None, DEFAULT_EFFECTS) == DEFAULT_EFFECTS
    assert effects_at(flow, ["operands", "E|A"], ()) == (Effect.E_GIVEN_A, Effect.OPERANDS)
    assert effects_at(operands, None, DEFAULT_EFFECTS) == (Effect.WAE,)
    assert effects_at(operands, ["W", "a"], ()) == (Effect.A, Effect.W)
    assert [usual_effect(["E", "WAE"], at) for at in (flow, operands)] == ["E", "WAE"]
    assert [usual_effect(["E", "A", "AE"], at) for at in (flow, operands)] == ["AE", "AE"]
