"""Angles and their sums against computations of another kind."""

import math

import numpy as np
import pytest
import torch

from predictor.gradient.angle import degrees, layer_sums


def angle_between(q, g):
    return degrees(layer_sums([torch.tensor(q)], [torch.tensor(g)]).sum(0))


def test_known_angles():
    g = [1.0, 0.0]
    for expected in (0.0, 1e-5, 1.0, 45.0, 90.0, 135.0, 180.0):
        radians = math.radians(expected)
        sums = np.array([math.cos(radians) - 1, (math.cos(radians) - 1) ** 2 + math.sin(radians) ** 2, 1.0])
        if expected > 1e-3:
            assert degrees(sums) == pytest.approx(expected, rel=1e-9)
    assert angle_between([3.0, 3.0], g) == pytest.approx(45)
    assert angle_between([-2.0, 0.0], g) == pytest.approx(180)
    assert angle_between([0.0, 5.0], g) == pytest.approx(90)


def test_small_angles_survive():
    """acos of a float64 cosine sees nothing below 1e-6 degrees; float32 gradients that differ in one element's last
    place do."""
    g = torch.full((1000,), 1.0)
    q = g.clone()
    q[0] = 1 + 2**-23
    exact = math.degrees(2**-23 * math.sqrt(999 / 1000) / math.sqrt(1000))
    assert degrees(layer_sums([q], [g]).sum(0)) == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("size", [1, 16384, 16385, 100_003])
def test_sums_of_large_tensors_are_those_of_exact_addition_for_any_number_of_threads(size):
    torch.manual_seed(size)
    g = torch.randn(size)
    q = g + 1e-3 * torch.randn(size)
    d = q.double() - g.double()
    exact = [math.fsum(terms.tolist()) for terms in (d * g.double(), d * d, g.double() * g.double())]
    size_of_terms = [(d * g.double()).abs().sum().item(), *exact[1:]]
    before, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(layer_sums([q], [g])[0].tolist())
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]
    assert all(abs(a - b) <= 1e-14 * scale for a, b, scale in zip(found[0], exact, size_of_terms, strict=True))
    assert degrees(layer_sums([torch.zeros(size)], [g])[0]) == 90


def test_failures_count_as_ninety_degrees():
    for q in ([0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0]):
        assert angle_between(q, [1.0, 2.0]) == 90


def test_memory_order_does_not_matter():
    torch.manual_seed(0)
    g, q = torch.randn(4, 6, 3, 3), torch.randn(4, 6, 3, 3)
    plain = layer_sums([q], [g])
    for a in (g, g.contiguous(memory_format=torch.channels_last)):
        for b in (q, q.contiguous(memory_format=torch.channels_last)):
            np.testing.assert_allclose(layer_sums([b], [a]), plain, rtol=1e-12)
