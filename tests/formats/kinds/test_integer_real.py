"""Integers times a real scale agree with exact fractions, at every tie and beside it."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

import formats
from formats import Scale
from formats.kinds.integer_real import IntegerFormat
from formats.kinds.real_scale import largest_scale, scales_for
from formats.packing import unpack
from tests.formats.reference import to_float32

FLOAT32_MAX = float(np.finfo(np.float32).max)


def reference_scale(x, most):
    """max|x| / most as a float32 number, from exact fractions."""
    largest = max((abs(Fraction(value)) for value in x if math.isfinite(value)), default=Fraction(0))
    if not largest:
        return 1.0
    # The largest scale at which the largest value is finite, by trying downwards.
    high = np.float32(FLOAT32_MAX / most)
    while math.isinf(to_float32(Fraction(float(high)) * most)):
        high = np.nextafter(high, np.float32(0))
    return min(max(to_float32(largest / most), 2.0**-149), float(high))


def reference_value(x, scale, most):
    """The value of one finite or infinite number, and its integer."""
    whole = most if math.isinf(x) else min(round(abs(Fraction(x)) / Fraction(scale)), most)
    return math.copysign(to_float32(whole * Fraction(scale)), x), int(math.copysign(whole, x))


def hard(rng, scale, most, dtype):
    """Ties at this scale as near as the dtype has them, with neighbours; random numbers, zeros, infinities."""
    middles = (rng.integers(0, most + 2, 60) + 0.5) * float(scale)
    with np.errstate(over="ignore"):
        x = np.concatenate([middles, rng.standard_normal(60) * most * float(scale)]).astype(dtype)
        x = np.concatenate([x, np.nextafter(x, dtype(0)), np.nextafter(x, dtype(np.inf)), dtype([0, np.inf])])
    return np.concatenate([x, -x])


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_is_that_of_exact_quotients(bits, dtype):
    rng = np.random.default_rng(bits)
    format, most = formats.get(f"INT{bits}/real"), 2 ** (bits - 1) - 1
    for exponent in (-149, -140, -20, 0, 3, 100):
        scale = np.float32(np.ldexp(rng.uniform(1, 2), exponent))
        x = hard(rng, scale, most, dtype)
        expected = [reference_value(float(value), float(scale), most) for value in x]
        got = format.round(x, top=scale)
        assert got.dtype == dtype
        values = np.array([value for value, _ in expected])
        assert (got == values).all()
        assert (np.signbit(got) == np.signbit(values)).all()
        codes = format.encode(x, top=scale)
        assert codes.codes.tolist() == [whole % 2**bits for _, whole in expected]
        assert (codes.decode() == got).all()


def test_float32_division_would_decide_some_of_these_otherwise():
    # The point of deciding exactly: the float32 quotient of a number just below a tie is the tie.
    rng = np.random.default_rng(0)
    scale = np.float32(0.7531247)
    x = hard(rng, scale, 127, np.float32)
    x = x[np.isfinite(x)]
    naive = np.clip(np.rint(x / scale), -127, 127) * scale
    assert (naive != formats.get("INT8/real").round(x, top=scale)).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scale_from_data(dtype):
    rng = np.random.default_rng(1)
    for bits in (2, 4, 8, 16):
        format, most = formats.get(f"INT{bits}/real"), 2 ** (bits - 1) - 1
        tiny, large = float(np.finfo(dtype).smallest_subnormal), float(np.finfo(dtype).max)
        for largest in (0, tiny, 2.0**-149 * 300, FLOAT32_MAX, large, *np.exp2(rng.uniform(-140, 127, 100))):
            x = np.array([largest / 2, -largest, np.nan, np.inf], dtype)
            scale = format.find_top(x)
            assert scale.dtype == np.float32
            assert scale.shape == ()
            assert float(scale) == reference_scale(x.tolist(), most), (bits, largest)
            assert np.isfinite(format.round(x)[:2]).all()


@pytest.mark.parametrize("multiple", [1, 7, 127, 32767, 2688])
def test_quotients_of_float64_are_rounded_once(multiple):
    # Magnitudes at and beside those whose quotient is the midpoint of two float32 numbers.
    rng = np.random.default_rng(2)
    middles = (1 + (2 * rng.integers(0, 1 << 23, 500) + 1) / 2.0**24) * multiple
    for largest in (middles, np.nextafter(middles, 0), np.nextafter(middles, np.inf)):
        assert scales_for(largest, multiple).tolist() == [to_float32(Fraction(value) / multiple) for value in largest]


def test_all_values_are_float32_at_the_largest_scale():
    for most in (1, 7, 127, 32767, 2688):
        scale = largest_scale(most)
        with np.errstate(over="ignore"):
            assert np.isfinite(np.float32(most) * scale)
            assert np.isinf(np.float32(most) * np.nextafter(scale, np.float32(np.inf)))


def test_groups_are_tensors_side_by_side():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((5, 70)).astype(np.float32) * np.float32([[1], [100], [0], [1e-40], [1e38]])
    plain = formats.get("INT8/real")
    rows = formats.get("INT8/real/channel").round(x)
    blocks, q = formats.get("INT8/real/block32").round(x), formats.get("INT8/real/block32").encode(x)
    assert q.top.shape == (5, 3)
    for row in range(5):
        assert (rows[row] == plain.round(x[row])).all()
        for start in (0, 32, 64):
            assert (blocks[row, start : start + 32] == plain.round(x[row, start : start + 32])).all()
    assert (q.decode() == blocks).all()
    assert (formats.get("INT8/real/tile2x3").round(x)[:2, :3] == plain.round(x[:2, :3])).all()
    assert formats.get("INT8/real/block4").round(np.zeros((0, 9), np.float32)).shape == (0, 9)


def test_special_values():
    format = formats.get("INT8/real")
    x = np.float32([np.nan, np.inf, -np.inf, -0.0, 127, -0.4])
    y = format.round(x)
    assert np.isnan(y[0])
    assert y[1:].tolist() == [127, -127, 0, 127, 0]
    assert np.signbit(y[[3, 5]]).all()
    assert format.round(x, keep_infinities=True)[1:3].tolist() == [np.inf, -np.inf]
    with pytest.raises(ValueError, match="NaN"):
        format.encode(x)
    assert format.encode(x[1:]).codes.view(np.int8).tolist() == [127, -127, 0, 127, 0]
    # -128 has a code that is never produced.
    assert format.decode(np.uint8([128, 129, 255]), 0.5).tolist() == [-64, -63.5, -0.5]


def test_codes_pack_and_tensors_round():
    format = formats.get("INT4/real")
    x = np.random.default_rng(4).standard_normal((7, 9)).astype(np.float32)
    q = format.encode(x)
    assert (unpack(q.pack(), 4, x.shape) == q.codes).all()
    tensor = torch.from_numpy(x).requires_grad_()
    y = format.round(tensor)
    assert (y.detach().numpy() == format.round(x)).all()
    y.sum().backward()
    assert (tensor.grad == 1).all()
    half = format.round(torch.from_numpy(x).bfloat16())
    assert half.dtype == torch.float32
    out = x.copy()
    assert format.round(out, out=out) is out
    assert (out == format.round(x)).all()


def test_one_number_without_an_axis():
    for x in (np.float32(-3), np.array(2.5), torch.tensor(1.0)):
        q = formats.get("INT8/real").encode(x)
        assert q.codes.shape == ()
        assert abs(q.codes.view(np.int8)) == 127
        assert q.decode() == formats.get("INT8/real").round(x)


def test_names_and_values():
    format = formats.get("int8/REAL/block32@0")
    assert format.name == "INT8/real/block32@0"
    assert format == IntegerFormat(8, Scale(per="block", block=32, axis=0))
    assert (format.bits, format.family, format.granularity, format.spare_codes) == (8, "INT", "block", 0)
    assert format.digest not in (formats.get("INT8/block32@0").digest, formats.get("INT8/real").digest)
    assert formats.get("INT8/real").max(0.1) == float(np.float32(127 * np.float64(np.float32(0.1))))
    for name, match in (
        ("FP134/real", "unknown scale 'real'"),
        ("INT8/real/ceil", "no headroom, policy"),
        ("INT17/real", "17 bits"),
    ):
        with pytest.raises(ValueError, match=match):
            formats.get(name)


def test_what_is_refused():
    format, x = formats.get("INT8/real/channel"), np.ones((2, 3), np.float32)
    for top in (0.0, -1.0, np.nan, np.inf, 1e300, 1e-60):
        with pytest.raises(ValueError, match="float32 scales above 0"):
            format.round(x, top=top)
    with pytest.raises(ValueError, match=r"shape \(3,\); for this array it is a number or has shape \(2,\)"):
        format.round(x, top=np.ones(3))
    with pytest.raises(TypeError, match="a scale"):
        format.round(x, top="1")
    with pytest.raises(ValueError, match="0 to 255"):
        format.decode(np.array([256]), 1.0)
