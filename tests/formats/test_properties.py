"""What has to hold for every format and every number, on random ones."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import formats
from formats import Rounding
from tests.formats.fuzz import fuzz, labels_of

settings.register_profile(
    "formats", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
modest = settings.get_profile("formats")

PROFILES = st.lists(st.integers(1, 7), min_size=1, max_size=16).map(tuple)
FORMATS = st.one_of(st.integers(0, 497).map(lambda i: formats.catalogue()[i]), PROFILES.map(formats.from_profile))
TENSOR_FORMATS = FORMATS.map(lambda f: f.with_scale(formats.Scale()))
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=True)
MIDDLE = st.one_of(st.floats(-8, 8, width=32), st.integers(-1000, 1000).map(lambda i: i / 64))
"""Numbers among which values of a format at T = 0 and ties are found."""
SCALES = st.sampled_from(
    [
        "",
        "/channel",
        "/channel@-1",
        "/channel@1",
        "/block5",
        "/block5@1",
        "/block3@0",
        "/block1",
        "/tile2x3",
        "/tile1x4",
        "/tile48x48",
    ]
)
POLICIES = st.sampled_from(["", "/ceil", "/even", "/rceil"])
GRIDS = st.sampled_from(
    ["FP134", "INT8", "FP152", "T8.5x3@2", "LOG4", "profile:8:5,6,5,4,5,3,3,2,1", "profile:6:3,1,3,1,3"]
)
SHAPES = st.lists(st.integers(1, 6), min_size=2, max_size=4).map(tuple)
DIRECTED = [Rounding.NEAREST_AWAY, Rounding.TOWARD_ZERO, Rounding.UP, Rounding.DOWN]


def row(numbers, dtype=np.float32):
    return st.lists(numbers, min_size=1, max_size=40).map(lambda values: np.array(values, dtype))


def normal(shape, seed):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * 2.0 ** rng.integers(-6, 6, shape)).astype(np.float32)


def same(a, b):
    """Equal to the bit."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    assert a.dtype == b.dtype
    assert np.array_equal(a, b)
    assert np.array_equal(np.signbit(a), np.signbit(b))


@modest
@given(FORMATS, row(st.one_of(FLOATS, MIDDLE)))
def test_rounding_twice_is_rounding_once(form, x):
    top = form.find_top(x)
    y = form.round(x)
    same(form.round(x, top=top), y)
    same(form.round(y, top=top), y)
    for mode in DIRECTED:
        y = form.round(x, top=top, rounding=mode)
        same(form.round(y, top=top, rounding=mode), y)


@modest
@given(TENSOR_FORMATS, row(st.one_of(FLOATS, MIDDLE)), st.integers(-100, 100))
def test_order_is_kept(form, x, top):
    low, high = form.top_range
    top = min(max(top, low), high)
    x = np.sort(x)
    for mode in (Rounding.NEAREST, *DIRECTED):
        assert (np.diff(form.round(x, top=top, rounding=mode).astype(np.float64)) >= 0).all()


@modest
@given(FORMATS, row(st.one_of(FLOATS, MIDDLE)))
def test_the_sign_makes_no_difference(form, x):
    same(form.round(-x), -form.round(x))
    same(form.round(-x, rounding="up"), -form.round(x, rounding="down"))
    for mode in ("nearest-away", "toward-zero"):
        same(form.round(-x, rounding=mode), -form.round(x, rounding=mode))
    same(form.round(-x, rounding="stochastic", seed=3), -form.round(x, rounding="stochastic", seed=3))


@modest
@given(TENSOR_FORMATS, st.one_of(FLOATS, MIDDLE), st.integers(-130, 127))
def test_the_nearest_magnitude(form, number, top):
    low, high = form.top_range
    top = min(max(top, low), high)
    x = np.array([number], np.float32)
    values = [Fraction(value) for value in form.magnitudes(top).tolist()]
    exact = abs(Fraction(float(x[0])))
    distances = [abs(value - exact) for value in values]
    got = Fraction(abs(float(form.round(x, top=top)[0])))
    assert abs(got - exact) == min(distances)
    assert got in values


@modest
@given(FORMATS, row(st.one_of(FLOATS, MIDDLE)))
def test_codes_say_the_same(form, x):
    codes = form.encode(x)
    assert np.array_equal(codes.decode(), form.round(x))
    assert np.array_equal(codes.top, form.find_top(x))
    assert codes.codes.max() < 1 << form.bits


