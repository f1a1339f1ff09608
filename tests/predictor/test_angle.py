"""Angles, intervals and measurements against computations of another kind."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import formats
from predictor import Pair, measure
from predictor.angle import degrees, layer_sums
from predictor.statistics import interval
from tests.nets import small_workload
from workloads import Workload


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


def test_interval_is_students():
    mean, low, high = interval(np.array([1.0, 2.0, 3.0, 6.0]))
    half = 3.182446305284263 * np.std([1, 2, 3, 6], ddof=1) / 2
    assert (mean, low, high) == (3.0, pytest.approx(3 - half), pytest.approx(3 + half))
    assert math.isnan(interval(np.array([1.0]))[1])


def test_measure_by_hand():
    """Effect AE on a linear model equals the gradient written out."""
    torch.manual_seed(1)
    w, x, t = nn.Linear(6, 4, bias=False), torch.randn(5, 6), torch.randn(5, 4)
    workload = Workload("linear", w, [(x, t)], lambda m, b: (m(b[0]).tanh() * b[1]).sum())
    found = measure(workload, ["FP123"], minibatches=1).set_index("effect").angle
    f = formats.get("FP123")

    def two(v):
        return f.round(v) + f.round(v - f.round(v))

    def gradient(a_format, e_format):
        xq = a_format(x)
        y = (xq @ w.weight.T).detach()
        yq = f.round(y) if a_format is not plain else y
        e = e_format(t * (1 - yq.tanh() ** 2))
        return e.T @ xq

    def plain(v):
        return v

    full = gradient(plain, plain)
    for effect, made in (("E", (plain, two)), ("A", (two, plain)), ("AE", (two, two))):
        q = gradient(*made)
        cosine = torch.dot(q.flatten().double(), full.flatten().double()) / (q.double().norm() * full.double().norm())
        assert found[effect] == pytest.approx(math.degrees(math.acos(cosine)), rel=1e-3), effect


def test_scopes_pairs_and_counts():
    workload = small_workload()
    table = measure(
        workload,
        ["FP134", Pair(formats.get("FP143"), formats.get("FP152")), "INT6+INT6"],
        minibatches=3,
        scopes=["layers"],
    )
    assert set(table.scope) == {"0.weight", "3.weight"}
    assert set(table.format) == {"FP134", "FP143+FP152", "INT6+INT6"}
    assert (table.n == 3).all()
    assert (table.failures == 0).all()
    first = measure(workload, ["FP134"], ["E"], 3, scopes=["first", "0.weight"])
    assert first.angle[0] == first.angle[1]
    pair = measure(workload, ["FP143+FP152", "FP143", "FP152"], minibatches=2).set_index(["format", "effect"]).angle
    assert pair["FP143+FP152", "A"] == pair["FP143", "A"]
    assert pair["FP143+FP152", "E"] == pair["FP152", "E"]


def test_a_format_of_ones_own():
    class Identity:
        name, digest = "identity", "identity-1"

        def round(self, x):
            return x.clone()

    table = measure(small_workload(), [Identity(), "FP134"], minibatches=1)
    assert (table[table.format == "identity"].angle == 0).all()
    assert (table[table.format == "FP134"].angle > 0).all()


def test_what_is_refused():
    workload = small_workload()
    for arguments, message in (
        ((["FP134"], ["X"]), "effect 'X'"),
        ((["FP134"], ["E"], 0), "0 mini-batches"),
        ((["FP134"], ["E"], 9), "9 mini-batches were asked for; workload small has 3"),
        (([], ["E"]), "no format"),
        ((["FP134"], []), "no effect"),
    ):
        with pytest.raises(ValueError, match=message):
            measure(workload, *arguments)
    with pytest.raises(ValueError, match="scope 'conv'"):
        measure(workload, ["FP134"], minibatches=1, scopes=["conv"])
    with pytest.raises(ValueError, match="ready made"):
        measure(workload, ["FP134"], minibatches=1, batch_size=4)


def test_damaged_workloads_are_refused():
    model = nn.Linear(4, 2)
    x = torch.randn(3, 4)
    cases = [
        (lambda m, b: m(b).sum() * float("nan"), "is nan in full precision"),
        (lambda m, b: m(b), "of shape"),
        (lambda m, b: b.sum(), "did not call the model"),
        (lambda m, b: m(b).detach().sum(), "does not depend on any parameter"),
        (lambda m, b: 3.0, "float"),
    ]
    for loss, message in cases:
        with pytest.raises(ValueError, match=message):
            measure(Workload("bad", model, [x], loss), ["FP134"], minibatches=1)
