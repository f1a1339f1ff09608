"""Standards with a scale from the data agree with exact fractions, at every tie and beside it; their values are
ml_dtypes'."""

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import torch

import formats
from formats import Rounding, Scale
from formats.rounding import rounded
from tests.formats.philox import philox_words
from tests.formats.reference import to_float32

TYPES = {
    "E4M3": ml_dtypes.float8_e4m3fn,
    "E5M2": ml_dtypes.float8_e5m2,
    "E3M4": ml_dtypes.float8_e3m4,
    "E3M2": ml_dtypes.float6_e3m2fn,
    "E2M3": ml_dtypes.float6_e2m3fn,
    "E2M1": ml_dtypes.float4_e2m1fn,
    "E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "float16": np.float16,
}
NAMES = [*TYPES, "minifloat(3,3,bias=2)"]
MAX = float(np.finfo(np.float32).max)
HALF = {6: 32, 8: 128, 4: 8}


def magnitudes(name):
    """The finite magnitudes by code, as fractions: those of ml_dtypes or numpy."""
    if name.startswith("minifloat"):
        # Sign, 3 exponent and 3 fraction bits with bias 2.
        normal = [Fraction(8 + f, 8) * Fraction(2) ** (e - 2) for e in range(1, 8) for f in range(8)]
        return [Fraction(f, 8) * Fraction(2) ** -1 for f in range(8)] + normal
    codes = np.arange(1 << 15, dtype=np.uint16) if name == "float16" else np.arange(128, dtype=np.uint8)
    codes = codes[: HALF.get(formats.get(name).bits, 1 << 15)]
    values = codes.view(TYPES[name]).astype(np.float64)
    return [Fraction(float(value)) for value in values if math.isfinite(value)]