@modest
@given(TENSOR_FORMATS, row(MIDDLE), st.integers(-40, 40))
def test_a_power_of_two_commutes(form, x, shift):
    factor = np.float32(2.0**shift)
    scaled = np.where(np.abs(x) < 2.0**-60, np.float32(0), x)  # stays normal
    for mode in (Rounding.NEAREST, *DIRECTED):
        if scaled.any():
            same(form.round(scaled * factor, rounding=mode), form.round(scaled, rounding=mode) * factor)
        low, high = form.top_range
        if low <= 0 and low <= shift <= high:
            same(
                form.round(scaled * factor, top=shift, rounding=mode), form.round(scaled, top=0, rounding=mode) * factor
            )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@modest
@given(GRIDS, SCALES, POLICIES, SHAPES, st.integers(0, 1 << 30))
def test_groups_are_small_tensors(dtype, grid, scale, policy, shape, seed):
    form, alone = formats.get(grid + scale + policy), formats.get(grid + policy)
    x = normal(shape, seed).astype(dtype)
    labels, groups = labels_of(form.scale, shape)
    want, tops = np.empty_like(x), np.zeros(int(np.prod(groups)), np.int64)
    for number in range(tops.size):
        members = labels == number
        want[members] = alone.round(x[members])
        tops[number] = alone.find_top(x[members])
    same(form.round(x), want)
    same(form.find_top(x), tops.reshape(groups))
    same(form.round(x, top=tops.reshape(groups)), want)


@pytest.mark.parametrize(
    "name", ["FP134", "FP134/channel@1", "INT8/block5/rceil", "BM43", "profile:8:5,6,5,4,5,3,3,2,1", "FP134/block3@0"]
)
def test_threads_make_no_difference(name):
    form, x = formats.get(name), normal((3, 211, 333), 1)
    before = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            codes = form.encode(x)
            rounded = [
                form.round(x),
                form.round(x, rounding="stochastic", seed=5),
                form.round(x.astype(np.float64)).astype(np.float32),
            ]
            found.append([*rounded, codes.decode()])
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            same(one, other)


@modest
@given(
    FORMATS,
    SHAPES,
    st.integers(0, 1 << 30),
    st.sampled_from([*DIRECTED, Rounding.NEAREST, Rounding.STOCHASTIC]),
    st.data(),
)
def test_memory_makes_no_difference(form, shape, seed, mode, data):
    x = normal(shape, seed)
    options = {"rounding": mode, **({"seed": seed} if mode is Rounding.STOCHASTIC else {})}
    want = form.round(x, **options)
    order = data.draw(st.permutations(range(len(shape))))
    wide = np.zeros((*shape[:-1], 2 * shape[-1]), np.float32)
    wide[..., ::2] = x
    held = np.zeros(shape, [("flag", "u1"), ("value", "f4")])
    held["value"] = x
    permuted = np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
    for other in (
        permuted,
        np.asfortranarray(x),
        wide[..., ::2],
        np.flip(np.ascontiguousarray(np.flip(x))),
        held["value"],
        x.astype(">f4"),
    ):
        same(form.round(other, **options), want)
    same(form.round(torch.from_numpy(permuted), **options).numpy(), want)
    same(form.round(x.astype(np.float64), **options).astype(np.float32), want)
    half = x.astype(np.float16)
    same(form.round(half, **options), form.round(half.astype(np.float32), **options))
    brain = torch.from_numpy(x).bfloat16()
    same(form.round(brain, **options).numpy(), form.round(brain.float().numpy(), **options))


@modest
@given(FORMATS, SHAPES, st.integers(0, 1 << 30), st.data())
def test_out_of_any_layout(form, shape, seed, data):
    x = normal(shape, seed)
    want = form.round(x)
    order = data.draw(st.permutations(range(len(shape))))
    for out in (
        np.empty(shape, np.float32),
        np.empty([shape[i] for i in order], np.float32).transpose(np.argsort(order)),
        x,
    ):
        assert form.round(x.copy() if out is not x else x, out=out) is out
        same(out, want)


