"""Standard formats agree bit for bit with ml_dtypes, torch, numpy and gfloat.

Where those differ from one another, what is followed is pinned here.
"""

import itertools

import ml_dtypes
import numpy as np
import pytest
import torch

import formats
from formats.kinds.codebook_format import CodebookFormat
from formats.kinds.standard_format import StandardFormat
from formats.kinds.standards import minifloat, p3109
from formats.names import STANDARDS, standard
from formats.rounding import Rounding
from formats.specials import NanCodes, Overflow
from tests.formats.reference import Reference

try:
    import gfloat
    import gfloat.formats as gfloat_formats
except ImportError:
    gfloat = None

needs_gfloat = pytest.mark.skipif(gfloat is None, reason="gfloat is not installed")
PEERS = {
    "E4M3": ml_dtypes.float8_e4m3fn,
    "E5M2": ml_dtypes.float8_e5m2,
    "E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "E4M3B11FNUZ": ml_dtypes.float8_e4m3b11fnuz,
    "E4M3IEEE": ml_dtypes.float8_e4m3,
    "E3M4": ml_dtypes.float8_e3m4,
    "E3M2": ml_dtypes.float6_e3m2fn,
    "E2M3": ml_dtypes.float6_e2m3fn,
    "E2M1": ml_dtypes.float4_e2m1fn,
    "E8M0": ml_dtypes.float8_e8m0fnu,
    "bfloat16": ml_dtypes.bfloat16,
    "float16": np.float16,
}
NO_NAN = ("E3M2", "E2M3", "E2M1")
FORMATS = [name for name in STANDARDS if name != "NF4"]


def all_bfloat16():
    return (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32)


@pytest.fixture(scope="module")
def many():
    """All bfloat16 and a million random float32, NaN of all payloads among them."""
    patterns = np.random.default_rng(0).integers(0, 1 << 32, 10**6, dtype=np.uint32)
    return np.concatenate([all_bfloat16(), patterns.view(np.float32)])


def hard(format, dtype):
    """Values, midpoints and what lies around the largest, each with its neighbours, of both signs; zeros, infinities,
    NaN."""
    values = format.magnitudes()
    step = values[-1] - values[-2]
    with np.errstate(over="ignore"):
        x = np.concatenate(
            [values, (values[1:] + values[:-1]) / 2, values[-1] + step * np.array([0.5, 1, 1.5, 2])]
        ).astype(dtype)
        x = np.concatenate([x, np.nextafter(x, dtype(0)), np.nextafter(x, dtype(np.inf)), dtype([0, np.inf, np.nan])])
    return np.concatenate([x, -x])


def same(a, b):
    """Whether two arrays of floats are the same, zeros in their sign too; NaN is NaN."""
    a, b = cast(np.asarray(a), np.float64), cast(np.asarray(b), np.float64)
    return bool((np.isnan(a) & np.isnan(b) | (a == b) & (np.signbit(a) == np.signbit(b))).all())


def cast(x, type):
    with np.errstate(all="ignore"):
        return x.astype(type)


# ml_dtypes, and numpy's float16.


@pytest.mark.parametrize("name", PEERS)
def test_ml_dtypes_agrees(name, many):
    # The types without NaN saturate in ml_dtypes, and NaN becomes a zero there; here it stays NaN and has no code.
    format, peer = standard(f"{name}/standard"), PEERS[name]
    x = np.concatenate([many, hard(format, np.float32)])
    if name in NO_NAN:
        x = x[~np.isnan(x)]
    expected = cast(x, peer)
    codes = format.encode(x).codes
    assert codes.dtype.itemsize == expected.dtype.itemsize
    if name == "float16":  # numpy keeps payloads of NaN
        expected[np.isnan(x)] = np.copysign(np.float16(np.nan), x[np.isnan(x)])
    assert (codes == expected.view(codes.dtype)).all()
    assert same(format.round(x), expected.astype(np.float32))


