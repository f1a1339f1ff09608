"""NVFP4 agrees bit for bit with its definition in exact fractions."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch

import formats
from formats import Scale
from formats.kinds.nvfp4 import NVFP4Format, NVFP4Scales
from formats.packing import unpack
from tests.formats.reference import E2M1, E4M3, to_float32


def nearest(values, number):
    """The index of the nearest value, a tie to the even index; the last beyond."""
    below = max(i for i, value in enumerate(values) if value <= number)
    if below == len(values) - 1:
        return below
    middle = (values[below] + values[below + 1]) / 2
    return below + (number > middle or (number == middle and below % 2 == 1))


def reference_scales(blocks):
    """The tensor's scale, and the index of each block's, of lists of floats."""
    largest = [max((abs(Fraction(x)) for x in block if math.isfinite(x)), default=Fraction(0)) for block in blocks]
    quotient = to_float32(max(largest, default=Fraction(0)) / (6 * 448))
    tensor = quotient if any(largest) else 1.0
    high = np.float32(np.finfo(np.float32).max / 2688)
    while math.isinf(to_float32(Fraction(float(high)) * 2688)):
        high = np.nextafter(high, np.float32(0))
    tensor = min(max(tensor, 2.0**-149), float(high))
    return tensor, [nearest(E4M3, value / 6 / Fraction(tensor)) for value in largest]


def reference(blocks, tensor, scales):
    """The values and codes of lists of floats without NaN, at these scales."""
    values, codes = [], []
    for block, index in zip(blocks, scales, strict=True):
        scale = E4M3[index] * Fraction(tensor)
        for x in block:
            # A block whose scale is 0 holds zeros.
            element = 0 if not scale else 7 if math.isinf(x) else nearest(E2M1, abs(Fraction(x)) / scale)
            values.append(math.copysign(to_float32(E2M1[element] * scale), x))
            codes.append(element + 8 * (math.copysign(1, x) < 0))
    return values, codes


def cut(x):
    """Rows in blocks of 16, the last of each row perhaps short."""
    return [row[start : start + 16].tolist() for row in x for start in range(0, len(row), 16)]


def check(x):
    """Scales, values and codes of a matrix without NaN."""
    format = formats.get("NVFP4")
    tensor, scales = reference_scales(cut(x))
    found = format.find_top(x)
    assert float(found.tensor) == tensor
    assert found.blocks.dtype == np.uint8
    assert found.blocks.ravel().tolist() == scales
    values, codes = reference(cut(x), tensor, scales)
    got, q = format.round(x), format.encode(x)
    assert got.dtype == x.dtype
    assert got.ravel().tolist() == values
    assert (np.signbit(got).ravel() == np.signbit(values)).all()
    assert q.codes.ravel().tolist() == codes
    assert q.decode().dtype == np.float32
    assert q.decode().ravel().tolist() == values
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("exponent", [-160, -149, -140, -30, 0, 90, 124])
def test_random_numbers_of_any_size(dtype, exponent):
    rng = np.random.default_rng(exponent + 200)
    # 37 a row: the last block of each is short. Blocks differ by up to 2^25, so some scales are subnormal and some are
    # 0.
    x = rng.standard_normal((6, 37)) * np.exp2(rng.integers(-25, 1, (6, 3))).repeat([16, 16, 5], axis=1)
    check(np.ldexp(x, exponent).astype(dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_tie_and_its_neighbours(dtype):
    # The first element of a block fixes its scale, the tensor's largest fixes that of the tensor; ties are those of the
    # scales found.
    rng = np.random.default_rng(5)
    for largest in (2688.0, 6.0, 1.2345, 3.1e-30):
        scales = rng.integers(1, 127, 60)
        tensor = float(to_float32(Fraction(float(dtype(largest))) / 2688))
        size = np.array([float(E4M3[index]) for index in scales]) * tensor
        middles = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0]) * size[:, None]
        x = np.zeros((60, 16), dtype)
        x[:, 0], x[:, 1:8], x[:, 8] = 6 * size, middles, -middles[:, 3]
        x[:, 9:16] = np.nextafter(middles.astype(dtype), dtype(np.inf) if largest > 3 else dtype(0))
        x[0, 0] = largest
        check(x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ties_of_block_scales(dtype):
    middles = np.array([float(a + b) / 2 for a, b in itertools.pairwise(E4M3)])
    x = np.zeros((3, 127 * 16), dtype)
    x[0, : 126 * 16 : 16], x[:, -16] = 6 * middles, 2688
    x[1:, : 126 * 16 : 16] = np.nextafter(x[0, : 126 * 16 : 16], dtype([[0], [9999]]))
    found = check(x)
    assert float(found.tensor) == 1
    assert found.blocks[0, :4].tolist() == [0, 2, 2, 4]
    assert found.blocks[:, 0].tolist() == [0, 0, 1]


def test_zeros():
    found = check(np.array([[0.0, -0.0] * 10], np.float32))
    assert float(found.tensor) == 1
    assert not found.blocks.any()
    x = np.zeros((2, 32), np.float32)
    x[1, 20] = -5
    assert check(x).blocks.tolist() == [[0, 0], [0, 126]]
    # A block so far below the maximum that its scale is 0 is zero.
    x[0, 0] = 5 * 2.0**-20
    assert formats.get("NVFP4").round(x)[0, 0] == 0
    empty = formats.get("NVFP4").encode(np.zeros((3, 0), np.float32))
    assert empty.top.blocks.shape == (3, 0)
    assert empty.decode().shape == (3, 0)
    assert formats.get("NVFP4").round(np.float32(2.5)).shape == ()


def test_infinities_saturate_at_the_scale_of_the_finite_elements():
    x = np.zeros((1, 40), np.float32)
    x[0, :3], x[0, 16] = [2.625, np.inf, -np.inf], 1.5
    x[0, 39] = np.inf
    y = formats.get("NVFP4").round(x)
    check(x)
    assert y[0, :3].tolist() == [2.625, 2.625, -2.625]
    assert y[0, 39] == 0  # all finite elements of its block are zeros
    assert formats.get("NVFP4").round(x, keep_infinities=True)[0, [1, 2, 39]].tolist() == [np.inf, -np.inf, np.inf]


def test_nan_stays_and_has_no_code():
    x = np.float32([[1.0, np.nan, -6.0] + [0.3] * 20])
    y = formats.get("NVFP4").round(x)
    without = formats.get("NVFP4").round(np.where(np.isnan(x), np.float32(0), x))
    assert np.isnan(y[0, 1])
    assert (np.delete(y, 1) == np.delete(without, 1)).all()
    with pytest.raises(ValueError, match="NaN, for which NVFP4 has no code"):
        formats.get("NVFP4").encode(x)


def test_the_largest_numbers_stay_finite():
    for dtype in (np.float32, np.float64):
        x = np.full((1, 16), np.finfo(dtype).max, dtype)
        assert np.isfinite(formats.get("NVFP4").round(x)).all()
    # Below 2688 * 2^-149 the scale of the tensor cannot shrink further.
    check(np.ldexp(np.arange(32, dtype=np.float32).reshape(2, 16), -149))


def test_product_order_matters_and_is_the_exact_one():
    # element * (s_b * s_t) rounds twice and gives another float32 somewhere; (element * s_b) * s_t is the value.
    x = np.random.default_rng(6).standard_normal((200, 64)).astype(np.float32)
    q = formats.get("NVFP4").encode(x)
    element = np.copysign(np.array(E2M1, np.float32)[q.codes & 7], x)
    scale = np.array(E4M3, np.float32)[q.top.blocks].repeat(16, axis=1)
    assert (q.decode() == (element * scale) * q.top.tensor).all()
    assert (q.decode() != element * (scale * q.top.tensor)).any()


def test_blocks_along_other_axes_and_tiles():
    x = np.random.default_rng(7).standard_normal((40, 36)).astype(np.float32)
    plain = formats.get("NVFP4")
    assert (formats.get("NVFP4/block16@0").round(x) == plain.round(x.T.copy()).T).all()
    assert (plain.round(np.asfortranarray(x)) == plain.round(x)).all()
    tiled = formats.get("nvfp4/tile16x16")
    found = tiled.find_top(x)
    assert found.blocks.shape == (3, 3)
    flat = x[:16, :16].reshape(1, -1)
    whole = NVFP4Format(Scale(per="block", block=256))
    scales = NVFP4Scales(found.blocks[:1, :1], found.tensor)
    assert (tiled.round(x)[:16, :16].reshape(1, -1) == whole.round(flat, top=scales)).all()


def test_tensors_codes_and_names():
    format = formats.get("nvfp4")
    x = np.random.default_rng(8).standard_normal((3, 40)).astype(np.float32)
    q = format.encode(torch.from_numpy(x))
    assert (unpack(q.pack(), 4, x.shape) == q.codes).all()
    tensor = torch.from_numpy(x).requires_grad_()
    format.round(tensor).sum().backward()
    assert (tensor.grad == 1).all()
    assert (format.round(tensor).detach().numpy() == format.round(x)).all()
    assert (format.name, format.bits, format.granularity, format.spare_codes) == ("NVFP4", 4, "block", 0)
    assert formats.get("NVFP4/block16") == format
    assert formats.get("NVFP4/block32").name == "NVFP4/block32"
    assert len({formats.get(name).digest for name in ("NVFP4", "NVFP4/block32", "MXFP4", "E2M1")}) == 4
    # The scales of one array can be given for another.
    assert (format.round(x / 2, top=q.top) == format.encode(x / 2, top=q.top).decode()).all()


def test_what_is_refused():
    format, x = formats.get("NVFP4"), np.ones((2, 20), np.float32)
    blocks = np.zeros((2, 2), np.uint8)
    for top, error, match in (
        (1.0, TypeError, "NVFP4Scales or None"),
        (
            NVFP4Scales(blocks[:1], np.float32(1)),
            ValueError,
            r"shape \(1, 2\) were given; an array of shape \(2, 20\) has \(2, 2\)",
        ),
        (NVFP4Scales(blocks + np.uint8(127), np.float32(1)), ValueError, "negative or NaN"),
        (NVFP4Scales(blocks, np.float32(0)), ValueError, "tensor scale 0"),
        (NVFP4Scales(blocks, np.float32(np.nan)), ValueError, "tensor scale nan"),
    ):
        with pytest.raises(error, match=match):
            format.round(x, top=top)
    with pytest.raises(ValueError, match="0 to 15"):
        format.decode(np.full((2, 20), 16), NVFP4Scales(blocks, np.float32(1)))
    for name, match in (
        ("NVFP4/ceil", "scales per block, without"),
        ("NVFP4/headroom1", "headroom"),
        ("NVFP4/channel", "per block"),
    ):
        with pytest.raises(ValueError, match=match):
            formats.get(name)
