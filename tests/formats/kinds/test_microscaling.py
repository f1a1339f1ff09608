"""OCP MX formats: the NaN scale, -0, and the codes of scales."""

from itertools import product

import numpy as np
import pytest

import formats
from formats import ProfileFormat, Scale
from formats.kinds.microscaling import MicroscalingFormat, microscaling_formats
from formats.tables.microscaling import ELEMENTS

ALL = [entry.name for entry in microscaling_formats()]


def sample(shape=(5, 70)):
    rng = np.random.default_rng(0)
    return (rng.standard_normal(shape) * np.exp2(rng.integers(-20, 20, shape))).astype(np.float32)


@pytest.mark.parametrize("name", ALL)
def test_a_block_with_nan_has_the_nan_scale(name):
    format, x = formats.get(name), sample()
    x[0, 3], x[0, 5], x[2, 69], x[3, :] = np.nan, -np.nan, np.nan, np.nan
    held = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0]], bool)
    q = format.encode(x)
    codes = format.scale_codes(q.top)
    assert ((codes == 0xFF) == held).all()
    whole = held.repeat(32, axis=1)[:, :70]
    decoded, rounded = q.decode(), format.round(x)
    assert (np.isnan(decoded) == whole).all()
    assert (decoded[~whole] == rounded[~whole]).all()
    # round keeps NaN element by element, and the rest of the block is what it would be without.
    assert (np.isnan(rounded) == np.isnan(x)).all()
    clean = np.where(np.isnan(x), np.float32(0), x)
    assert (rounded[~np.isnan(x)] == format.round(clean)[~np.isnan(x)]).all()
    # Other numbers of such a block are encoded as they would be.
    assert (q.codes[~np.isnan(x)] == format.encode(clean).codes[~np.isnan(x)]).all()


@pytest.mark.parametrize("name", ALL)
def test_scale_codes_there_and_back(name):
    format = formats.get(name)
    codes = np.arange(256, dtype=np.uint8).reshape(4, 64)
    assert (format.scale_codes(format.tops(codes)) == codes).all()
    # A scale of 2^(code - 127) times the element closest to one, for all scales at which the largest element is a
    # float32, and NaN.
    ones = np.repeat(format.encode(np.full((1, 32), 1, np.float32)).codes, 254 - format.emax, axis=0)
    codes = np.append(np.arange(len(ones) - 1), 255)[:, None]
    values = format.decode(ones, format.tops(codes))
    assert np.isnan(values[-1]).all()
    element = float(format.decode(ones[:1], [[format.emax]])[0, 0])
    assert (values[:-1] == np.ldexp(element, codes[:-1] - 127)).all()
    out = np.empty_like(values)
    assert format.decode(ones, format.tops(codes), out=out) is out
    assert (np.isnan(out) == np.isnan(values)).all()
    assert np.isnan(format.decode(ones, format.nan_top)).all()
    with pytest.raises(ValueError, match="are float32 numbers"):
        format.decode(ones, format.tops(254) if format.emax else -200)
    for top in (format.nan_top + 1, -128 + format.emax):
        with pytest.raises(ValueError, match="which stands for NaN"):
            format.scale_codes(top)
    with pytest.raises(ValueError, match="outside"):
        format.round(sample(), top=format.nan_top)


@pytest.mark.parametrize("name", ALL)
def test_the_sign_of_zero_has_a_code(name):
    format = formats.get(name)
    x = np.float32([1.0, 0.0, -0.0, -1e-30, 1e-30])
    q = format.encode(x)
    half = 1 << (format.bits - 1)
    assert q.codes[1:].tolist() == ([0, 0, 0, 0] if name == "MXINT8" else [0, half, half, 0])
    if name != "MXINT8":
        assert (np.signbit(q.decode()) == np.signbit(format.round(x))).all()
    assert (np.signbit(format.round(x)) == np.signbit(x)).all()


def test_other_policies_and_scales():
    format = formats.get("MXFP4/rceil")
    assert isinstance(format, MicroscalingFormat)
    assert format.name == "MXFP4/rceil"
    assert format.with_scale(Scale(per="block", block=32, exponent_field=(-125, 129))) == formats.get("MXFP4")
    assert formats.get("MXFP4/even/headroom1").name == "MXFP4/even/headroom1"
    other = format.with_scale(Scale(per="channel"))
    assert type(other) is ProfileFormat
    assert other == formats.get("FP121/channel")
    assert other.name == "FP121/channel"
    with pytest.raises(ValueError, match="MXFP8-E4M3 has blocks of its own"):
        formats.get("MXFP8-E4M3/channel")
    x = sample()
    x[1, 1] = np.nan
    assert np.isnan(format.encode(x, rounding="stochastic", seed=3).decode()[1, :32]).all()
    assert np.isnan(format.encode(x.astype(np.float64)).decode()[1, :32]).all()


def test_microscaling_formats():
    """OCP MX v1.0: blocks of 32, X = floor(log2 max) - emax clamped to -127 .. 127, elements rounded to nearest even
    and saturated."""
    rng = np.random.default_rng(0)
    emax = {"MXFP8-E4M3": 8, "MXFP8-E5M2": 15, "MXFP6-E3M2": 4, "MXFP6-E2M3": 2, "MXFP4": 2}
    x = np.ldexp(rng.standard_normal((5, 70)), rng.integers(-150, 120, (5, 70))).astype(np.float32)
    x[0, :32] = 0
    for entry in microscaling_formats():
        assert formats.get(entry.name.lower()) == entry
        assert formats.get(entry.name).name == entry.name
        assert formats.get(f"{entry.name}/rceil").name == f"{entry.name}/rceil"
        if entry.name == "MXINT8":
            continue
        element = formats.get(ELEMENTS[entry.name])
        expected = np.empty_like(x)
        for row, start in product(range(5), (0, 32, 64)):
            block = x[row, start : start + 32].astype(np.float64)
            largest = np.abs(block).max()
            scale = 2.0 ** np.clip((np.frexp(largest)[1] - 1 if largest else 0) - emax[entry.name], -127, 127)
            expected[row, start : start + 32] = element.round(block / scale) * scale
        rounded = entry.round(x)
        representable = np.abs(expected) >= 2.0**-126
        assert (rounded[representable] == expected[representable]).all(), entry.name
    assert formats.get("MXFP8-E4M3").max(8) == 448
    with pytest.raises(ValueError, match="blocks of its own"):
        formats.get("MXFP8-E4M3/channel")