def test_float64_is_rounded_once():
    # ml_dtypes converts float64 through float32, which rounds twice; numpy's float16 does not.
    x = hard(standard("float16"), np.float64)
    got = standard("float16/standard").round(x)
    assert got.dtype == np.float64
    assert same(got, cast(x, np.float16))
    above = np.nextafter([464.0, 432.0, 1.0625], 500)
    assert standard("E4M3/standard").round(above).tolist()[1:] == [448, 1.125]
    assert np.isnan(standard("E4M3/standard").round(above)[0])
    assert above.astype(ml_dtypes.float8_e4m3fn).astype(float).tolist() == [448, 448, 1]


@pytest.mark.parametrize("name", PEERS)
def test_ml_dtypes_decodes_alike(name):
    format = standard(name)
    codes = np.arange(1 << format.bits)
    peer = codes.astype(np.uint8 if format.bits <= 8 else np.uint16).view(PEERS[name])
    got = format.decode(codes)
    assert got.dtype == np.float32
    assert same(got, cast(peer, np.float32))


def test_what_ml_dtypes_makes_of_nan_where_there_is_none():
    for name in NO_NAN:
        assert (cast(np.array([np.nan, -np.nan], np.float32), PEERS[name]).astype(np.float32) == 0).all()
        assert np.isnan(standard(f"{name}/standard").round(np.array([np.nan, -np.nan]))).all()


def test_e8m0_between_its_smallest_values_follows_ml_dtypes():
    # To nearest, 1.25 * 2^-127 would go down; ml_dtypes and torch go up from all above 2^-127.
    x = np.ldexp(np.array([0.01, 1, 1 + 2**-22, 1.25, 1.5, 1.75, 2, 2.75, 3, 3.25]), -127).astype(np.float32)
    expected = np.ldexp(np.array([1, 1, 2, 2, 2, 2, 2, 2, 4, 4]), -127)
    assert (standard("E8M0").round(x) == expected).all()
    assert (x.astype(ml_dtypes.float8_e8m0fnu).astype(np.float64) == expected).all()
    assert (torch.from_numpy(x).to(torch.float8_e8m0fnu).double().numpy() == expected).all()


# torch.


@pytest.mark.parametrize(
    "name", ["E4M3", "E5M2/standard", "E4M3FNUZ/standard", "E5M2FNUZ/standard", "E8M0/standard", "bfloat16/standard"]
)
def test_torch_agrees(name, many):
    # torch's E4M3 saturates from 2.12 on, infinities too; its other types overflow to infinity or NaN. Its E8M0 ignores
    # the sign and zero.
    format = standard(name)
    x = np.concatenate([many, hard(format, np.float32)])
    base = name.split("/")[0]
    if base == "E8M0":
        x = x[~(x <= 0)]
    peer = (
        torch.bfloat16
        if base == "bfloat16"
        else getattr(torch, f"float8_{base.lower()}{'fn' if base == 'E4M3' else ''}{'fnu' if base == 'E8M0' else ''}")
    )
    expected = torch.from_numpy(x).to(peer)
    codes = format.encode(x).codes
    numbers = ~np.isnan(format.decode(codes))
    assert (codes == expected.view(torch.uint16 if base == "bfloat16" else torch.uint8).numpy())[numbers].all()
    assert same(format.round(x), expected.float().numpy())


@pytest.mark.parametrize("name", ["E4M3", "E4M3FNUZ", "E8M0", "bfloat16/standard"])
def test_tensors_round_as_arrays_do(name):
    format = standard(name)
    x = all_bfloat16()[::7]
    assert same(format.round(torch.from_numpy(x)).numpy(), format.round(x))
    t = torch.tensor([1e9, -1e-30, 3.3], dtype=torch.bfloat16, requires_grad=True)
    y = format.round(t)
    assert y.dtype == torch.bfloat16
    y.sum().backward()
    assert (t.grad == 1).all()


# gfloat.

GFLOAT = {
    "E4M3": "format_info_ocp_e4m3",
    "E5M2": "format_info_ocp_e5m2",
    "E3M2": "format_info_ocp_e3m2",
    "E2M3": "format_info_ocp_e2m3",
    "E2M1": "format_info_ocp_e2m1",
    "bfloat16": "format_info_bfloat16",
    "float16": "format_info_binary16",
}


