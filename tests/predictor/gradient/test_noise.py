"""Noise tables against rounding, and which tensors a pass records."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import formats
from predictor import Pair
from predictor.gradient.gradients import Gradients
from predictor.gradient.noise import Kind, NoiseTables, direct_nsr, has_table, noise_table, observe
from predictor.scheme import CURRENT, PAPER, Scheme
from tests.nets import small_workload


def wide_tensor():
    torch.manual_seed(0)
    wide = torch.randn(20_000) * torch.exp2(torch.randint(-40, 3, (20_000,)).float())
    wide[:3] = torch.tensor([0.0, -0.0, 1e-42])
    return wide


def test_noise_tables_give_every_profile_its_noise():
    tensors = [
        wide_tensor(),
        torch.randn(5000) * 1e-30,
        torch.randn(300, 7).relu(),
        torch.randn(4000) * 1e-41,
        torch.randn(9) * 2.0**126,
    ]
    together = NoiseTables.of([noise_table(x) for x in tensors])
    for format in (*formats.catalogue(), formats.get("FP134/headroom1"), formats.get("INT8/headroom3")):
        if has_table(format):
            expected = [direct_nsr(format, x) for x in tensors]
            assert together.nsr(format) == pytest.approx(expected, rel=1e-6), format.name
            assert noise_table(tensors[0]).nsr(format) == pytest.approx(expected[0], rel=1e-6)
    assert noise_table(torch.zeros(4)).nsr(formats.get("FP134")) == 0
    assert noise_table(torch.zeros(0)).nsr(formats.get("FP134")) == 0


def test_a_table_is_the_same_from_one_thread_and_from_several():
    x = torch.randn(1 << 18)
    x[5] = float("inf")
    several = noise_table(x)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        one = noise_table(x)
    finally:
        torch.set_num_threads(before)
    assert one.top == several.top
    for name in ("noise", "saturated", "energy"):
        assert getattr(one, name) == pytest.approx(getattr(several, name), rel=1e-12)


@pytest.mark.parametrize("name", ["FP134/rceil", "FP134/block32", "FP134/channel@1", "BM43", "INT16", "E4M3"])
def test_other_scale_rules_have_no_table(name):
    assert not has_table(formats.get(name))


def test_infinities_are_left_out():
    x = torch.randn(1000)
    masked = torch.cat([x, torch.tensor([float("-inf")])])
    for name in ("FP134", "BM43"):
        assert direct_nsr(formats.get(name), masked) == pytest.approx(direct_nsr(formats.get(name), x), rel=1e-2)
    assert noise_table(masked).nsr(formats.get("FP134")) == noise_table(x).nsr(formats.get("FP134"))


@pytest.mark.parametrize(("scheme", "headroom"), [(CURRENT, ""), (PAPER, "/headroom1")])
def test_a_pass_records_what_rounding_would_do(scheme, headroom):
    workload = small_workload(1)
    candidates = [formats.get("FP134"), formats.get("BM43"), Pair(formats.get("INT8"), formats.get("FP152"))]
    with Gradients(workload, workload.batches[0], scheme=scheme) as gradients:
        noise = observe(gradients, candidates)
        one_term = Gradients(workload, workload.batches[0], scheme=Scheme(two_terms=False))
    with one_term:
        assert [kind.value for kind in observe(one_term, candidates).kinds] == ["A", "A", "A", "E", "E"]
    model, (x, labels) = workload.model, workload.batches[0]
    conv = model[0](x)
    conv.retain_grad()
    out = model[1:](conv)
    F.cross_entropy(out, labels).backward()
    # The input is rounded in two terms and needs no gradient; the last error is rounded in two terms.
    assert noise.kinds == (Kind.A, Kind.A, Kind.E)
    assert [point.layer for point in noise.points] == ["0", "3", "0"]
    ratios = noise.ratios(candidates)
    for row, (a, e) in enumerate(((f"FP134{headroom}",) * 2, ("BM43",) * 2, (f"INT8{headroom}", f"FP152{headroom}"))):
        expected = [
            direct_nsr(formats.get(a), conv),
            direct_nsr(formats.get(a), out),
            direct_nsr(formats.get(e), conv.grad),
        ]
        assert ratios[row] == pytest.approx(expected, rel=1e-5)
    assert np.array_equal(noise.rows(Kind.E), [2])
