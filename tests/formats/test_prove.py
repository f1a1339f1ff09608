"""The proof of `make prove`, for a few formats, and that it would find mistakes."""

import numpy as np
import pytest

import formats
from tests.formats.prove import judge, prove, scan


@pytest.mark.slow
@pytest.mark.parametrize("name", ["FP134", "INT8", "T8.5x3@2"])
def test_rounding_is_exact_for_all_float32(name):
    line, good = prove(formats.get(name), 0)
    assert good, line


@pytest.mark.slow
def test_the_proof_finds_mistakes():
    format = formats.get("FP134")
    assert scan(format.grid.words, 0, 1 << 31) == [0, 0, 0]
    falling = format.grid.words.copy()
    falling[6], falling[7] = 3, 9  # steps of 16 times the number from a binade on: small ones there go to zero
    assert scan(falling, 0, 1 << 31)[0] > 0
    assert judge(lambda x: format.round(x, top=0), format.profile, 0)[1] == ""
    for wrong in (
        lambda x: format.round(x, top=0, rounding="nearest-away"),
        lambda x: format.round(np.nextafter(x, np.float32(0)), top=0),
        lambda x: format.round(x, top=1),
    ):
        assert judge(wrong, format.profile, 0)[1] != ""
