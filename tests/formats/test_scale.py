"""The scale that is found from the data."""

import numpy as np

import formats


def test_top_from_data():
    format = formats.get("FP134")
    for largest, top in ((1.0, 0), (1.9999999, 0), (2.0, 1), (0.75, -1), (2.0**-149, -139), (3.4e38, 127), (0.0, 0)):
        assert int(format.find_top(np.float32([0, -largest]))) == top, largest
    assert int(format.find_top(np.float32([np.nan, np.inf, -4.0]))) == 2
    assert int(format.find_top(np.float32([np.nan, -np.inf]))) == 0
    assert int(format.find_top(np.zeros((0, 3), np.float32))) == 0
    assert int(format.find_top(np.float64([1e300]))) == 127
    assert int(formats.get("FP134/headroom2").find_top(np.float32([1.0]))) == 2


def test_a_headroom_of_0_that_is_said_is_another_format():
    """They round alike; a scheme of training changes only the one that says none. Digests of files stay what they
    were before the two were told apart."""
    plain, said = formats.get("FP134"), formats.get("FP134/headroom0")
    x = np.float32([1.99, -0.3])
    assert (plain.round(x) == said.round(x)).all()
    assert plain != said
    assert plain.digest != said.digest
    assert said.name == "FP134/headroom0"
    assert formats.Scale().room == formats.Scale(headroom=0).room == 0
    assert plain.digest.startswith("eefd6f8b2aee")
    assert formats.get("NF4/headroom1").digest.startswith("67947aa51d64")
    assert formats.get("BM43/headroom0").family == "BM"
    assert formats.get("MXFP4/headroom0").family == "MX"


def test_top_of_channels_and_blocks():
    x = np.float32([[1, 2, 3, 4, 5], [16, 8, 0, 0, 0.25]])
    assert formats.get("FP134/channel").find_top(x).tolist() == [2, 4]
    assert formats.get("FP134/channel@1").find_top(x).tolist() == [4, 3, 1, 2, 2]
    assert formats.get("FP134/block2").find_top(x).tolist() == [[1, 2, 2], [4, 0, -2]]
    assert formats.get("FP134/block2@0").find_top(x).tolist() == [[4, 3, 1, 2, 2]]
    assert formats.get("FP134/tile2x4").find_top(x).tolist() == [[4, 2]]
