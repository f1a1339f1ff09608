"""Codebooks and posits agree with a reference in exact fractions, which shares nothing with them."""

import bisect
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch

import formats
from formats.kinds.codebook_format import CodebookFormat
from formats.kinds.codebooks import NF4, from_codebook, posit
from formats.number_format import Codes
from formats.scale import Granularity, Scale
from tests.formats.inputs import around
from tests.processes import python


def same_bits(a, b):
    """Whether two arrays of floats are the same in value and in the sign of zero; NaN is NaN."""
    return a.dtype == b.dtype and bool((np.isnan(a) & np.isnan(b) | (a == b) & (np.signbit(a) == np.signbit(b))).all())


def nearest(values, boundaries, x):
    """The index that a fraction rounds to: above a boundary up, below it down, on it to the even index."""
    i = bisect.bisect_left(boundaries, x)
    if i < len(boundaries) and boundaries[i] == x:
        return i if i % 2 == 0 else i + 1
    return i


def reference(values, x, signed):
    """What a codebook of fractions makes of a finite float at top 0."""
    boundaries = [(low + high) / 2 for low, high in itertools.pairwise(values)]
    if signed:
        return math.copysign(values[nearest(values, boundaries, abs(Fraction(x)))], x)
    return float(values[nearest(values, boundaries, Fraction(x))])


TABLES = {
    "NF4": (NF4.values, False),
    "three": ((-3.0, 0.5, 2.0), False),
    "far apart": ((-1.0, 0.0, 2.0**-100, 1.0, 1.5, 2.0**30), False),
    "magnitudes": ((0.0, 0.25, 0.5, 1.0), True),
    "no zero": ((0.125, 0.3125, 3.0), True),
    "near": ((0.0, 1.0, float(np.float32(1) + np.spacing(np.float32(1))), 2.0), True),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tables_agree_with_the_reference(name, dtype):
    values, signed = TABLES[name]
    format = from_codebook(values, signed=signed)
    exact = [Fraction(v) for v in values]
    middles = [(low + high) / 2 for low, high in itertools.pairwise(exact)]
    x = around(middles, exact, dtype)
    got = format.round(x, top=0)
    assert got.dtype == dtype
    expected = np.array([reference(exact, float(v), signed) for v in x], dtype)
    assert (got == expected).all()
    if signed:
        assert (np.signbit(got) == np.signbit(x)).all()
    codes = format.encode(x, top=0)
    assert (codes.decode() == got).all()
    assert codes.codes.dtype == np.uint8
    # All that `top` does is to multiply by 2^top.
    assert (format.round(np.ldexp(x, 5), top=5) == np.ldexp(got, 5)).all()


def test_a_float64_just_above_a_tie_goes_up():
    # The sum of these neighbours, 1 + 2^-100, is no float64: 0.5 lies below the true midpoint, so it is no tie.
    format = from_codebook([2.0**-100, 1.0], signed=True)
    assert format.round(np.array([0.5, np.nextafter(0.5, 1)]), top=0).tolist() == [2.0**-100, 1.0]
    format = from_codebook([-3.0, -(2.0**-100), 1.0])  # the true midpoint is just below 0.5, an odd index below it
    assert format.round(np.array([0.5, np.nextafter(0.5, 0)]), top=0).tolist() == [1.0, -(2.0**-100)]
    assert from_codebook([0, 1, 2]).round(np.array([0.5, np.nextafter(0.5, 1), 1.5]), top=0).tolist() == [0, 1, 2]


def test_special_values():
    x = np.array([np.nan, np.inf, -np.inf, -0.0], np.float32)
    assert NF4.round(x, top=0).tolist()[1:] == [1, -1, 0]
    assert np.isnan(NF4.round(x)[0])
    assert NF4.round(x, keep_infinities=True).tolist()[1:] == [np.inf, -np.inf, 0]
    with pytest.raises(ValueError, match="NaN"):
        NF4.encode(x)
    assert posit(8, 2).encode(x).codes[0] == 0x80
    payloads = np.array([0x7F800001, 0xFFFFFFFF, 0x7FC00000], np.uint32).view(np.float32)
    assert np.isnan(NF4.round(payloads)).all()
    table = from_codebook([0, 1, 2], signed=True)
    assert np.signbit(table.round(np.array([-0.0, -0.1]), top=0)).all()
    assert table.encode(np.array([-0.0, -0.1, -1.2]), top=0).codes.tolist() == [0, 0, 5]


def test_top_comes_from_the_data():
    x = np.array([0.3, -11.0, np.inf, np.nan], np.float32)
    assert NF4.find_top(x) == 3  # floor(log2 11) - floor(log2 1)
    assert (NF4.round(x[:2]) == NF4.round(x[:2], top=3)).all()
    assert posit(8, 2).find_top(x) == 3 - 24
    assert NF4.find_top(np.zeros(3)) == 0
    assert NF4.find_top(np.zeros((0, 2))) == 0
    low, high = NF4.top_range
    assert NF4.find_top(np.array([1e-45], np.float32)) == low
    assert high == 127
    assert (NF4.decode(np.arange(16), top=low) == NF4.round(NF4.decode(np.arange(16), top=low), top=low)).all()
    roomy = CodebookFormat(NF4.values, 4, scale=Scale(headroom=2))
    assert roomy.find_top(x) == 5
    assert NF4.encode(x[:2]).top == 3
    with pytest.raises(ValueError, match="outside"):
        NF4.round(x, top=high + 1)
    with pytest.raises(TypeError, match="whole number"):
        NF4.round(x, top=1.5)
    with pytest.raises(ValueError, match=r"it is a number or has shape \(\)"):
        NF4.round(x, top=np.array([1, 2]))


@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 5), (2, 1, 3)])
def test_shapes_kinds_and_out(shape):
    rng = np.random.default_rng(1)
    x = rng.standard_normal(shape).astype(np.float32) if shape else np.array(0.3, np.float32)
    for format in (NF4, posit(8, 1)):
        y = format.round(x)
        assert y.shape == shape
        t = torch.from_numpy(x)
        assert (format.round(t).numpy() == y).all()
        assert format.encode(x).decode().shape == shape
        out = np.empty_like(x)
        assert format.round(x, out=out) is out
        assert (out == y).all()
        inplace = x.copy()
        format.round(inplace, out=inplace)
        assert (inplace == y).all()
    spread = np.broadcast_to(x, (4, *shape))
    assert (NF4.round(spread) == NF4.round(np.ascontiguousarray(spread))).all()


