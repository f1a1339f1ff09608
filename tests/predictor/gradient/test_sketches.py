"""Bias: what does not average out over mini-batches, against exact sums."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import stats

from formats.kernel import BUCKETS, sketch_places
from predictor.gradient.comparison import Comparison
from predictor.statistics import bias


def exact(differences, gradients):
    """|E d|^2 / (E|g|^2 - |E g|^2), both unbiased, in rationals."""
    n = len(differences)

    def mean_square(vectors):
        each = [[Fraction(float(v)) for v in vector] for vector in vectors]
        of_mean = sum((sum(column) / n) ** 2 for column in zip(*each, strict=True))
        mean = sum(sum(v * v for v in vector) for vector in each) / n
        return (n * of_mean - mean) / (n - 1), mean

    above, _ = mean_square(differences)
    below, energy = mean_square(gradients)
    return float(above / (energy - below))


def sketch(quantized, full):
    """Of a gradient whose parameters come from the last to the first."""
    comparison = Comparison([g.numel() for g in full])
    for number in reversed(range(len(full))):
        comparison.see(number, quantized[number], full[number])
    return comparison.taken()[1]


def found(differences, gradients):
    tensors = [(torch.tensor(g + d), torch.tensor(g)) for d, g in zip(differences, gradients, strict=True)]
    sketches = [sketch([q[:3], q[3:]], [g[:3], g[3:]]) for q, g in tensors]
    return bias(sketches, [float((g.double() ** 2).sum()) for _, g in tensors])


def test_as_defined_where_no_two_elements_share_a_number_of_the_sketch():
    assert len(set(sketch_places(0, 8)[0].tolist())) == 8
    random = np.random.default_rng(0)
    # Differences of few bits, so that q = g + d has no rounding.
    g = random.integers(-64, 64, (4, 8)) / 8
    d = random.integers(-8, 8, (4, 8)) / 8 + 0.5
    got = found(d.astype(np.float32), g.astype(np.float32))
    assert got.value == pytest.approx(exact(d, g), rel=1e-6)
    others = [exact(np.delete(d, b, 0), np.delete(g, b, 0)) for b in range(4)]
    error = math.sqrt(3 / 4 * sum((other - np.mean(others)) ** 2 for other in others))
    assert got.high - got.low == pytest.approx(2 * stats.t.ppf(0.975, 3) * error, rel=1e-5)


def of_size(n, size, offset, noise):
    """Bias of differences offset + noise against gradients of unit variance, and the exact one."""
    random = np.random.default_rng(1)
    g = random.normal(size=(n, size))
    d = np.float32(offset) + noise * random.normal(size=(n, size))
    q = [torch.tensor(gb + db, dtype=torch.float64) for gb, db in zip(g, d, strict=True)]
    sketches = [sketch([a], [torch.tensor(b)]) for a, b in zip(q, g, strict=True)]
    return bias(sketches, list((g**2).sum(1)))


def test_a_constant_offset_is_found_and_noise_is_none():
    offset = of_size(8, 20_000, 0.1, 0.3)
    assert offset.low > 0
    # The sketch of one vector has its squared length to about sqrt(2 / BUCKETS).
    assert offset.value == pytest.approx(0.01, rel=4 * math.sqrt(2 / BUCKETS))
    noise = of_size(8, 20_000, 0.0, 0.3)
    assert noise.low < 0 < noise.high
    assert abs(noise.value) < 0.01 * 0.3**2 * 4


def test_too_few_mini_batches_say_so():
    one = np.zeros((2, BUCKETS), np.float32)
    assert math.isnan(bias([one], [1.0]).value)
    two = found(np.ones((2, 8), np.float32), np.eye(2, 8, dtype=np.float32))
    assert not math.isnan(two.value)
    assert math.isnan(two.low)
    assert math.isnan(two.high)


def test_products_of_sketches_are_those_of_vectors_on_average():
    """Over places: the mean of many is within five of its standard errors."""
    random = np.random.default_rng(2)
    a, b = random.normal(size=(2, 300)) + 0.3
    products = []
    for first in range(400):
        buckets, signs = sketch_places(1000 * first, 300)
        of_a, of_b = (np.bincount(buckets, signs * x, BUCKETS) for x in (a, b))
        products.append(of_a @ of_b)
    assert abs(np.mean(products) - a @ b) < 5 * np.std(products) / math.sqrt(400)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_any_memory_order_and_the_places_of_another_device(order):
    q, g = (torch.randn(2, 3, 4, 5).contiguous(memory_format=order) for _ in range(2))
    flat = (x.permute(0, 2, 3, 1) if order is torch.channels_last else x for x in (q, g))
    a, b = (x.reshape(-1).double().numpy() for x in flat)
    buckets, signs = sketch_places(0, a.size)
    expected = [np.bincount(buckets, signs * x, BUCKETS) for x in (a - b, b)]
    np.testing.assert_allclose(sketch([q], [g]), expected, rtol=1e-5, atol=1e-5)
