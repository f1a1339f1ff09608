"""Rounding agrees with the exact reference, everywhere a mistake could hide."""

import numpy as np
import pytest
import torch

import formats
from tests.formats.inputs import hard_floats, random_floats
from tests.formats.reference import Reference

CATALOGUE = formats.catalogue()
TENSOR_SCALED = [f for f in CATALOGUE if f.granularity == "tensor"]


def bits32(values):
    """float32 bit patterns, by which NaN and -0 are told apart."""
    return np.ascontiguousarray(values, np.float32).view(np.uint32)


def check(format, top, x):
    """Compare with the reference bit for bit; NaN must stay NaN with its bits."""
    reference = Reference(format.profile, top)
    got = format.round(x, top=top)
    assert got.dtype == x.dtype
    nan = np.isnan(x)
    assert np.isnan(got[nan]).all()
    x, got = x[~nan], got[~nan]
    expected = np.array([reference.round(float(value)) for value in x])
    wrong = np.flatnonzero((got != expected) | (np.signbit(got) != np.signbit(expected)))
    assert not wrong.size, (
        f"{format.name} at T = {top}: {x[wrong[0]].hex()} gives {got[wrong[0]]}, not {expected[wrong[0]]}"
    )


@pytest.mark.parametrize("bits", [8, 7, 6])
def test_all_formats_at_hard_and_random_inputs(bits):
    rng = np.random.default_rng(bits)
    for number, format in enumerate(f for f in TENSOR_SCALED if f.bits == bits):
        low, high = format.top_range
        ordinary = int(rng.integers(-20, 21))
        # All formats at an ordinary scale; in turn also at the ends of the range, where values are subnormal or close
        # to overflow.
        for top in (0, ordinary, (low, high, low + 1 + number % 30)[number % 3]):
            reference = Reference(format.profile, top)
            x = np.concatenate([hard_floats(reference, np.float32), random_floats(rng, 30, top)])
            check(format, top, x)


def test_numpy_and_torch_agree_for_all_formats():
    rng = np.random.default_rng(0)
    x = np.ldexp(rng.standard_normal((2, 3, 50, 49)), -rng.integers(0, 40, (2, 3, 50, 49))).astype(np.float32)
    t = torch.from_numpy(x)
    for format in CATALOGUE:
        assert (bits32(format.round(x)) == bits32(format.round(t).numpy())).all(), format.name


@pytest.mark.parametrize(
    "name",
    [
        "INT8",
        "FP134",
        "FP152",
        "T8.5x3@2",
        "T6.3x2@4",
        "profile:16:10x63,9,8,7,6,5,4,3,2,1",
        "profile:8:4,6,2,1",
        "profile:8:3,1",
    ],
)
def test_float64_is_rounded_once(name):
    format = formats.get(name)
    reference = Reference(format.profile, -3)
    x = hard_floats(reference, np.float64)
    rng = np.random.default_rng(1)
    x = np.concatenate(
        [x, np.ldexp(rng.standard_normal(300), -rng.integers(0, 60, 300)), [5e-324, -1e308, np.inf, np.nan]]
    )
    check(format, -3, x)


def test_a_float64_just_above_a_tie_goes_up():
    x = np.float64(1 + 2.0**-5) + 2.0**-50  # FP134's tie between 1 and 1.0625 at T = 0
    assert formats.get("FP134").round(np.array([x, 1 + 2.0**-5]), top=0).tolist() == [1.0625, 1.0]


@pytest.mark.parametrize(
    "name",
    ["profile:8:5,5,6,5,5,4,4,3,3,3,2,1", "profile:8:1x32,2x4,3", "profile:16:9,3x40,12,1", "FP187", "INT16", "FP170"],
)
def test_profiles_outside_the_catalogue(name):
    format = formats.get(name)
    rng = np.random.default_rng(2)
    for top in (format.top_range[0], format.top_range[0] + 9, format.top_range[1]):
        reference = Reference(format.profile, top)
        hard = hard_floats(reference, np.float32)
        chosen = hard if len(hard) < 6000 else rng.choice(hard, 6000)
        check(format, top, np.concatenate([chosen, random_floats(rng, 200, top)]))