def test_torch_dtypes_and_autograd():
    t = torch.randn(9, dtype=torch.bfloat16)
    assert NF4.round(t).dtype == torch.float32
    assert (NF4.round(t) == NF4.round(t.float())).all()
    assert NF4.round(t.double()).dtype == torch.float64
    t.requires_grad_()
    y = NF4.round(t)
    assert y.dtype == torch.bfloat16
    y.sum().backward()
    assert (t.grad == 1).all()


def test_equality_hash_digest_and_facts():
    a, b = from_codebook([1, 0, 0.5], signed=True, name="a"), from_codebook([0, 0.5, 1], signed=True, name="b")
    assert a == b
    assert hash(a) == hash(b)
    assert a.digest == b.digest
    assert a != from_codebook([0, 0.5, 1])
    assert a.digest != from_codebook([0, 0.5, 1]).digest
    assert posit(8, 2) != posit(8, 1)
    assert (a.bits, a.spare_codes, a.family, a.granularity) == (3, 1, "codebook", Granularity.TENSOR)
    assert (NF4.name, NF4.bits, NF4.spare_codes, NF4.max(3)) == ("NF4", 4, 0, 8.0)
    assert NF4.min_positive() == NF4.values[8]
    assert a.magnitudes(1).tolist() == [0, 1, 2]
    assert from_codebook([0, 0.5, 1]).name.startswith("codebook:")
    assert isinstance(a.encode(np.zeros(2)), Codes)
    # Values that are no float32 are rounded to one.
    assert from_codebook([0, 0.1]).values[1] == float(np.float32(0.1))


