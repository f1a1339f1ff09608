"""The survey of a rounding against numpy's own counts, on bit patterns of all kinds."""

import numpy as np
import pytest

import formats
from formats.kernel import survey_rounded


@pytest.mark.parametrize(("dtype", "bits"), [(np.float32, np.uint32), (np.float64, np.uint64)])
@pytest.mark.parametrize("size", [0, 1, 5, 16384, 100_003])
def test_survey_of_random_patterns(dtype, bits, size):
    random = np.random.default_rng(size)

    def patterns():
        x = random.integers(0, np.iinfo(bits).max, size, bits, endpoint=True).view(dtype)
        x[random.random(size) < 0.1] = 0
        x[random.random(size) < 0.05] = -np.inf
        return x

    x, q = patterns(), patterns()
    limit = 1.5
    with np.errstate(invalid="ignore"):
        overflows, underflows = int((np.abs(x) > limit).sum()), int(((q == 0) & (np.abs(x) > 0)).sum())
    broken = bool(np.isnan(q).any())
    finite = np.abs(q[np.isfinite(q)])
    largest = float(finite.max()) if finite.size else 0.0
    got = survey_rounded(x, q, limit)
    assert got[1:] == (overflows, underflows)
    assert np.isnan(got[0]) if broken else got[0] == largest
    q[np.isnan(q)] = -0.0
    with np.errstate(invalid="ignore"):
        assert survey_rounded(x, q, np.inf) == (largest, 0, int(((q == 0) & (np.abs(x) > 0)).sum()))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_and_survey_in_one_pass(dtype):
    format = formats.get("FP134")
    x = (np.random.default_rng(0).standard_normal(70_001) * 3).astype(dtype)
    x[:3] = np.nan, np.inf, 0
    rounded, seen = format.round_surveyed(x, 1, keep_infinities=True)
    alone = format.round(x, top=1, keep_infinities=True)
    np.testing.assert_array_equal(rounded.view(np.uint8), alone.view(np.uint8))
    assert seen[1:] == survey_rounded(x, alone, format.max(1))[1:]
    assert np.isnan(seen.largest)
    assert format.round_surveyed(x[1:], 1)[1] == survey_rounded(x[1:], format.round(x[1:], top=1), format.max(1))
    with pytest.raises(ValueError, match="top"):
        format.round_surveyed(x, 10_000)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["FP134", "FP152", "INT8", "INT4", "LOG4", "T8.5x3@2"])
def test_what_vanishes_is_told_by_the_numbers_alone(name, dtype):
    """Half of the smallest value is the last that becomes zero, whether or not the type has numbers as small."""
    format = formats.get(name)
    low, high = format.top_range
    for top in (low, -150, -140, -126, -1, 0, 100, 127, high):
        if not low <= top <= high:
            continue
        smallest = np.ldexp(format.grid.magnitudes, top)
        half = dtype(smallest[smallest > 0].min() / 2)
        around = [
            np.nextafter(half, dtype(0)),
            half,
            np.nextafter(half, dtype(np.inf)),
            dtype(0),
            dtype(format.max(top)),
        ]
        with np.errstate(over="ignore"):
            x = np.array([*around, -half, 3 * half], dtype)
        for one in (x[:4], x, x[3:4]):
            alone = format.round(one, top=top, keep_infinities=True)
            with np.errstate(over="ignore"):
                expected = survey_rounded(one, alone, float(dtype(format.max(top))))
            assert format.round_surveyed(one, top, keep_infinities=True)[1] == expected
