"""Delayed scales, and what is counted while rounding, against their definitions."""

import numpy as np
import pytest
import torch

import formats
from training.delayed import Delayed, Places, survey_of


def step(top, largest, overflows, headroom, low=-100, high=100):
    scale = Delayed(top)
    scale.see(largest, overflows)
    scale.advance(headroom, low, high)
    return scale.top


@pytest.mark.parametrize("headroom", [1, 2])
def test_the_rule_with_headroom(headroom):
    """m >= 2^(T-h+1) goes up, m < 2^(T-h) goes down, between them it stays."""
    top = 5
    up, down = 2.0 ** (top - headroom + 1), 2.0 ** (top - headroom)
    assert step(top, up, 0, headroom) == top + 1
    assert step(top, np.nextafter(up, 0), 0, headroom) == top
    assert step(top, down, 0, headroom) == top
    assert step(top, np.nextafter(down, 0), 0, headroom) == top - 1


def test_the_rule_without_headroom_asks_for_saturation():
    assert step(5, 62.0, 1, 0) == 6
    assert step(5, 62.0, 0, 0) == 5
    assert step(5, 31.0, 0, 0) == 4


def test_what_leaves_the_scale_alone():
    for largest in (0.0, float("nan"), float("inf")):
        assert step(5, largest, 0, 1) == 5
    assert step(5, 1e30, 1, 1, high=5) == 5
    assert step(5, 1e-30, 0, 1, low=5) == 5


def test_one_update_a_step_from_all_its_tensors():
    scale = Delayed(0)
    for largest in (0.25, 4.0, 0.5):
        scale.see(largest, 0)
    scale.advance(1, -10, 10)
    assert scale.top == 1
    scale.advance(1, -10, 10)
    assert scale.top == 1  # nothing seen since


@pytest.mark.parametrize("order", [(np.nan, 100.0), (100.0, np.nan)])
def test_nan_once_seen_in_a_step_leaves_the_scale(order):
    scale = Delayed(0)
    for largest in order:
        scale.see(largest, 0)
    scale.advance(1, -10, 10)
    assert scale.top == 0
    scale.see(100.0, 0)  # the next step is another
    scale.advance(1, -10, 10)
    assert scale.top == 1


def test_places_and_terms_have_scales_of_their_own():
    places = Places("A", formats.get("FP134"), 1)
    x = torch.tensor([1.0, -3.0])
    first = places.round(x, "p")
    # floor(log2 3) + 1, from the first tensor.
    assert places.tops == [["p", 0, 2]]
    assert torch.equal(first, formats.get("FP134").round(x, top=2))
    places.round(x / 64, "p", 1)
    places.round(x * 4, "q")
    assert places.tops == [["p", 0, 2], ["p", 1, -4], ["q", 0, 4]]
    seen = places.advance()
    assert [(entry.place, entry.term, entry.top_low) for entry in seen] == [("p", 0, 2), ("p", 1, -4), ("q", 0, 4)]
    # The scale in use is that of the tensors before, however large this one is.
    assert places.round(x * 1000, "p").max() == formats.get("FP134").max(2)
    [entry] = places.advance()
    assert entry.overflows == 2
    assert places.tops[0] == ["p", 0, 3]
    again = Places("A", formats.get("FP134"), 1)
    again.tops = places.tops
    assert again.tops == places.tops


def test_current_scales_keep_nothing():
    places = Places("A", formats.get("FP134"), 0, delayed=False)
    x = torch.randn(50)
    assert torch.equal(places.round(1000 * x, "p"), formats.get("FP134").round(1000 * x))
    assert torch.equal(places.round(x, "p"), formats.get("FP134").round(x))
    assert places.tops == []


@pytest.mark.parametrize("name", ["BM43", "MXFP4", "E4M3", "NF4/block64", "INT8/real", "FP134/channel"])
def test_formats_with_another_scale_follow_their_own_rule(name):
    places = Places("E", formats.get(name), 1)
    x = torch.randn(4, 32)
    for _ in range(2):
        assert torch.equal(places.round(8 * x, "p"), formats.get(name).round(8 * x))
        places.advance()
    assert places.tops == []


def test_survey_counts_in_any_layout():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 7)
    x[0, 0, 0, :4] = torch.tensor([9.0, -9.0, float("inf"), 0.0])
    q = formats.get("FP134").round(x, top=0, keep_infinities=True)
    expected = (1.9375, int((x.abs() > 1.9375).sum()), int(((q == 0) & (x != 0)).sum()))
    cl = torch.channels_last
    for a, b in (
        (x, q),
        (x.contiguous(memory_format=cl), q),
        (x, q.contiguous(memory_format=cl)),
        (x.permute(1, 3, 0, 2), q.permute(1, 3, 0, 2)),
    ):
        assert survey_of(a, b, 1.9375) == expected
    q[1, 1, 1, 1] = float("nan")
    assert np.isnan(survey_of(x, q, 1.9375)[0])
    expanded = torch.tensor(3.0).expand(4, 5)
    assert survey_of(expanded, expanded.clone(), 1.9375) == (3.0, 20, 0)
