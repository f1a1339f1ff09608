"""The sums behind an angle: right, and the same bits on any number of threads."""

import numpy as np
import pytest

from formats.kernel import sums_of_difference, threads

RNG = np.random.default_rng(7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [0, 5, 1 << 14, 200_001])
def test_sums(size, dtype):
    x = RNG.standard_normal(size).astype(dtype)
    changed = x + RNG.standard_normal(size).astype(dtype) / 64
    wide, d = x.astype(np.float64), changed.astype(np.float64) - x.astype(np.float64)
    np.testing.assert_allclose(sums_of_difference(changed, x), [d @ wide, d @ d, wide @ wide], rtol=1e-9, atol=1e-9)


def test_the_same_bits_on_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(threads, "MIN_ELEMENTS_PER_THREAD", 1 << 10)
    x = RNG.standard_normal(300_000).astype(np.float32)
    changed = x + RNG.standard_normal(x.size).astype(np.float32) / 64
    found = set()
    for count in (1, 2, 3, 300):
        monkeypatch.setattr(threads, "available", lambda count=count: count)
        found.add(sums_of_difference(changed, x).tobytes())
    assert len(found) == 1
