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
