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


def test_top_of_channels_and_blocks():
    x = np.float32([[1, 2, 3, 4, 5], [16, 8, 0, 0, 0.25]])
    assert formats.get("FP134/channel").find_top(x).tolist() == [2, 4]
    assert formats.get("FP134/channel@1").find_top(x).tolist() == [4, 3, 1, 2, 2]
    assert formats.get("FP134/block2").find_top(x).tolist() == [[1, 2, 2], [4, 0, -2]]
    assert formats.get("FP134/block2@0").find_top(x).tolist() == [[4, 3, 1, 2, 2]]
    assert formats.get("FP134/tile2x4").find_top(x).tolist() == [[4, 2]]