def test_both_loops_agree_on_every_bfloat16_and_many_patterns():
    """The vector loop, the exact loop (reached through float64) and their hand-over at subnormal scales."""
    patterns = (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32)
    rng = np.random.default_rng(3)
    x = np.concatenate([patterns, rng.integers(0, 1 << 32, 100_000, dtype=np.uint32).view(np.float32)])
    x = x[~np.isnan(x)]
    for name in ("FP134", "FP152", "INT8", "T8.4x8@3", "T6.3x7@1"):
        format = formats.get(name)
        low, high = format.top_range
        for top in (*range(low, low + 40, 3), 0, high):
            fast = format.round(x, top=top)
            exact = format.round(x.astype(np.float64), top=top)
            assert (fast == exact).all(), (name, top)
            assert (np.signbit(fast) == np.signbit(exact)).all()


def test_nan_keeps_its_bits_and_infinities_saturate_or_stay():
    x = np.array([0x7F800001, 0x7FFFFFFF, 0xFFC12345, 0x7F800000, 0xFF800000], np.uint32).view(np.float32)
    format = formats.get("FP143")
    rounded = format.round(x, top=8)
    assert (bits32(rounded[:3]) == bits32(x[:3])).all()
    assert rounded[3:].tolist() == [480.0, -480.0]
    assert format.round(x, top=8, keep_infinities=True)[3:].tolist() == [np.inf, -np.inf]


def test_signed_zero():
    x = np.float32([-0.0, 0.0, -1e-30, 1e-30])
    rounded = formats.get("INT8").round(x, top=0)
    assert np.signbit(rounded).tolist() == [True, False, True, False]
    assert (rounded == 0).all()
    assert formats.get("INT8").encode(x, top=0).codes.tolist() == [0, 0, 0, 0]


def test_one_significant_bit_ties_go_up():
    log = formats.get("profile:4:1x7")
    assert log.round(np.float32([1.5, 1.49999, 0.75, 1.9, 2.0**-7]), top=0).tolist() == [1.0, 1.0, 1.0, 1.0, 0.0]
    assert log.round(np.float32([1.5, 3.0, 6.0, 0.046875]), top=3).tolist() == [2.0, 4.0, 8.0, 0.0]
    assert log.round(np.nextafter(np.float32(0.0625), np.float32(1)), top=3) == 0.125


@pytest.mark.parametrize(
    "shape",
    [(48, 48), (1, 1), (49, 97), (7,), (100,), (), (3, 5, 60, 70), (2, 50, 7, 9), (2, 3, 50, 10, 5), (0, 4), (4, 0)],
)
def test_block_minifloats_tile_by_tile(shape):
    rng = np.random.default_rng(len(shape))
    x = np.ldexp(rng.standard_normal(shape), -rng.integers(0, 30, shape)).astype(np.float32)
    x = np.asarray(x, np.float32)
    if x.size > 60:
        x.reshape(-1)[:50] = 0
        x.reshape(-1)[[51, 55]] = np.nan, -np.inf
    for format in formats.catalogue(family="BM"):
        expected = np.empty_like(x)
        image = x.reshape(x.shape[0], x.shape[1], -1) if x.ndim == 4 else x
        out = expected.reshape(image.shape)
        rows, columns = (1, 48) if x.ndim < 2 else (48, 48)
        image2, out2 = (image.reshape(1, -1), out.reshape(1, -1)) if x.ndim < 2 else (image, out)
        for lead in np.ndindex(image2.shape[:-2]):
            for r in range(0, image2.shape[-2], rows):
                for c in range(0, image2.shape[-1], columns):
                    at = (*lead, slice(r, r + rows), slice(c, c + columns))
                    tile = image2[at]
                    largest = np.abs(tile[np.isfinite(tile)]).max(initial=0)
                    low, high = format.top_range
                    top = min(max(int(np.floor(np.log2(np.float64(largest)))) if largest else 0, low), high)
                    # A reference tile is one tensor of the same grid; the tensor kernel was checked above against the
                    # exact reference.
                    out2[at] = formats.from_profile(format.profile, format.bits).round(
                        np.ascontiguousarray(tile), top=top
                    )
        rounded = format.round(x)
        assert (bits32(rounded) == bits32(expected)).all(), format.name
        assert (bits32(format.round(torch.from_numpy(x)).numpy()) == bits32(expected)).all(), format.name


def test_a_block_exponent_stays_in_its_field():
    tiny = np.full((48, 48), 2.0**-140, np.float32)
    format = formats.get("BM43")
    assert format.top_range == (-127, 127)
    assert int(format.find_top(tiny)[0, 0]) == -127
    assert (format.round(tiny) == Reference(format.profile, -127).round(2.0**-140)).all()