def neighbours(form, x, top):
    return np.abs(form.round(x, top=top, rounding="toward-zero")), np.maximum(
        np.abs(form.round(x, top=top, rounding="up")), np.abs(form.round(x, top=top, rounding="down"))
    )


@modest
@given(TENSOR_FORMATS, row(MIDDLE), st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))
def test_stochastic_rounding_takes_a_neighbour(form, x, seed, stream):
    top = form.find_top(x)
    y = form.round(x, top=top, rounding="stochastic", seed=seed, stream=stream)
    low, high = neighbours(form, x, top)
    assert ((np.abs(y) == low) | (np.abs(y) == high)).all()
    assert np.array_equal(np.signbit(y), np.signbit(x))
    same(form.round(y, top=top, rounding="stochastic", seed=seed ^ 1), y)


@modest
@given(TENSOR_FORMATS, row(MIDDLE), st.integers(0, 1 << 30))
def test_hysteresis_stays_within_a_step(form, x, seed):
    """A previous value that is one of the two neighbours of x stays; on the grid x is taken."""
    top = form.find_top(x)
    low, high = neighbours(form, x, top)
    before = np.copysign(np.where(np.random.default_rng(seed).random(x.shape) < 0.5, low, high), x)
    y = form.round(x, top=top, rounding="hysteresis", previous=before)
    saturated = np.abs(x) > form.max(int(top))
    assert np.array_equal(y, np.where(saturated, np.copysign(np.float32(form.max(int(top))), x), before))
    far = form.round(x, top=top, rounding="hysteresis", previous=np.full_like(x, 1e30))
    same(far, form.round(x, top=top, rounding="up"))


@pytest.mark.slow
def test_a_short_fuzz():
    lines = []
    assert fuzz(1500, 20, report=lines.append) == 0, "\n".join(lines)


# Found by fuzzing.


@pytest.mark.parametrize("shift", [-3, -1, 1, 2])
@pytest.mark.parametrize("name", ["FP134", "BM43", "FP134/block5", "FP134/channel", "E4M3"])
def test_out_that_overlaps_x_in_part(name, shift):
    form, memory = formats.get(name), normal(100_000, 4)
    x, out = memory[8:-8], memory[8 + shift : memory.size - 8 + shift]
    want = form.round(x.copy())
    form.round(x, out=out)
    same(out, want)


@pytest.mark.parametrize("name", ["FP134", "BM43"])
def test_out_that_is_a_field_of_records(name):
    records, x = np.zeros(7, [("value", "f4"), ("flag", "u1")]), normal(7, 5)
    formats.get(name).round(x, out=records["value"])
    same(records["value"].copy(), formats.get(name).round(x))
    assert not records["flag"].any()


@pytest.mark.parametrize("mode", DIRECTED)
def test_steps_that_are_subnormal(mode):
    """Scaling by a power of two commutes also where values are normal numbers and steps are not."""
    form = formats.from_profile((5, 5, 5, 5))
    x = np.array([1.03, -1.03, 1.99, 0.13], np.float32)
    small = np.float32(2.0**-120)
    same(form.round(x * small, top=-120, rounding=mode), form.round(x, top=0, rounding=mode) * small)


def test_the_even_policy_for_float64_below_a_tie():
    """1.9921875 is where INT8's largest magnitude would round to 2."""
    form = formats.get("INT8/even")
    assert form.find_top(np.array([1.9921875])) == 1
    assert form.find_top(np.array([1.9921875 - 2.0**-40])) == 0
    assert (
        form.with_scale(formats.Scale(per="block", block=4, policy="even")).round(np.array([1.9921875 - 2.0**-40]))[0]
        == 127 / 64
    )


@pytest.mark.parametrize("shape", [(3, 0), (2, 0, 3), (0, 3)])
def test_channels_without_elements(shape):
    form = formats.get("FP134/channel")
    assert form.round(np.zeros(shape, np.float32)).shape == shape
    assert np.array_equal(form.find_top(np.zeros(shape)), np.zeros(shape[0]))


def test_decode_into_memory_with_an_odd_stride_of_a_single_row():
    memory = np.zeros((2, 3), np.float32)
    form = formats.get("FP134")
    form.decode(np.full((1, 3), 112, np.uint8), out=memory[::2])
    assert memory.tolist() == [[1, 1, 1], [0, 0, 0]]
