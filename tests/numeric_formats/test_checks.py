"""Refusals of arguments."""

import math
from enum import StrEnum

import numpy as np
import pytest

from numeric_formats.checks import at_least, not_allowed, number, one_of


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


def test_a_choice_is_a_member_or_refused_with_the_list():
    assert one_of("colour", Colour, "green") is Colour.GREEN
    assert one_of("colour", Colour, Colour.RED) is Colour.RED
    for given in ("blue", None, 1):
        with pytest.raises(ValueError, match=rf"^colour {given!r}: allowed are red, green$"):
            one_of("colour", Colour, given)
    assert str(not_allowed("bits", 3, (1, 2, 4))) == "bits 3: allowed are 1, 2, 4"


def test_too_few():
    at_least("3 workers", 3)
    at_least("0 seconds", 0, 0)
    for given, least, message in ((0, 1, "0 of them: at least 1 is needed"), (math.nan, 2, "nan of them: at least 2")):
        with pytest.raises(ValueError, match=f"^{message}"):
            at_least(f"{given} of them", given, least)


@pytest.mark.parametrize(
    ("given", "low", "high", "options", "message"),
    [
        (0, 1, math.inf, {"whole": True}, "rate 0: a whole number of at least 1 is needed"),
        (True, 0, 1, {"whole": True}, "rate True: a whole number from 0 to 1 is needed"),
        (1.0, 0, 1, {"whole": True}, "rate 1.0: a whole number from 0 to 1 is needed"),
        (9, 0, 7, {"whole": True, "unit": "binades"}, "rate 9: a whole number of binades from 0 to 7 is needed"),
        (1.5, 0.2, 1, {}, "rate 1.5: a number from 0.2 to 1 is needed"),
        (math.nan, 0, 1, {}, "rate nan: a number from 0 to 1 is needed"),
        (math.inf, 0, math.inf, {}, "rate inf: a number of at least 0 is needed"),
        ("1", 0, 1, {}, "rate '1': a number from 0 to 1 is needed"),
    ],
)
def test_numbers_outside_a_range(given, low, high, options, message):
    with pytest.raises(ValueError) as refused:
        number("rate", given, low, high, **options)
    assert str(refused.value) == message


def test_numbers_in_a_range():
    for given, whole in ((0, True), (1, True), (0.5, False), (np.float32(1), False), (np.float64(0), False)):
        number("rate", given, 0, 1, whole=whole)