@pytest.mark.parametrize(
    "name", ["FP134", "FP134/channel", "FP134/channel@1", "FP134/block5", "FP134/block3@1", "FP134/tile4x6", "BM43"]
)
def test_shape_and_stride_do_not_matter(name):
    rng = np.random.default_rng(4)
    format = formats.get(name)
    base = torch.from_numpy(
        np.ldexp(rng.standard_normal((6, 10, 7, 9)), -rng.integers(0, 12, (6, 10, 7, 9))).astype(np.float32)
    )
    expected = format.round(base.numpy().copy())
    views = {
        "channels last": base.contiguous(memory_format=torch.channels_last),
        "transposed": base.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0),
        "every other": torch.stack([base, base], 0).permute(1, 2, 3, 4, 0)[..., 0],
        "reversed": torch.from_numpy(base.numpy()[::-1].copy()).flip(0),
    }
    for what, view in views.items():
        assert (format.round(view).numpy() == expected).all(), what
        assert (format.round(view.numpy()) == expected).all(), what
    backwards = format.round(base.numpy()[::-1][::-1])
    assert (backwards == expected).all()
    spread = torch.tensor(1.3).expand(4, 3, 2, 2)
    assert torch.equal(format.round(spread), format.round(spread.clone()))


@pytest.mark.parametrize("shape", [(0,), (4, 0), (0, 4), (4, 2, 0), (3, 0, 2)])
@pytest.mark.parametrize(
    "name", ["FP134", "FP134/channel", "FP134/block8", "FP134/tile3x3", "FP134/block8@0", "NF4/block8"]
)
def test_nothing_to_round(name, shape):
    format = formats.get(name)
    for order in "CF":
        x = np.zeros(shape, np.float32, order=order)
        assert format.round(x).shape == format.round(x, rounding="up").shape == shape
        assert format.encode(x).decode().shape == shape
        assert not format.find_top(x).any()


def test_channels_last_keeps_its_memory_order():
    x = torch.randn(2, 8, 5, 5).contiguous(memory_format=torch.channels_last)
    for name in ("FP134", "BM43", "FP134/channel@1"):
        assert formats.get(name).round(x).is_contiguous(memory_format=torch.channels_last), name


def test_threads_do_not_matter():
    x = torch.randn(300_001)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append([formats.get(name).round(x.reshape(1, -1)) for name in ("FP134", "BM43", "FP134/block32")])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_out_and_read_only_input():
    x = np.linspace(-3, 3, 1001, dtype=np.float32)
    x.flags.writeable = False
    format = formats.get("FP134")
    expected = format.round(x)
    out = np.empty_like(x)
    assert format.round(x, out=out) is out
    assert (out == expected).all()
    own = x.copy()
    assert format.round(own, out=own) is own
    assert (own == expected).all()
    strided = np.empty((1001, 2), np.float32)
    assert (format.round(x, out=strided[:, 1]) == expected).all()
    assert (strided[:, 1] == expected).all()
    tensor = torch.empty(1001)
    assert format.round(torch.from_numpy(x.copy()), out=tensor) is tensor
    assert (tensor.numpy() == expected).all()
    with pytest.raises(ValueError, match="out is float32 of shape"):
        format.round(x, out=np.empty(3, np.float32))
    with pytest.raises(ValueError, match="read-only"):
        format.round(own, out=x)


def test_dtypes():
    format = formats.get("FP134")
    values = [1.03, -2.7, 0.001]
    assert format.round(np.array(values, np.float16)).dtype == np.float32
    assert format.round(torch.tensor(values, dtype=torch.bfloat16)).dtype is torch.float32
    assert format.round(torch.tensor(values, dtype=torch.float64)).dtype is torch.float64
    half = torch.tensor(values, dtype=torch.float16)
    assert torch.equal(format.round(half), format.round(half.float()))
    with pytest.raises(TypeError, match="int64"):
        format.round(np.arange(4))
    with pytest.raises(TypeError, match=r"torch\.int32"):
        format.round(torch.arange(4, dtype=torch.int32))


def test_straight_through_gradient():
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = torch.tensor([1.03, -2.7, 0.001, 9.0], dtype=dtype, requires_grad=True)
        y = formats.get("FP134").round(x)
        assert y.dtype is dtype
        y.backward(torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=dtype))
        assert x.grad.tolist() == [1, 2, 3, 4]


def test_rounding_in_threads_of_their_own():
    """What autograd's backward does: several threads enter the emulator at once."""
    from concurrent.futures import ThreadPoolExecutor

    arrays = [np.random.default_rng(i).standard_normal(200_000, dtype=np.float32) for i in range(8)]
    format = formats.get("FP134")
    expected = [format.round(x) for x in arrays]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for got, want in zip(pool.map(format.round, arrays), expected, strict=True):
                assert (got == want).all()