def nearest(values, number):
    """The index of the nearest value, a tie to the even index; the last beyond."""
    low, high = 0, len(values) - 1
    if number >= values[high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if values[middle] <= number else (low, middle)
    half = (values[low] + values[high]) / 2
    return low + (number > half or (number == half and low % 2 == 1))


def reference_scale(largest, most):
    """max|x| / largest as a float32 number, from exact fractions."""
    high = np.float32(min(MAX / float(most), MAX))
    while math.isinf(to_float32(Fraction(float(high)) * most)):
        high = np.nextafter(high, np.float32(0))
    return min(max(to_float32(Fraction(largest) / most), 2.0**-149), float(high)) if largest else 1.0


def hard(rng, values, scale, dtype):
    """Ties at this scale as near as the dtype has them, with neighbours; random numbers, zeros, infinities."""
    pairs = rng.integers(0, len(values) - 1, 60)
    middles = np.array([float((values[i] + values[i + 1]) / 2 * Fraction(float(scale))) for i in pairs])
    most = float(values[-1]) * float(scale)
    with np.errstate(over="ignore"):
        beyond = np.array([1.0, 1.01, 1.1, 3.0]) * most
        x = np.concatenate([middles, rng.standard_normal(40) * most / 2, beyond]).astype(dtype)
        x = np.concatenate([x, np.nextafter(x, dtype(0)), np.nextafter(x, dtype(np.inf)), dtype([0, np.inf])])
    return np.concatenate([x, -x])


def same(got, want):
    return (got == want).all() and (np.signbit(got) == np.signbit(want)).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_real_scales_are_those_of_exact_quotients(name, dtype):
    rng = np.random.default_rng(len(name))
    format, values = formats.get(f"{name}/real"), magnitudes(name)
    minus_zero = not name.endswith("UZ")
    for exponent in (-149, -140, -20, 0, 3, 100):
        scale = np.float32(np.ldexp(rng.uniform(1, 2), exponent))
        x = hard(rng, values, scale, dtype)
        indices = [
            len(values) - 1 if math.isinf(v) else nearest(values, abs(Fraction(v)) / Fraction(float(scale)))
            for v in x.tolist()
        ]
        exact = [to_float32(values[i] * Fraction(float(scale))) for i in indices]
        want = np.copysign(np.array(exact), x)
        if not minus_zero:
            want += 0.0
        got = format.round(x, top=scale)
        assert got.dtype == dtype
        assert same(got, want)
        q = format.encode(x, top=scale)
        sign = 1 << (format.bits - 1)
        codes = [i + sign * (s and (minus_zero or i > 0)) for i, s in zip(indices, np.signbit(x), strict=True)]
        assert q.codes.tolist() == codes
        assert (q.decode() == want).all()


@pytest.mark.parametrize("name", NAMES)
def test_real_scale_from_data(name):
    format, most = formats.get(f"{name}/real"), magnitudes(name)[-1]
    rng = np.random.default_rng(1)
    for dtype in (np.float32, np.float64):
        for largest in (0, 2.0**-149, 2.0**-149 * 300, MAX, *np.exp2(rng.uniform(-140, 127, 60))):
            x = np.array([largest / 2, -largest, np.nan, np.inf], dtype)
            scale = format.find_top(x)
            assert scale.dtype == np.float32
            assert float(scale) == reference_scale(abs(Fraction(float(x[1]))), most), largest
            assert np.isfinite(format.round(x)[:2]).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("policy", ["floor", "ceil", "even", "rceil"])
def test_powers_of_two(name, policy):
    """X = 2^(T - emax) by the policy's T; elements saturate, and every value times X is a float32 number."""
    rng = np.random.default_rng(2)
    values = magnitudes(name)
    emax = math.floor(math.log2(values[-1]))
    suffix = "" if policy == "floor" else f"/{policy}"
    format = formats.get(f"{name}/tensor{suffix}")
    precision = sum(1 for v in values if v >= Fraction(2) ** emax).bit_length()
    first = format.profile[0]
    assert abs(precision - first) <= 1
    for size in (2.0**-100, 1.0, 448.0, 465.0, 1.99999, 2.0**60):
        x = hard(rng, values, size / float(values[-1]), np.float32)
        x = x[np.abs(x) <= size * 1.5]
        m = Fraction(float(np.abs(x[np.isfinite(x)]).max()))
        floor = math.floor(math.log2(m))
        floor -= Fraction(2) ** floor > m
        if policy == "ceil":
            want_top = floor + (m > Fraction(2) ** floor)
        elif policy == "even":
            step = Fraction(2) ** (floor - first + 1)
            want_top = floor + (round(m / step) * step >= Fraction(2) ** (floor + 1))
        elif policy == "rceil":
            want_top = next(t for t in range(floor - 1, floor + 3) if m <= values[-1] * Fraction(2) ** (t - emax))
        else:
            want_top = floor
        assert int(format.find_top(x)) == want_top
        power = Fraction(2) ** (want_top - emax)
        indices = [len(values) - 1 if math.isinf(v) else nearest(values, abs(Fraction(v)) / power) for v in x.tolist()]
        want = np.copysign(np.array([float(values[i] * power) for i in indices]), x)
        if name.endswith("UZ"):
            want += 0.0
        got, q = format.round(x), format.encode(x)
        assert same(got, want)
        assert (q.decode() == want).all()
        sign = 1 << (format.bits - 1)
        negative = [s and (not name.endswith("UZ") or i > 0) for i, s in zip(indices, np.signbit(x), strict=True)]
        assert q.codes.tolist() == [i + sign * n for i, n in zip(indices, negative, strict=True)]


GROUPS = [
    "",
    "/channel",
    "/channel@1",
    "/row",
    "/row@0",
    "/block32",
    "/block5@0",
    "/block1024",
    "/tile4x3",
    "/tile16x16",
]


def parts(x, suffix):
    """Index tuples of the groups of a matrix."""
    rows, columns = x.shape
    if suffix == "":
        return [np.s_[:, :]]
    if suffix in ("/channel", "/row"):
        return [np.s_[i, :] for i in range(rows)]
    if suffix in ("/channel@1", "/row@0"):
        return [np.s_[:, j] for j in range(columns)]
    if suffix.startswith("/tile"):
        r, c = map(int, suffix.removeprefix("/tile").split("x"))
        return [np.s_[i : i + r, j : j + c] for i in range(0, rows, r) for j in range(0, columns, c)]
    size, _, axis = suffix.removeprefix("/block").partition("@")
    size = int(size)
    if axis == "0":
        return [np.s_[i : i + size, j] for i in range(0, rows, size) for j in range(columns)]
    return [np.s_[i, j : j + size] for i in range(rows) for j in range(0, columns, size)]


@pytest.mark.parametrize("suffix", GROUPS)
@pytest.mark.parametrize("kind", ["E4M3/real", "E5M2/tensor", "E2M1/real", "INT8/real"])
def test_groups_are_tensors_side_by_side(kind, suffix):
    rng = np.random.default_rng(3)
    # Rows longer than what the kernel looks at in one go, and a last block that is short.
    x = rng.standard_normal((7, 1541)).astype(np.float32) * np.float32([[1], [100], [0], [1e-40], [1e30], [1], [3]])
    plain = formats.get(kind)
    if "tensor" in kind and suffix:
        kind = kind.replace("/tensor", "")
    format = formats.get(kind + suffix)
    got, q = format.round(x), format.encode(x)
    assert (q.decode() == got).all()
    wide = format.round(x.astype(np.float64))
    assert (wide == got).all()
    for group in parts(x, suffix):
        assert (got[group] == plain.round(np.ascontiguousarray(x[group]))).all()
    # Whatever the memory order.
    assert (format.round(np.asfortranarray(x)) == got).all()
    assert (format.round(torch.from_numpy(x)).numpy() == got).all()


def test_blocks_of_arrays_of_other_ranks():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((3, 50, 4, 9)).astype(np.float32) * np.exp2(rng.integers(-9, 9, (3, 50, 1, 1)))
    x = x.astype(np.float32)
    for suffix in ("/block7@1", "/row@1", "/tile4x6", "/block4", "/channel@2"):
        format = formats.get(f"E4M3/real{suffix}")
        assert (format.round(x) == format.round(x.astype(np.float64))).all()
    assert formats.get("E4M3/real/row").round(np.zeros((0, 9), np.float32)).shape == (0, 9)
    assert formats.get("E4M3/real/row").round(np.zeros((9, 0), np.float32)).shape == (9, 0)
    assert formats.get("E4M3/row").find_top(np.zeros((4, 0), np.float32)).shape == (4, 0)
    assert float(formats.get("E4M3/real/block4").round(np.float32(2.5))) == 2.5
    line = rng.standard_normal(50).astype(np.float32)
    assert (formats.get("E4M3/real/row").round(line) == formats.get("E4M3/real").round(line)).all()


@pytest.mark.parametrize("name", ["E4M3/real", "E2M1/real", "E4M3FNUZ/real"])
@pytest.mark.parametrize("scale", [1.0, 0.7531247, 2.0**-149, 3 * 2.0**-149])
def test_other_modes_choose_between_the_two_values_around(name, scale):
    rng = np.random.default_rng(5)
    seed, stream = 0xFEDCBA9876543210, 3
    format, scale = formats.get(name), np.float32(scale)
    values = sorted({to_float32(v * Fraction(float(scale))) for v in magnitudes(name.partition("/")[0])})
    exact = sorted({sign * Fraction(v) for v in values for sign in (1, -1)})
    for dtype in (np.float32, np.float64):
        x = hard(rng, magnitudes(name.partition("/")[0]), scale, dtype)
        words = philox_words(seed, stream, x.size)
        previous = (x * rng.choice([0.9, 1.0, 1.1], x.shape)).astype(dtype)
        for mode in Rounding:
            if mode in (Rounding.NEAREST, Rounding.NEAREST_AWAY):
                continue
            options = {"stochastic": {"seed": seed, "stream": stream}, "hysteresis": {"previous": previous}}
            got = format.round(x, top=scale, rounding=mode, **options.get(mode, {}))
            for v, w, p, y in zip(x.tolist(), words, previous.tolist(), got.tolist(), strict=True):
                number = Fraction(v) if math.isfinite(v) else math.copysign(1, v) * exact[-1]
                negative = math.copysign(1, v) < 0
                want = float(rounded(number, exact, mode, negative=negative, word=w, above=p > v))
                assert y == want, (mode, v)
                if not y:
                    assert math.copysign(1, y) == (1.0 if "UZ" in name else math.copysign(1, v))


def test_special_values():
    x = np.float32([np.nan, np.inf, -np.inf, -0.0, 448, -1e-9])
    for name in ("E4M3/real", "E4M3/tensor", "E5M2/real", "E5M2/tensor"):
        format = formats.get(name)
        y = format.round(x)
        assert np.isnan(y[0])
        assert (y[1], y[2], y[3]) == (format.max(format.find_top(x)[()]), -y[1], 0)
        assert np.signbit(y[[3, 5]]).all()
        assert format.round(x, keep_infinities=True)[1:3].tolist() == [np.inf, -np.inf]
        q = format.encode(x)
        # NaN has the standard's code, infinities saturate.
        nan = ml_dtypes.float8_e4m3fn if "E4M3" in name else ml_dtypes.float8_e5m2
        assert np.isnan(q.codes[:1].view(nan).astype(np.float32)).all()
        assert np.isnan(q.decode()[0])
        assert (q.decode()[1:] == y[1:]).all()
    # An infinity of E5M2's codes decodes, at any scale.
    assert formats.get("E5M2/real").decode(np.uint8([0x7C, 0xFC]), 0.3).tolist() == [np.inf, -np.inf]
    assert formats.get("E5M2/tensor").decode(np.uint8([0x7C, 0x7B]), 3).tolist() == [np.inf, 14.0]
    for name in ("E2M1/real", "E2M1/tensor"):
        with pytest.raises(ValueError, match="NaN, for which"):
            formats.get(name).encode(x)


def test_a_scale_of_one_is_the_standard_itself():
    rng = np.random.default_rng(6)
    x = np.concatenate([rng.standard_normal(500) * 300, rng.standard_normal(500) * 1e-3, [448, 464, 465, 480, -0.0]])
    x = x.astype(np.float32)
    for name in ("E4M3", "E5M2", "E3M2", "E4M3FNUZ", "float16"):
        standard = formats.get(name)
        assert same(formats.get(f"{name}/real").round(x, top=1.0), standard.round(x))
        assert same(formats.get(f"{name}/tensor").round(x, top=standard.top), standard.round(x))
        q, codes = formats.get(f"{name}/real").encode(x, top=1.0), standard.encode(x).codes
        assert (q.codes == codes).all()
        assert (formats.get(f"{name}/tensor").encode(x, top=standard.top).codes == codes).all()


def test_tensors_inside_autograd():
    for name in ("E4M3/real/block4", "E4M3/block4", "E4M3FNUZ/tensor"):
        x = torch.randn(5, 9, requires_grad=True)
        y = formats.get(name).round(x)
        assert (y.detach().numpy() == formats.get(name).round(x.detach().numpy())).all()
        y.sum().backward()
        assert (x.grad == 1).all()
        assert formats.get(name).round(x.detach().bfloat16()).dtype == torch.float32
        out = x.detach().clone()
        assert formats.get(name).round(out, out=out) is out


def test_names():
    for given, name in {
        "e4m3/REAL": "E4M3/real",
        "float8_e4m3fn/real/row": "E4M3/real/row",
        "e5m2/real/channel@1": "E5M2/real/channel@1",
        "E2M1/real/tile16x16": "E2M1/real/tile16x16",
        "E4M3/real/tensor": "E4M3/real",
        "fp16/real/block128@0": "float16/real/block128@0",
        "E4M3/tensor": "E4M3/tensor",
        "E4M3/rceil": "E4M3/tensor/rceil",
        "e4m3/tensor/headroom2": "E4M3/tensor/headroom2",
        "E3M2/row@0/ceil": "E3M2/row@0/ceil",
        "E3M4/channel": "E3M4/channel",
        "e4m3/tile128x128": "E4M3/tile128x128",
        "minifloat(3,3,bias=2)/real": "minifloat(3,3,bias=2)/real",
        "FP134/row": "FP134/row",
        "FP134/tensor": "FP134",
        "MXFP4/rceil": "MXFP4/rceil",
    }.items():
        format = formats.get(given)
        assert format.name == name
        assert formats.get(name) == format
        assert formats.get(name).digest == format.digest
    real, power = formats.get("E4M3/real/block128"), formats.get("E4M3/block128")
    assert real.scale == power.scale == Scale(per="block", block=128)
    names = ("E4M3", "E4M3/tensor", "E4M3/real", "E5M2/real", "E4M3/real/row", "E4M3/row", "MXFP8-E4M3", "E4M3/block32")
    assert len({formats.get(each).digest for each in names}) == len(names)
    for format in (real, power):
        assert (format.bits, format.family, format.binades, format.spare_codes) == (8, "standard", 18, 0)
        assert format.profile == formats.get("E4M3").profile
        assert format.granularity == "block"


def test_what_is_refused_in_one_line():
    for name, match in {
        "bfloat16/real": "bfloat16 has no scale from data",
        "TF32/tensor": "TF32 has no scale from data",
        "E8M0/real": "E8M0 has no scale",
        "P3109:8.1.signed.finite/real": "has no scale",
        "E4M3/real/ceil": "no headroom, policy",
        "E4M3/real/headroom1": "no headroom, policy",
        "E4M3/standard/real": "unknown scale 'standard'",
        "E4M3/reel": "unknown scale 'reel'",
        "FP134/real": "unknown scale 'real'",
    }.items():
        with pytest.raises(ValueError, match=match) as refused:
            formats.get(name)
        assert "\n" not in str(refused.value)
    for top in (0.0, np.nan, 1e38):
        with pytest.raises(ValueError, match="float32 scales above 0"):
            formats.get("E4M3/real").round(np.ones(3, np.float32), top=top)
    with pytest.raises(ValueError, match="is outside"):
        formats.get("E4M3/tensor").round(np.ones(3, np.float32), top=1000)
