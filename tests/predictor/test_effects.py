"""Effects by name."""

import re

import pytest

from predictor.effects import Effect, check_effects


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
