"""Noise of operands, against tensors taken from torch alone and rounded along each contraction by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import formats
from predictor.gradient.gradients import Gradients
from predictor.gradient.noise import Kind, Noise
from predictor.recipes.noise import observe_operands
from predictor.scheme import CURRENT
from tests.predictor.operands import ONE, OTHER, by_hand, workload

TABLED, BLOCKED, SCALED = (formats.get(name) for name in ("FP134", "MXFP4", "E4M3/real"))


def observed(of, candidates):
    with Gradients(of, of.minibatches()[0], scheme=CURRENT, kept=False) as gradients:
        return observe_operands(gradients, candidates)


def nsr(rounded, x):
    return float(((rounded - x).double() ** 2).sum() / (x.double() ** 2).sum())


def test_each_operand_of_each_product_is_rounded_along_its_contraction():
    of = workload()
    noise = observed(of, [BLOCKED, SCALED])
    x1, dy1, w1, x2, dy2, w2 = by_hand(of.model, of.batches[0])
    # The rows of a matrix lie along the contraction; the first layer has no dgrad, the head stays as it is.
    expected = {
        (ONE, "fprop x"): x1,
        (ONE, "fprop w"): w1,
        (ONE, "wgrad x"): x1.T,
        (ONE, "wgrad dy"): dy1.T,
        (OTHER, "fprop x"): x2,
        (OTHER, "fprop w"): w2,
        (OTHER, "dgrad dy"): dy2,
        (OTHER, "dgrad w"): w2.T,
        (OTHER, "wgrad x"): x2.T,
        (OTHER, "wgrad dy"): dy2.T,
    }
    rows = {(point.layer, point.operation.removeprefix("linear ")): row for row, point in enumerate(noise.points)}
    assert rows.keys() == expected.keys()
    found = noise.ratios([TABLED, BLOCKED, SCALED, formats.pairs.Pair(TABLED, BLOCKED)])
    for key, matrix in expected.items():
        row = rows[key]
        lines = matrix.contiguous()
        alone = [nsr(format.round(lines), lines) for format in (TABLED, BLOCKED, SCALED)]
        of_error = key[1].endswith("dy")
        assert found[:, row] == pytest.approx([*alone, alone[1 if of_error else 0]], rel=1e-6), key
        assert noise.kinds[row] is {"x": Kind.A, "w": Kind.W, "y": Kind.E}[key[1][-1]]
    # Blocks along one axis are other numbers than along the other.
    assert found[1, rows[OTHER, "fprop w"]] != found[1, rows[OTHER, "dgrad w"]]
    again = Noise.from_bytes(noise.to_bytes())
    assert (again.ratios([TABLED, BLOCKED]) == found[:2]).all()


def test_a_frozen_weight_has_no_wgrad_and_a_checkpointed_part_is_seen_once():
    of = workload()
    of.model[int(ONE)].weight.requires_grad_(False)
    names = [f"{point.layer} {point.operation}" for point in observed(of, []).points]
    # Neither x nor W of the first layer needs a gradient: only what it computes is rounded.
    assert sorted(name for name in names if name[0] == ONE) == [f"{ONE} linear fprop w", f"{ONE} linear fprop x"]

    class Checkpointed(nn.Module):
        def __init__(self, reentrant):
            super().__init__()
            self.net, self.reentrant = workload().model, reentrant

        def forward(self, x):
            h = self.net[:2](x)
            return self.net[4](torch.utils.checkpoint.checkpoint(self.net[2:4], h, use_reentrant=self.reentrant))

    plain = observed(workload(), [BLOCKED])
    for reentrant in (False, True):
        model = Checkpointed(reentrant)
        other = workload()
        seen = observed(
            type(other)("checkpointed", model, other.batches, lambda m, b: F.cross_entropy(m(b[0]), b[1])), [BLOCKED]
        )
        assert sorted(seen.ratios([TABLED, BLOCKED]).tolist()) == sorted(plain.ratios([TABLED, BLOCKED]).tolist())


def test_a_convolution_has_its_blocks_along_channels_and_places():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 40, 3), nn.ReLU(), nn.Flatten(), nn.Linear(40 * 16, 4))
    x, labels = torch.randn(5, 3, 6, 6), torch.randint(0, 4, (5,))
    of = type(workload())("conv", model, [(x, labels)], lambda m, b: F.cross_entropy(m(b[0]), b[1]))
    noise = observed(of, [BLOCKED])
    found = dict(zip((p.operation for p in noise.points), noise.ratios([BLOCKED])[0], strict=True))
    along_channels, along_places = x.permute(0, 2, 3, 1).contiguous(), x.permute(1, 0, 2, 3).reshape(3, -1).contiguous()
    assert found["conv2d fprop x"] == pytest.approx(nsr(BLOCKED.round(along_channels), along_channels), rel=1e-6)
    assert found["conv2d wgrad x"] == pytest.approx(nsr(BLOCKED.round(along_places), along_places), rel=1e-6)