def test_errors_say_what_is_wrong():
    for values, bits, match in [
        ([0, 0], None, "ascending"),
        ([], None, "ascending"),
        ([0.0], None, "not zero"),
        ([1, np.inf], None, "finite"),
        ([1, np.nan], None, "finite"),
        ([1e300], None, "finite"),
        (range(9), 3, "do not fit"),
        ([1], 17, "1 to 16"),
    ]:
        with pytest.raises(ValueError, match=match):
            from_codebook(values, bits=bits)
    with pytest.raises(ValueError, match="negative"):
        from_codebook([-1, 1], signed=True)
    for scale, match in (
        (Scale(policy="rceil"), r"^scale policy rceil: codebooks find their scale by the floor rule alone; a headroom"),
        (Scale(exponent_field=(0, 1)), r"^exponent field \(0, 1\): scales of codebooks have none"),
    ):
        with pytest.raises(ValueError, match=match):
            CodebookFormat((0.0, 1.0), 1, scale=scale)
    with pytest.raises(ValueError, match="boundaries"):
        CodebookFormat((0.0, 1.0), 1, boundaries=(2.0,))
    for bits, es in [(1, 0), (17, 2), (16, 4), (8, -1)]:
        with pytest.raises(ValueError, match="posit"):
            posit(bits, es)
    table = from_codebook([0, 1, 2])
    with pytest.raises(ValueError, match="no value"):
        table.decode([3])
    with pytest.raises(ValueError, match="0 to 3"):
        table.decode([4])
    with pytest.raises(TypeError, match="whole numbers"):
        table.decode([0.5])
    with pytest.raises(TypeError, match="int32"):
        table.round(np.zeros(2, np.int32))
    with pytest.raises(ValueError, match="out is"):
        table.round(np.zeros(2), out=np.zeros(3))


def test_no_torch_and_no_numba_are_loaded():
    code = "import sys, formats; sys.exit(any(name in sys.modules for name in ('torch', 'numba')))"
    python("-c", code)


# Scales per channel and block: each group is what a tensor of its own would be.


@pytest.mark.parametrize("name", ["NF4", "posit<8,2>", "posit<6,1>"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_blocks_and_channels_are_tensors_side_by_side(name, dtype):
    rng = np.random.default_rng(0)
    x = np.ldexp(rng.standard_normal((6, 150)), rng.integers(-30, 30, (6, 150))).astype(dtype)
    x[0, :3], x[1, 64:128], x[2, 70] = [np.nan, np.inf, -np.inf], 0, np.finfo(dtype).smallest_subnormal
    plain, blocks, channels = (formats.get(name + suffix) for suffix in ("", "/block64", "/channel"))
    assert blocks.name == f"{name}/block64"
    assert blocks.find_top(x).shape == (6, 3)
    for row in range(6):
        assert same_bits(channels.round(x)[row], plain.round(x[row]))
        for start in (0, 64, 128):
            part = x[row, start : start + 64]
            assert same_bits(blocks.round(x)[row, start : start + 64], plain.round(part))
            assert blocks.find_top(x)[row, start // 64] == plain.find_top(part)
    numbers = np.where(np.isnan(x), 0, x)
    for format in (blocks, channels):
        codes = format.encode(numbers)
        assert (codes.decode() == format.round(numbers)).all()
        assert (format.encode(numbers, top=codes.top).codes == codes.codes).all()


def test_a_block_of_nf4_by_hand():
    x = np.zeros((2, 66), np.float32)
    x[0, 0], x[0, 1], x[0, 64], x[0, 65] = 1.0, 0.35, 4.0, 1.4
    q = formats.get("nf4/block64").encode(x)
    assert q.top.tolist() == [[0, 2], [0, 0]]
    assert q.codes[0, [0, 1, 2, 64, 65]].tolist() == [15, 11, 7, 15, 11]
    assert q.decode()[0, 65] == np.float32(4 * 0.33791524171829224)


def test_scales_of_a_codebook_by_name_and_by_hand():
    table = from_codebook([0, 1, 2, 4], signed=True, name="table")
    tiled = table.with_scale(Scale(per="block", block=(2, 2)))
    assert tiled.name == "table/tile2x2"
    assert tiled.with_scale(Scale(headroom=1)).name == "table/headroom1"
    assert tiled.with_scale(Scale()) == table
    assert tiled.digest != table.digest
    with pytest.raises(
        ValueError, match=r"shape \(3,\); for this array in table/tile2x2 it is a number or has shape \(1, 2\)"
    ):
        tiled.round(np.ones((2, 4), np.float32), top=np.zeros(3, int))
    with pytest.raises(ValueError, match="top 200 is outside"):
        tiled.decode(np.zeros((2, 4), np.uint8), [[0, 200]])
    # 1 at a top of -1 is the value 2 / 2, at a top of 1 the tie between 0 and 2, which goes to the even code.
    assert tiled.round(np.ones((2, 4), np.float32), top=[[-1, 1]]).tolist() == [[1, 1, 0, 0]] * 2
