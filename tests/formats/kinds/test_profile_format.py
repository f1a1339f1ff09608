"""Formats that a profile describes: their codes, values and facts."""

import numpy as np
import pytest

import formats
from formats import Scale


def test_minifloat_codes_are_sign_exponent_fraction():
    # FP134 at the bias of an IEEE-like E3M4: the value of code s eee ffff.
    format = formats.get("FP134")
    top = 4
    for code in range(128):
        exponent, fraction = code >> 4, code & 15
        value = (fraction / 16) * 2.0**-2 if exponent == 0 else (1 + fraction / 16) * 2.0 ** (exponent - 3)
        assert format.decode(np.uint8([code]), top)[0] == value
    for code in range(1, 128):
        assert format.decode(np.uint8([128 + code]), top)[0] == -format.decode(np.uint8([code]), top)[0]


def test_fixed_point_codes_are_two_complement():
    format = formats.get("INT8")
    x = np.float32([1.0, -1.0, 127 / 64, -127 / 64, 1 / 64, -1 / 64])
    assert format.encode(x, top=0).codes.view(np.int8).tolist() == [64, -64, 127, -127, 1, -1]
    assert format.decode(np.uint8([128]), 0)[0] == -2.0


def test_sixteen_bit_codes():
    format = formats.get("FP169")
    assert format.magnitudes(32).max() == 1023 * 2.0**23
    codes = format.encode(np.float32([1.0, -0.3]), top=32)
    assert codes.codes.dtype == np.uint16
    assert (codes.decode() == format.round(np.float32([1.0, -0.3]), top=32)).all()


def test_formats_are_values():
    a = formats.from_profile([5] * 7 + [4, 3, 2, 1], name="mine")
    b = formats.get("FP134")
    assert a == b
    assert hash(a) == hash(b)
    assert a.digest == b.digest
    assert a.name == "mine"
    assert a.with_scale(Scale(per="block", block=32)) != b
    assert a.with_scale(Scale(per="block", block=32)).name == "FP134/block32"
    assert b.digest == "eefd6f8b2aee3b77c05c6e5ab6429578c75ad318d7a8d92aacb49fe317f52436"
    with pytest.raises(AttributeError):
        b.bits = 7


def test_properties():
    f = formats.get("FP134")
    assert (f.bits, f.binades, f.spare_codes, f.granularity, f.family) == (8, 11, 0, "tensor", "FP")
    assert f.max() == 1.9375
    assert f.max(3) == 15.5
    assert f.min_positive() == 2.0**-10
    assert formats.get("profile:4:1x7").spare_codes == 0
    assert formats.get("profile:8:5,4").spare_codes == 128 - 25


@pytest.mark.parametrize("shape", [(3, 16, 5, 7), (2, 48, 4, 4), (1, 5, 9, 11), (2, 50, 3, 3), (2, 1, 6, 6)])
@pytest.mark.parametrize("block", [(48, 48), (4, 6), (16, 8)])
def test_tiles_are_the_same_in_every_memory_order(shape, block):
    scale = Scale(per="block", block=block)
    format = formats.get("FP134").with_scale(scale)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32) * np.exp2(np.arange(shape[1]) % 7)[
        :, None, None
    ].astype(np.float32)
    before = format.round(x * np.float32(1.02))
    tops = format.find_top(x)
    expected = {
        "nearest": format.round(x),
        "given": format.round(x, top=tops + 1),
        "hysteresis": format.round(x, rounding="hysteresis", previous=before),
        "stochastic": format.round(x, rounding="stochastic", seed=1),
    }
    codes = format.encode(x)
    for order in ((0, 2, 3, 1), (3, 2, 1, 0), (1, 0, 2, 3)):
        inverse = np.argsort(order)

        def lie(values, order=order, inverse=inverse):
            return np.ascontiguousarray(values.transpose(order)).transpose(inverse)

        y, out = lie(x), lie(np.zeros_like(x))
        np.testing.assert_array_equal(format.find_top(y), tops)
        np.testing.assert_array_equal(format.round(y), expected["nearest"])
        np.testing.assert_array_equal(format.round(y, out=out), expected["nearest"])
        np.testing.assert_array_equal(format.round(y, top=tops + 1), expected["given"])
        np.testing.assert_array_equal(format.round(y, rounding="hysteresis", previous=before), expected["hysteresis"])
        np.testing.assert_array_equal(
            format.round(y, rounding="hysteresis", previous=lie(before)), expected["hysteresis"]
        )
        np.testing.assert_array_equal(format.round(y, rounding="stochastic", seed=1), expected["stochastic"])
        made = format.encode(y)
        np.testing.assert_array_equal(made.codes, codes.codes)
        np.testing.assert_array_equal(made.top, codes.top)
        np.testing.assert_array_equal(made.decode(), codes.decode())


@pytest.mark.parametrize(
    "name", ["FP134", "INT8", "T8.5x3@2", "FP134/rceil", "FP134/even", "FP134/headroom1", "bfloat16", "E4M3"]
)
def test_a_scale_found_in_the_call_that_encodes_is_that_of_find_top(name):
    """Small arrays, whose scale is found on the way, as the parts of it that a given scale encodes."""
    format, rng = formats.get(name), np.random.default_rng(5)
    for size in (1, 3, 1000, 20_000, 200_000):
        for exponent in (-140, -30, 0, 100):
            x = np.ldexp(rng.standard_normal(size), exponent).astype(np.float32)
            for given in (x, np.zeros_like(x), np.where(rng.random(size) < 0.3, np.inf, x).astype(np.float32)):
                top = format.find_top(given)
                expected = format.encode(given, top=top)
                out = np.empty(size, expected.codes.dtype)
                for q in (format.encode(given), format.encode(given, out=out)):
                    assert q.top == top
                    assert (q.codes == expected.codes).all()


def test_too_many_magnitudes_are_counted():
    # 16 + 32 + 32 + 32 + 8 + 8 + 4 + 2 + 1 and zero.
    with pytest.raises(ValueError, match=r"has 136 magnitudes, zero included; 8 bits hold 128: 8 too many"):
        formats.from_profile([5, 6, 6, 6, 4, 4, 3, 2, 1], bits=8)
