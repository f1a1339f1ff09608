"""The rule of rounding for one number, against values that were worked out by hand."""

from fractions import Fraction

import pytest

from formats import Rounding
from formats.rounding import rounded

# The profile (2, 2, 1) at T = 0: steps of 1/2 from 1 on, of 1/4 from 1/2 on, and 1/4 below.
MAGNITUDES = [Fraction(value) for value in ("0", "1/4", "1/2", "3/4", "1", "3/2")]
VALUES = [*(-value for value in reversed(MAGNITUDES[1:])), *MAGNITUDES]

# x, and what it becomes to nearest, nearest away, toward zero, up, down.
TABLE = [
    ("0", "0", "0", "0", "0", "0"),
    ("3/4", "3/4", "3/4", "3/4", "3/4", "3/4"),
    # Ties: 0 and 2/4 and 4/4 are the even multiples of 1/4, 2/2 of 1/2.
    ("1/8", "0", "1/4", "0", "1/4", "0"),
    ("3/8", "1/2", "1/2", "1/4", "1/2", "1/4"),
    ("5/8", "1/2", "3/4", "1/2", "3/4", "1/2"),
    ("7/8", "1", "1", "3/4", "1", "3/4"),
    ("5/4", "1", "3/2", "1", "3/2", "1"),
    ("-1/8", "0", "-1/4", "0", "0", "-1/4"),
    ("-3/8", "-1/2", "-1/2", "-1/4", "-1/4", "-1/2"),
    ("-5/4", "-1", "-3/2", "-1", "-1", "-3/2"),
    # Just beside a tie.
    ("1249/10000", "0", "0", "0", "1/4", "0"),
    ("1251/10000", "1/4", "1/4", "0", "1/4", "0"),
    ("-1251/10000", "-1/4", "-1/4", "0", "0", "-1/4"),
    # Beyond the largest.
    ("7/4", "3/2", "3/2", "3/2", "3/2", "3/2"),
    ("-100", "-3/2", "-3/2", "-3/2", "-3/2", "-3/2"),
]
PLAIN = (Rounding.NEAREST, Rounding.NEAREST_AWAY, Rounding.TOWARD_ZERO, Rounding.UP, Rounding.DOWN)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_modes_that_need_nothing(row):
    x, *wanted = map(Fraction, row)
    assert [rounded(x, VALUES, mode) for mode in PLAIN] == wanted
    # Whole numbers of one unit do as well.
    scaled = [int(value * 40_000) for value in VALUES]
    assert [rounded(int(x * 40_000), scaled, mode) for mode in PLAIN] == [int(value * 40_000) for value in wanted]


def test_one_significant_bit_goes_up_on_a_tie():
    powers = [Fraction(value) for value in (0, 1, 2, 4)]
    assert [rounded(Fraction(x), powers, Rounding.NEAREST) for x in ("1/2", "3/2", "3")] == [0, 2, 4]


@pytest.mark.parametrize(
    ("x", "word", "wanted"),
    [
        # A quarter of the way from 1 to 3/2: up for the first quarter of all words.
        ("9/8", 0, "3/2"),
        ("9/8", 2**30 - 1, "3/2"),
        ("9/8", 2**30, "1"),
        ("9/8", 2**32 - 1, "1"),
        # Mirrored where x is negative.
        ("-9/8", 2**30 - 1, "-3/2"),
        ("-9/8", 2**30, "-1"),
        # The fraction is rounded down to 32 bits: less than one of them is none.
        (f"1/{2**35}", 0, "0"),
        (f"{2**-34 + 2**-60:.70f}", 0, "1/4"),
        ("1", 0, "1"),
        ("2", 2**32 - 1, "3/2"),
    ],
)
def test_stochastic_rounding_by_the_word(x, word, wanted):
    assert rounded(Fraction(x), VALUES, Rounding.STOCHASTIC, word=word) == Fraction(wanted)


def test_hysteresis_goes_to_the_side_of_the_previous_value():
    for x, low, high in (("9/8", "1", "3/2"), ("-9/8", "-3/2", "-1"), ("1/100", "0", "1/4")):
        assert rounded(Fraction(x), VALUES, Rounding.HYSTERESIS, above=True) == Fraction(high)
        assert rounded(Fraction(x), VALUES, Rounding.HYSTERESIS, above=False) == Fraction(low)
    assert rounded(Fraction(1), VALUES, Rounding.HYSTERESIS, above=True) == 1


def test_values_without_zero():
    values = [Fraction(value) for value in (-2, -1, 1, 3)]
    assert rounded(Fraction(0), values, Rounding.TOWARD_ZERO) == 1
    assert rounded(Fraction(0), values, Rounding.TOWARD_ZERO, negative=True) == -1
    assert rounded(Fraction(1, 2), values, Rounding.TOWARD_ZERO) == 1
    assert rounded(Fraction(-1, 2), [Fraction(-2), Fraction(1)], Rounding.TOWARD_ZERO) == 1