def gfloat_check(format, peer, x):
    """Rounding to nearest of both kinds of overflow, and the codes of the results."""
    for overflow in Overflow:
        kind = format.with_overflow(overflow)
        saturates = overflow is Overflow.SATURATE or (not format.infinities and format.nan is NanCodes.NONE)
        expected = [gfloat.round_float(peer, v, sat=saturates) for v in x.tolist()]
        assert same(kind.round(x), expected), kind.name
        codes = kind.encode(x).codes
        numbers = ~np.isnan(expected)
        assert codes[numbers].tolist() == [gfloat.encode_float(peer, v) for v in expected if v == v], kind.name


@needs_gfloat
@pytest.mark.parametrize("name", GFLOAT)
def test_gfloat_agrees(name):
    format = standard(name)
    x = hard(format, np.float64)
    x = x[:: max(1, len(x) // 3000)]
    x = np.concatenate([x, np.random.default_rng(2).standard_normal(300) * format.max()])
    gfloat_check(format, getattr(gfloat_formats, GFLOAT[name]), x[~np.isnan(x)])


P3109 = [
    *itertools.product(range(3, 7), range(1, 7), (True, False), (True, False)),
    *itertools.product((8,), (1, 3, 4, 5, 8), (True, False), (True, False)),
    *itertools.product((11,), (5,), (True, False), (True, False)),
]


@needs_gfloat
@pytest.mark.parametrize(("bits", "precision", "signed", "extended"), [case for case in P3109 if case[1] <= case[0]])
def test_p3109_is_as_gfloat_has_it(bits, precision, signed, extended):
    sign = gfloat_formats.Signedness.Signed if signed else gfloat_formats.Signedness.Unsigned
    domain = gfloat_formats.Domain.Extended if extended else gfloat_formats.Domain.Finite
    peer = gfloat_formats.format_info_p3109(bits, precision, sign, domain)
    format = p3109(bits, precision, signed=signed, extended=extended)
    assert same(format.decode(np.arange(1 << bits)), [gfloat.decode_float(peer, i).fval for i in range(1 << bits)])
    assert format.max() == peer.max
    x = hard(format, np.float64)[:: 1 if bits <= 6 else 5]
    x = np.concatenate([x, np.ldexp([0.75, 1.5, 3.0], np.arange(-3, 4)[:, None]).ravel()])
    x = x[~np.isnan(x)]
    gfloat_check(format, peer, x if signed else np.abs(x))
    assert format.encode(np.array([np.nan])).codes[0] == peer.code_of_nan
    assert standard(format.name) == format
    assert standard(peer.name) == format


def test_negative_numbers_in_unsigned_formats():
    # gfloat 0.5.2 leaves them negative.
    x = np.array([-1.0, -np.inf, -0.0, -1e-30, 1.0])
    format = p3109(8, 4, signed=False)
    assert same(format.round(x), [0, 0, 0, 0, 1])
    assert same(format.with_overflow("standard").round(x), [np.nan, np.nan, 0, 0, 1])
    assert same(standard("E8M0").round(x), [np.nan] * 4 + [1])


# Others, and what the table of docs/definitions/formats.md section 5 says.


def test_tf32_is_float32_with_ten_fraction_bits(many):
    x = many[~np.isnan(many)]
    bits = x.view(np.uint32)
    expected = ((bits + 0xFFF + (bits >> 13 & 1)) & ~np.uint32(0x1FFF)).view(
        np.float32
    )  # overflow carries into infinity
    format = standard("TF32/standard")
    assert same(format.round(x), expected)
    codes = format.encode(x).codes
    assert codes.dtype == np.uint32
    assert (codes == expected.view(np.uint32) >> 13).all()
    assert format.encode(np.array([np.nan])).codes[0] == 0x3FE00


def test_fp169_and_biased_minifloats_are_profiles_at_a_constant_top(many):
    x = np.concatenate([many[::10], np.random.default_rng(1).standard_normal(10**4).astype(np.float32)])
    cases = [
        (standard("FP169"), 32),
        (minifloat(4, 3, bias=2), 13),
        (minifloat(2, 5, bias=-10), 13),
        (standard("minifloat(3, 2, bias=20)"), -13),
    ]
    for format, top in cases:
        assert format.top == top
        plain = formats.from_profile(format.profile, bits=format.bits)
        assert same(format.round(x), plain.round(x, top=top))
        assert same(format.with_overflow("standard").round(x), plain.round(x, top=top))
        assert (format.magnitudes() == plain.magnitudes(top)).all()
    assert standard("E2M1") == minifloat(2, 1, bias=1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FORMATS)
def test_saturating_against_exact_integers(name, dtype):
    format = standard(name)
    reference = Reference(format.profile, format.top)
    reference.values = [value for value in reference.values if value / (1 << 1100) <= format.max()]
    x = hard(format, dtype)
    x = np.concatenate([x[:: max(1, len(x) // 3000)], cast(all_bfloat16()[::97], dtype)])
    x = x[~np.isnan(x)]
    if name == "E8M0":
        x = x[x >= np.float32(2.0**-126)]
    expected = np.array([reference.round(float(v)) for v in x])
    assert same(format.round(x), expected if format.negative_zero else expected + 0.0)


TABLE = {  # largest value, T, infinities, NaN codes, whether -0 has a code
    "E4M3": (448, 8, 0, 2, True),
    "E5M2": (57344, 15, 2, 6, True),
    "E4M3FNUZ": (240, 7, 0, 1, False),
    "E5M2FNUZ": (57344, 15, 0, 1, False),
    "E4M3B11FNUZ": (30, 4, 0, 1, False),
    "E4M3IEEE": (240, 7, 2, 14, True),
    "E3M4": (15.5, 3, 2, 30, True),
    "E3M2": (28, 4, 0, 0, True),
    "E2M3": (7.5, 2, 0, 0, True),
    "E2M1": (6, 2, 0, 0, True),
    "E8M0": (2.0**127, 127, 0, 1, False),
    "FP169": (1023 * 2.0**23, 32, 0, 0, True),
    "bfloat16": (255 * 2.0**120, 127, 2, 254, True),
    "float16": (65504, 15, 2, 2046, True),
    "TF32": (2047 * 2.0**117, 127, 2, 2046, True),
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_table(name):
    format = standard(name)
    every = format.decode(np.arange(1 << format.bits))
    minus_zero = bool((np.signbit(every) & (every == 0)).any())
    assert (format.max(), format.top, np.isinf(every).sum(), np.isnan(every).sum(), minus_zero) == TABLE[name]
    assert (format.spare_codes, format.family, format.granularity, format.binades) == (
        0,
        "standard",
        "tensor",
        len(format.profile),
    )
    finite = np.unique(np.abs(every[np.isfinite(every)]))
    assert (format.magnitudes() == finite).all()
    assert format.min_positive() == finite[finite > 0][0]
    assert format.find_top(np.ones(3)) == format.top


@pytest.mark.parametrize("name", FORMATS)
def test_every_code_survives(name):
    format = standard(name)
    codes = np.arange(1 << format.bits)
    values = format.decode(codes)
    numbers = ~np.isnan(values)
    again = format.with_overflow("standard").encode(values[numbers])
    assert (again.codes == codes[numbers]).all()
    assert same(again.decode(), values[numbers])
    assert same(format.round(values[np.isfinite(values)]), values[np.isfinite(values)])
    if not numbers.all():
        nan = format.encode(values[~numbers]).codes
        assert np.isnan(format.decode(nan)).all()


@pytest.mark.parametrize("name", FORMATS)
def test_decoding_what_was_encoded_gives_what_rounding_gives(name):
    for overflow in Overflow:
        format = standard(name).with_overflow(overflow)
        x = all_bfloat16()[::13]
        x = x if format.nan is not NanCodes.NONE else x[~np.isnan(x)]
        assert same(format.encode(x).decode(), format.round(x))


# Other modes.

EXTRA = {Rounding.STOCHASTIC: {"seed": 5, "stream": 3}}


@pytest.mark.parametrize("rounding", Rounding)
def test_other_modes_are_those_of_the_profile(rounding):
    rng = np.random.default_rng(4)
    x = np.ldexp(rng.standard_normal((50, 70)), rng.integers(-20, 24, (50, 70))).astype(np.float32)
    for name in ("E4M3", "E5M2", "E4M3FNUZ", "FP169"):
        format = standard(name)
        plain = formats.ProfileFormat(format.profile, format.bits, largest=format.largest)
        extra = (
            {"previous": plain.round(x * 1.3, top=format.top)}
            if rounding is Rounding.HYSTERESIS
            else EXTRA.get(rounding, {})
        )
        expected = plain.round(x, top=format.top, rounding=rounding, **extra)
        expected = expected if format.negative_zero else expected + 0.0
        assert same(format.round(x, rounding=rounding, **extra), expected)
        assert same(format.encode(x, rounding=rounding, **extra).decode(), expected)
        assert same(format.round(torch.from_numpy(x), rounding=rounding, **extra).numpy(), expected)
        turned = {key: value.T if key == "previous" else value for key, value in extra.items()}
        if rounding is not Rounding.STOCHASTIC:
            assert same(format.round(x.T, rounding=rounding, **turned), expected.T)


def test_directed_modes_of_formats_without_sign_or_minus_zero():
    x = np.array([1.5, 1.0, 0.3, 2.0**-128, -1.0, 0.0])
    assert same(standard("E8M0").round(x, rounding="down"), [1, 1, 0.25, 2.0**-127, np.nan, np.nan])
    assert same(standard("E8M0").round(x, rounding="up"), [2, 1, 0.5, 2.0**-127, np.nan, np.nan])
    ones = p3109(8, 1)  # powers of two, and ties to nearest go to the even code: 2^0 has code 64
    assert same(ones.round(x, rounding="down"), [1, 1, 0.25, 0, -1, 0])
    assert same(ones.round([1.5, 3.0, -1.5], rounding="nearest-away"), [2, 4, -2])
    assert same(ones.round([1.5, 3.0, -1.5]), [1, 4, -1])


# Traps.


def test_special_inputs_of_e4m3():
    x = np.array(
        [464, np.nextafter(np.float32(464), np.float32(465)), 465, np.inf, -np.inf, -0.0, -1e-9, -np.nan], np.float32
    )
    saturating, overflowing = standard("E4M3"), standard("E4M3/standard")
    nan = np.nan
    assert same(saturating.round(x), [448, 448, 448, 448, -448, -0.0, -0.0, nan])
    assert same(overflowing.round(x), [448, nan, nan, nan, nan, -0.0, -0.0, nan])
    assert overflowing.encode(x).codes.tolist() == [0x7E, 0x7F, 0x7F, 0x7F, 0xFF, 0x80, 0x80, 0xFF]
    assert same(overflowing.round(x, keep_infinities=True)[3:5], [np.inf, -np.inf])
    assert same(saturating.round(x, keep_infinities=True)[3:5], [np.inf, -np.inf])


@pytest.mark.parametrize("name", FORMATS)
def test_nan_stays_nan_whatever_its_payload(name):
    payloads = np.array([0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000, 0x7FBFFFFF], np.uint32).view(
        np.float32
    )
    for overflow in Overflow:
        format = standard(name).with_overflow(overflow)
        assert np.isnan(format.round(payloads)).all()
        assert np.isnan(format.round(cast(payloads, np.float64))).all()
    if format.nan is NanCodes.NONE:
        with pytest.raises(ValueError, match="no code"):
            format.encode(payloads)
    else:
        assert np.isnan(format.encode(payloads).decode()).all()


@pytest.mark.parametrize("name", ["E4M3", "E4M3FNUZ", "E5M2/standard", "E8M0", "P3109:8.1.signed.extended"])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (3, 4), (2, 3, 5)])
def test_shapes_strides_and_out(name, shape):
    format = standard(name)
    rng = np.random.default_rng(3)
    x = np.asarray(np.ldexp(rng.standard_normal(shape), rng.integers(-12, 20, shape)), np.float32)
    expected = np.array([format.round(np.array([v]))[0] for v in x.ravel()], np.float32).reshape(shape)
    assert same(format.round(x), expected)
    assert format.round(x).shape == shape
    out = np.empty_like(x)
    assert format.round(x, out=out) is out
    assert same(out, expected)
    inplace = x.copy()
    assert format.round(inplace, out=inplace) is inplace
    assert same(inplace, expected)
    assert same(format.round(x.T), expected.T)
    spread = np.broadcast_to(x, (4, *shape))
    assert same(format.round(spread), np.broadcast_to(expected, (4, *shape)))
    assert same(format.encode(x).decode(), expected)


# Names, equality, errors.


def test_every_standard_has_its_canonical_name_and_a_digest_of_its_own():
    found = [standard(name) for name in STANDARDS]
    assert [f.name for f in found] == list(STANDARDS)
    assert all(isinstance(f, StandardFormat | CodebookFormat) for f in found)
    digests = {f.digest for f in found} | {
        f.with_overflow("standard").digest for f in found if isinstance(f, StandardFormat)
    }
    assert len(digests) == 2 * len(found) - 1
    for name in ("FP134", "float8", "posit", "P3109", "E4M3/other", "NF4/standard", ""):
        assert standard(name) is None


def test_equality():
    assert standard("E4M3") == standard("float8_e4m3fn")
    assert hash(standard("E4M3")) == hash(standard("float8_e4m3fn"))
    assert standard("E4M3") != standard("E4M3/standard")
    assert standard("E4M3/standard").with_overflow("saturate") == standard("E4M3")
    assert standard("E4M3/standard").with_overflow("saturate").name == "E4M3"
    assert standard("E4M3FNUZ") != minifloat(4, 3, bias=8)


def test_errors_say_what_is_wrong():
    e4m3 = standard("E4M3")
    with pytest.raises(ValueError, match="constant top exponent 8"):
        e4m3.round(np.ones(2), top=3)
    assert e4m3.round(np.ones(2), top=8).tolist() == [1, 1]
    with pytest.raises(TypeError, match="whole number"):
        e4m3.round(np.ones(2), top=8.0)
    with pytest.raises(TypeError, match="int64"):
        e4m3.round(np.ones(2, np.int64))
    with pytest.raises(ValueError, match="out is"):
        e4m3.round(np.ones(2), out=np.ones(2, np.float32))
    with pytest.raises(ValueError, match="no code"):
        standard("E2M1").encode(np.array([np.nan]))
    with pytest.raises(ValueError, match="0 to 15"):
        standard("E2M1").decode([16])
    with pytest.raises(ValueError, match="allowed are saturate, standard"):
        e4m3.with_overflow("wrap")
    with pytest.raises(ValueError, match="only to nearest"):
        standard("E4M3/standard").round(np.ones(2), rounding="up")
    with pytest.raises(ValueError, match="seed"):
        e4m3.round(np.ones(2), rounding="stochastic")
    for make in (
        lambda: minifloat(8, 7, bias=0),
        lambda: minifloat(0, 7, bias=0),
        lambda: minifloat(8, 8, bias=127),
        lambda: p3109(2, 1),
        lambda: p3109(9, 1, signed=False),
        lambda: p3109(17, 3),
        lambda: p3109(8, 9),
        lambda: StandardFormat((2, 1), 3, 0, 3, nan=NanCodes.ONE),
        lambda: StandardFormat((2, 1), 3, 0, 4),
        lambda: StandardFormat((2, 1), 3, 0, 3, signed=False),
        lambda: StandardFormat((2, 1), 3, 0, 3, even_code_ties=True),
        lambda: StandardFormat((2, 1), 3, 0, 3, overflow="wrap"),
    ):
        with pytest.raises(ValueError):
            make()


def test_a_code_that_stands_for_nothing():
    format = StandardFormat((2, 1), 4, 0, 3, negative_zero=False, name="roomy")
    assert format.spare_codes == 4
    assert format.decode([1, 3, 9]).tolist() == [0.5, 1.5, -0.5]
    for code in (4, 7, 8, 12):
        with pytest.raises(ValueError, match=f"{code:#04x} stands for no value"):
            format.decode([code])
