"""The scale rule, codes, and what is refused."""

import numpy as np
import pytest
import torch

import formats
from formats import Scale

ONE_OF_EACH = [
    "INT8",
    "INT6",
    "FP134",
    "FP152",
    "T8.5x3@2",
    "T7.4x2@1",
    "BM43",
    "BM07",
    "FP134/channel",
    "INT8/block4",
    "FP133/tile3x2",
]


def test_top_from_data():
    format = formats.get("FP134")
    for largest, top in ((1.0, 0), (1.9999999, 0), (2.0, 1), (0.75, -1), (2.0**-149, -139), (3.4e38, 127), (0.0, 0)):
        assert int(format.find_top(np.float32([0, -largest]))) == top, largest
    assert int(format.find_top(np.float32([np.nan, np.inf, -4.0]))) == 2
    assert int(format.find_top(np.float32([np.nan, -np.inf]))) == 0
    assert int(format.find_top(np.zeros((0, 3), np.float32))) == 0
    assert int(format.find_top(np.float64([1e300]))) == 127
    assert int(formats.get("FP134/headroom2").find_top(np.float32([1.0]))) == 2


def test_top_of_channels_and_blocks():
    x = np.float32([[1, 2, 3, 4, 5], [16, 8, 0, 0, 0.25]])
    assert formats.get("FP134/channel").find_top(x).tolist() == [2, 4]
    assert formats.get("FP134/channel@1").find_top(x).tolist() == [4, 3, 1, 2, 2]
    assert formats.get("FP134/block2").find_top(x).tolist() == [[1, 2, 2], [4, 0, -2]]
    assert formats.get("FP134/block2@0").find_top(x).tolist() == [[4, 3, 1, 2, 2]]
    assert formats.get("FP134/tile2x4").find_top(x).tolist() == [[4, 2]]


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_decode_of_encode_is_round(name):
    rng = np.random.default_rng(0)
    format = formats.get(name)
    for shape in ((4, 6, 5, 3), (50, 61), (9,)):
        x = np.ldexp(rng.standard_normal(shape), -rng.integers(0, 14, shape)).astype(np.float32)
        codes = format.encode(x)
        assert codes.codes.dtype == np.uint8
        assert codes.codes.shape == shape
        assert (codes.decode() == format.round(x)).all()
        assert (format.encode(torch.from_numpy(x)).codes == codes.codes).all()


@pytest.mark.parametrize("format", formats.catalogue(), ids=lambda f: f.name)
def test_every_code_decodes_to_its_own_value(format):
    values = format.magnitudes(3)
    assert len(values) == 2 ** (format.bits - 1) - format.spare_codes
    flat = formats.from_profile(format.profile, format.bits)
    codes = flat.encode(np.concatenate([values, -values[1:]]).astype(np.float32), top=3).codes.astype(int)
    index = np.arange(len(values))
    half = 1 << (format.bits - 1)
    assert (codes[: len(values)] == index).all()
    negative = (
        (2 * half - index[1:])
        if format.family == "INT" or format.name in ("BM07", "BM06", "BM05")
        else half + index[1:]
    )
    assert (codes[len(values) :] == negative).all()


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


@pytest.mark.parametrize("name", ["FP134", "INT8", "FP134/channel", "INT8/block4", "FP133/tile3x2", "INT16"])
def test_codes_into_memory_that_is_there(name):
    format = formats.get(name)
    x = np.random.default_rng(2).standard_normal((5, 12)).astype(np.float32)
    expected = format.encode(x)
    stored = expected.codes.dtype
    for top in (None, expected.top):
        contiguous, strided, turned = (
            np.empty((5, 12), stored),
            np.empty((5, 24), stored)[:, ::2],
            np.empty((12, 5), stored).T,
        )
        for out in (contiguous, strided, turned):
            made = format.encode(x, top=top, out=out)
            assert made.codes is out
            assert (out == expected.codes).all()
        over = x.copy()
        out = over.view(stored)[:, :12]  # the memory that is still to be read
        assert (format.encode(over, top=top, out=out).codes == expected.codes).all()
    readonly = np.empty((5, 12), stored)
    readonly.flags.writeable = False
    for wrong in (np.empty((5, 12), np.int32), np.empty((12, 5), stored), readonly, [0]):
        with pytest.raises(ValueError, match=r"out is .* a writeable array of"):
            format.encode(x, out=wrong)


def test_what_is_refused():
    format = formats.get("FP134")
    with pytest.raises(ValueError, match="NaN"):
        format.encode(np.float32([np.nan]))
    with pytest.raises(ValueError, match="outside -139 to 127"):
        format.round(np.float32([1]), top=128)
    with pytest.raises(ValueError, match="outside"):
        format.round(np.float32([1]), top=-140)
    with pytest.raises(ValueError, match="shape"):
        format.round(np.ones((2, 2), np.float32), top=np.array([1, 2]))
    with pytest.raises(TypeError, match="whole number"):
        format.round(np.float32([1]), top=1.5)
    with pytest.raises(ValueError, match="stands for no value"):
        format.decode(np.uint8([128]))
    with pytest.raises(ValueError, match="axis 4"):
        formats.get("FP134/channel@4").round(np.ones((2, 2), np.float32))
    for make, message in (
        (lambda: Scale(per="row"), "allowed are tensor, channel, block"),
        (lambda: Scale(headroom=-1), "headroom"),
        (lambda: Scale(per="block"), "block size"),
        (lambda: Scale(block=4), "block size"),
        (lambda: Scale(per="block", block=0), "positive"),
        (lambda: formats.from_profile([]), "at least one binade"),
        (lambda: formats.from_profile([4, 0]), "1 to 24"),
        (lambda: formats.from_profile([7] * 4, bits=8), "257 magnitudes"),
        (lambda: formats.from_profile([3] * 300), "no scale"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(TypeError, match="whole number"):
        formats.from_profile([4, 3.5])


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


@pytest.mark.parametrize(
    "name",
    [
        "E4M3",
        "E5M2/standard",
        "E8M0",
        "TF32",
        "NF4",
        "NF4/block4",
        "posit<8,2>",
        "INT8/real",
        "INT4/real/channel",
        "NVFP4",
        "MXFP4",
    ],
)
def test_codes_of_the_other_kinds_into_memory_that_is_there(name):
    format = formats.get(name)
    x = np.abs(np.random.default_rng(3).standard_normal((4, 32))).astype(np.float32) + np.float32(0.1)
    expected = format.encode(x).codes
    strided = np.empty((4, 64), expected.dtype)[:, ::2]
    over = x.copy()
    for given, out in ((x, np.empty_like(expected)), (x, strided), (over, over.view(expected.dtype)[:, :32])):
        q = format.encode(given, out=out)
        assert q.codes is out
        assert (out == expected).all()
    with pytest.raises(ValueError, match=r"out is .* a writeable array of"):
        format.encode(x, out=np.empty((32, 4), expected.dtype))


def test_minus_zero_and_nan_of_a_block_into_the_memory_of_the_input():
    mx = formats.get("MXFP4")
    x = np.float32([[-0.0, 1.0, -3.0] + [0.0] * 29, [np.nan, -0.0] + [2.0] * 30])
    expected = mx.encode(x)
    over = x.copy()
    q = mx.encode(over, out=over.view(np.uint8)[:, :32])
    assert (q.codes == expected.codes).all()
    assert (q.top == expected.top).all()
    assert q.codes[0, 0] == 8


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
