"""Rounding modes other than nearest-even, against exact definitions."""

import numpy as np
import pytest
import torch

import formats
from formats import Rounding
from tests.formats.inputs import hard_floats, random_floats
from tests.formats.philox import philox_words
from tests.formats.reference import Reference

NAMES = [
    "FP134",
    "INT8",
    "FP152",
    "T8.5x3@2",
    "T6.3x2@4",
    "profile:4:1x7",
    "profile:8:5,5,6,5,5,4,4,3,3,3,2,1",
    "profile:16:9,3x40,12,1",
    "profile:16:10x63,9,8,7,6,5,4,3,2,1",
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_every_mode_by_definition(name, dtype):
    format = formats.get(name)
    rng = np.random.default_rng(0)
    low, high = format.top_range
    for top in (0, low, high, low + 9):
        reference = Reference(format.profile, top)
        hard = hard_floats(reference, dtype)
        chosen = hard if len(hard) < 300 else rng.choice(hard, 300)
        loose = random_floats(rng, 60, top)
        x = np.concatenate([chosen, loose[~np.isnan(loose)].astype(dtype), rng.standard_normal(40).astype(dtype)])
        with np.errstate(over="ignore", invalid="ignore"):
            previous = (x * rng.choice([0.9, 1.0, 1.1], x.shape)).astype(dtype)
        random = philox_words(7, 3, len(x))
        for mode in Rounding:
            if mode is Rounding.NEAREST:
                continue
            needs = {Rounding.STOCHASTIC: {"seed": 7, "stream": 3}, Rounding.HYSTERESIS: {"previous": previous}}.get(
                mode, {}
            )
            got = format.round(x, top=top, rounding=mode, **needs)
            want = np.array(
                [
                    reference.round(value, mode, word, before > value)
                    for value, word, before in zip(x.tolist(), random, previous.tolist(), strict=True)
                ],
                dtype,
            )
            wrong = np.flatnonzero((got != want) | (np.signbit(got) != np.signbit(want)))
            assert not wrong.size, (mode, top, x[wrong[0]].hex(), got[wrong[0]], want[wrong[0]])


def test_nan_and_infinities_in_every_mode():
    x = np.float32([np.nan, np.inf, -np.inf])
    for mode in Rounding:
        needs = {Rounding.STOCHASTIC: {"seed": 0}, Rounding.HYSTERESIS: {"previous": x}}.get(mode, {})
        got = formats.get("FP134").round(x, top=0, rounding=mode, **needs)
        assert np.isnan(got[0])
        assert got[1:].tolist() == [1.9375, -1.9375]
        assert formats.get("FP134").round(x, top=0, rounding=mode, keep_infinities=True, **needs)[1:].tolist() == [
            np.inf,
            -np.inf,
        ]


@pytest.mark.parametrize(
    "name", ["FP134", "FP134/channel", "FP134/channel@1", "FP134/block5", "FP134/block3@1", "BM43"]
)
def test_stochastic_rounding_depends_on_place_alone(name):
    """Not on threads, memory order, library or how an array was made."""
    format = formats.get(name)
    x = torch.randn(3, 10, 20, 70)
    made = format.round(x.numpy(), rounding="stochastic", seed=5, stream=9)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        views = [
            x,
            x.contiguous(memory_format=torch.channels_last),
            x.permute(3, 0, 2, 1).contiguous().permute(1, 3, 2, 0),
            torch.stack([x, x], 4)[..., 1],
            x.clone().requires_grad_(),
        ]
        for view in views:
            assert (format.round(view, rounding="stochastic", seed=5, stream=9).detach().numpy() == made).all()
    finally:
        torch.set_num_threads(before)
    assert (format.round(x.numpy(), rounding="stochastic", seed=5, stream=10) != made).any()
    assert (format.round(x.numpy(), rounding="stochastic", seed=6, stream=9) != made).any()
    tail = format.round(x.numpy().astype(np.float64), rounding="stochastic", seed=5, stream=9)
    assert (tail == made).all()


def test_stochastic_rounding_is_unbiased():
    x = np.full(200_000, 1.02, np.float32)
    mean = formats.get("FP134").round(x, top=0, rounding="stochastic", seed=1).mean(dtype=np.float64)
    spread = 0.0625 * np.sqrt(0.32 * 0.68 / x.size)
    assert abs(mean - float(x[0])) < 4 * spread


def test_hysteresis_keeps_the_old_value_until_a_whole_step_is_passed():
    format = formats.get("profile:8:4x15,3,2,1")
    w = np.float32([1.0])
    held = format.round(w, top=0)
    seen = []
    for value in np.float32([1.05, 1.11, 1.1249, 1.125, 1.13, 1.12, 1.06, 1.0, 0.999, 0.94, 0.937]):
        held = format.round(np.float32([value]), top=0, rounding="hysteresis", previous=held)
        seen.append(float(held[0]))
    assert seen == [1.0, 1.0, 1.0, 1.125, 1.125, 1.125, 1.125, 1.0, 1.0, 1.0, 0.9375]


def test_hysteresis_in_any_layout():
    format = formats.get("FP134/channel")
    w = torch.randn(6, 4, 3, 3)
    previous = format.round(w + 0.01 * torch.randn_like(w))
    made = format.round(w, rounding="hysteresis", previous=previous)
    cl = torch.channels_last
    assert torch.equal(format.round(w.contiguous(memory_format=cl), rounding="hysteresis", previous=previous), made)
    assert torch.equal(format.round(w, rounding="hysteresis", previous=previous.contiguous(memory_format=cl)), made)
    assert torch.equal(format.round(torch.stack([w, w], 1)[:, 0], rounding="hysteresis", previous=previous), made)


def test_what_modes_refuse():
    format, x = formats.get("FP134"), np.ones(3, np.float32)
    for options, message in (
        ({"rounding": "up-ish"}, "allowed are nearest, nearest-away, toward-zero, up, down, stochastic, hysteresis"),
        ({"rounding": "stochastic"}, "seed None"),
        ({"rounding": "stochastic", "seed": -1}, "seed -1"),
        ({"rounding": "stochastic", "seed": 1, "stream": 1 << 64}, "stream"),
        ({"rounding": "hysteresis"}, "needs previous values"),
        ({"rounding": "hysteresis", "previous": x[:2]}, "shape"),
        ({"seed": 3}, "uses none"),
        ({"previous": x}, "uses none"),
    ):
        with pytest.raises(ValueError, match=message):
            format.round(x, **options)


@pytest.mark.parametrize(
    ("name", "tops"),
    [
        ("FP134", [0, 0, 0, 0, 1, -149 + 10]),
        ("FP134/ceil", [0, 1, 1, 1, 1, -149 + 10]),
        ("FP134/even", [0, 0, 0, 1, 1, -149 + 10]),
        ("FP134/rceil", [0, 0, 1, 1, 1, -149 + 10]),
    ],
)
def test_scale_policies(name, tops):
    # Exactly 1; the largest value 1.9375; just above it; 1.96875 rounds to 2 in five bits (a tie, to even); 2; the
    # smallest subnormal.
    for largest, top in zip(
        [1.0, 1.9375, np.nextafter(np.float32(1.9375), np.float32(2)), 1.96875, 2.0, 2.0**-149], tops, strict=True
    ):
        assert int(formats.get(name).find_top(np.float32([largest, -0.1 * largest]))) == top, largest
    assert formats.get(name).name == name
