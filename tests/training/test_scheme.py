"""Schemes that cannot be."""

import pytest

import formats
from formats import Rounding
from training.scheme import TensorFormats


def scheme(weight="FP134", rounding=Rounding.HYSTERESIS, master="FP169"):
    fp134 = formats.get("FP134")
    return TensorFormats(fp134, fp134, formats.get(weight), fp134, formats.get(master), rounding)


def test_formats_that_cannot_round_as_asked_are_refused():
    for rounding in ("hysteresis", "stochastic"):
        with pytest.raises(
            ValueError,
            match=f"weight format E4M3/standard cannot round by {rounding} .*only to nearest has an overflow",
        ):
            scheme("E4M3/standard", Rounding(rounding))
    assert scheme("E4M3/standard", Rounding.NEAREST).weight == formats.get("E4M3/standard")
    with pytest.raises(ValueError, match="weight rounding 'up': allowed are nearest, stochastic, hysteresis"):
        scheme("FP134", Rounding.UP)
    with pytest.raises(ValueError, match="master format E4M3/standard cannot round by stochastic"):
        scheme(master="E4M3/standard")
