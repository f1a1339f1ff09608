"""What a lane has to know of a format."""

import pytest

import formats
from formats.hardware.lane import operand
from tests.formats.hardware.magnitudes import whole_magnitudes


def read(of, index):
    """Significand and shift of a magnitude index, by the description of `Operand`."""
    runs = [run for run in of.runs if index >= run.start]
    if not runs:
        assert index < 1 << of.linear
        return index, of.linear_step
    run = runs[-1]
    binade, offset = divmod(index - run.start, 1 << (run.precision - 1))
    return (1 << (run.precision - 1)) + offset, run.step + binade


@pytest.mark.parametrize("bits", [8, 7, 6])
def test_operands_hold_every_value_of_the_catalogue(bits):
    for format in formats.catalogue(bits):
        of, magnitudes = operand(format), whole_magnitudes(format)
        pairs = [read(of, index) for index in range(len(magnitudes))]
        assert [m << s for m, s in pairs] == magnitudes.tolist(), format.name
        assert max(m for m, _ in pairs).bit_length() == of.precision
        assert max(s for _, s in pairs) == of.shift
        assert magnitudes[-1] == of.largest
