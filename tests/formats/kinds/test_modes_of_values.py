"""Codebooks, real scales and NVFP4 in every rounding mode, against exact fractions."""

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch

import formats
from formats import Rounding
from formats.kinds.codebook_format import CodebookFormat
from formats.kinds.codebooks import NF4, from_codebook, posit
from formats.kinds.nvfp4 import NVFP4Scales
from formats.rounding import rounded
from tests.formats.philox import philox_words
from tests.formats.reference import E2M1, E4M3, to_float32

OTHERS = [mode for mode in Rounding if mode not in (Rounding.NEAREST, Rounding.NEAREST_AWAY)]
SEED, STREAM = 0xFEDCBA9876543210, 3
EPSILON = float(np.float32(1) + np.spacing(np.float32(1)))
FORMATS = {
    "NF4": NF4,
    "posit<6,1>": posit(6, 1),
    "magnitudes": from_codebook([0, 0.25, 0.5, 1.0], signed=True),
    "magnitudes without zero": from_codebook([0.3, 1, 5], signed=True),
    "all values": from_codebook([-3, -1, 0.5, 2]),
    "alike": from_codebook([-2, -1, 1, 2]),
    "positive": from_codebook([0.5, 0.7, 8]),
    "negative": from_codebook([-8, -0.7, -0.5]),
    "far apart": from_codebook([-1, 0, 2.0**-100, 1, 1.5, 2.0**30]),
    "close": from_codebook([-0.1, 1, EPSILON, 2]),
    "one": from_codebook([1.5]),
    "many": from_codebook(np.random.default_rng(0).standard_normal(300)),
}
X32, X64 = np.float32, np.float64


def needs(mode, previous):
    return {Rounding.STOCHASTIC: {"seed": SEED, "stream": STREAM}, Rounding.HYSTERESIS: {"previous": previous}}.get(
        mode, {}
    )


def both_signs(magnitudes):
    return sorted({sign * Fraction(value) for value in magnitudes for sign in (1, -1)})


def grid_of(form, top):
    """All values of a codebook, as fractions."""
    values = [Fraction(value) * Fraction(2) ** top for value in form.values]
    return both_signs(values) if form.signed else values


def wanted(grid, x, mode, word, previous, *, signed=True, apart=False, minus_zero=True):
    """One float in a mode, zeros with their sign."""
    if math.isnan(x):
        return x
    exact = Fraction(x) if math.isfinite(x) else (grid[-1] if x > 0 else grid[0])
    negative = math.copysign(1, x) < 0 if signed else x < 0
    if apart and exact:
        grid = [value for value in grid if value]
        # Between the values next to zero it goes to the one of its sign.
        smallest = grid[len(grid) // 2]
        exact = exact if abs(exact) >= smallest else smallest if x > 0 else -smallest
    y = float(rounded(exact, grid, mode, negative=negative, word=word, above=previous > x))
    return math.copysign(y, x) if y == 0 and signed and minus_zero else y


def assert_same(got, want, x):
    want = np.array(want, got.dtype)
    same = (got == want) & (np.signbit(got) == np.signbit(want)) | (np.isnan(got) & np.isnan(want))
    assert same.all(), (x[~same][0].hex(), got[~same][0], want[~same][0])


def hard(rng, grid, words, dtype):
    """Values, their neighbours, midpoints, where the random number decides, tiny and huge numbers, specials; as many as
    there are words."""
    grid = np.array([float(value) for value in grid])
    with np.errstate(over="ignore", invalid="ignore"):
        x = rng.choice(grid, len(words)).astype(dtype)
        i = rng.integers(max(len(grid) - 1, 1), size=len(words))
        low, high = grid[i], grid[np.minimum(i + 1, len(grid) - 1)]
        share = (np.array(words, np.float64) + 1) / 2**32
        share[::5] = 0.5
        mirrored = (high <= 0) | ((low < 0) & (rng.random(len(words)) < 0.5))
        decided = np.where(mirrored, high - share * (high - low), low + share * (high - low)).astype(dtype)
        x = np.where(rng.random(len(x)) < 0.7, decided, x)
        x = np.where(rng.random(len(x)) < 0.5, np.nextafter(x, rng.choice(dtype([np.inf, -np.inf]), len(x))), x)
        loose = rng.choice(grid, len(x)) * np.exp2(rng.uniform(-60, 3, len(x))) * rng.choice([1, -1], len(x))
        x = np.where(rng.random(len(x)) < 0.15, loose.astype(dtype), x)
    info = np.finfo(dtype)
    specials = [
        0.0,
        -0.0,
        np.inf,
        -np.inf,
        np.nan,
        info.max,
        -info.max,
        info.smallest_subnormal,
        -info.smallest_subnormal,
        2.0**-149,
    ]
    x[: len(specials)] = specials
    return rng.permutation(x)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [X32, X64])
@pytest.mark.parametrize("name", FORMATS)
def test_codebooks_by_definition(name, dtype):
    form = FORMATS[name]
    rng = np.random.default_rng(1)
    low, high = form.top_range
    words = philox_words(SEED, STREAM, 120)
    for top in (0, low, high, low + 9):
        grid = grid_of(form, top)
        x = hard(rng, grid, words, dtype)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            previous = (x * rng.choice([0.9, 1.0, 1.1], x.shape)).astype(dtype)
        keeps = {"signed": form.signed, "apart": form.only_zero_is_zero, "minus_zero": not form.two_complement}
        for mode in OTHERS:
            got = form.round(x, top=top, rounding=mode, **needs(mode, previous))
            assert got.dtype == dtype
            want = [
                wanted(grid, *each, **keeps)
                for each in zip(x.tolist(), [mode] * len(x), words, previous.tolist(), strict=True)
            ]
            assert_same(got, want, x)
            numbers = np.where(np.isnan(x), 0, x)
            q = form.encode(numbers, top=top, rounding=mode, **needs(mode, previous))
            assert (q.decode() == form.round(numbers, top=top, rounding=mode, **needs(mode, previous))).all()


@pytest.mark.parametrize("dtype", [X32, X64])
@pytest.mark.parametrize("name", FORMATS)
def test_nearest_away_of_codebooks(name, dtype):
    form = FORMATS[name]
    rng = np.random.default_rng(2)
    values = [Fraction(value) for value in form.values]
    middles = (
        [(a + b) / 2 for a, b in itertools.pairwise(values)]
        if form.boundaries is None
        else [Fraction(b) for b in form.boundaries]
    )
    x = hard(rng, grid_of(form, 0), philox_words(0, 0, 120), dtype)
    x = np.concatenate([x, *(np.array([float(m) for m in middles], dtype) * sign for sign in (1, -1))])
    want = []
    for each in x.tolist():
        if math.isnan(each):
            want.append(each)
            continue
        exact = Fraction(each) if math.isfinite(each) else Fraction(1 << 2000) * (1 if each > 0 else -1)
        exact = abs(exact) if form.signed else exact
        i = sum(m < exact for m in middles)
        if i < len(middles) and middles[i] == exact and abs(values[i + 1]) >= abs(values[i]):
            i += 1
        if form.only_zero_is_zero and exact:
            i = max(i, 1)
        y = math.copysign(float(values[i]), each) if form.signed else float(values[i])
        want.append(y + 0.0 if form.two_complement else y)
    got = form.round(x, top=0, rounding="nearest-away")
    assert_same(got, want, x)
    assert_same(form.with_scale(formats.Scale("channel")).round(x[None], top=0, rounding="nearest-away")[0], want, x)
    numbers = np.where(np.isnan(x), 0, x)
    assert (
        form.encode(numbers, top=0, rounding="nearest-away").decode()
        == form.round(numbers, top=0, rounding="nearest-away")
    ).all()


def test_a_tie_of_posits_and_of_other_boundaries():
    # Between 64 and 256 the boundary is 128; the fraction of stochastic rounding is that of the values.
    form = posit(6, 1)
    x = np.float32([128, -128, 127.9])
    assert form.round(x, top=0, rounding="nearest-away").tolist() == [256, -256, 64]
    mean = form.round(np.full(1 << 16, 112, np.float32), top=0, rounding="stochastic", seed=1).mean()
    assert abs(mean - 112) < 4 * 192 * math.sqrt(0.25 * 0.75 / (1 << 16))
    made = CodebookFormat((-2.0, -1.0, 0.0, 3.0), 2, boundaries=(-1.25, -0.5, 2.0), name="made")
    assert made.round(np.float32([-1.25, -0.5, 2, 1.9]), top=0, rounding="nearest-away").tolist() == [-2, -1, 3, 0]
    assert made.round(np.float32([-1.25, -0.5, 2, 1.9]), top=0).tolist() == [-2, 0, 0, 0]


@pytest.mark.parametrize("dtype", [X32, X64])
@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_real_scales_by_definition(bits, dtype):
    form, most = formats.get(f"INT{bits}/real"), 2 ** (bits - 1) - 1
    rng = np.random.default_rng(bits)
    words = philox_words(SEED, STREAM, 150)
    for exponent in (-149, -127, -140, 0, 100) if bits < 16 else (-3,):
        scale = np.float32(np.ldexp(rng.uniform(1, 2), exponent))
        exact = Fraction(float(scale))
        grid = both_signs(to_float32(k * exact) for k in range(most + 1))
        x = hard(rng, grid, words, dtype)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            previous = (x * rng.choice([0.9, 1.0, 1.1], x.shape)).astype(dtype)
        numbers = np.where(np.isnan(x), 0, x)
        for mode in OTHERS:
            got = form.round(x, top=scale, rounding=mode, **needs(mode, previous))
            want = [
                wanted(grid, *each) for each in zip(x.tolist(), [mode] * len(x), words, previous.tolist(), strict=True)
            ]
            assert_same(got, want, x)
            options = {"top": scale, "rounding": mode, **needs(mode, previous)}
            assert (form.encode(numbers, **options).decode() == form.round(numbers, **options)).all()
        # To nearest, the quotient decides.
        ties = ((rng.integers(0, most + 1, 60) + 0.5) * float(scale)).astype(dtype)
        ties = np.concatenate([ties, np.nextafter(ties, dtype(0)), np.nextafter(ties, dtype(np.inf)), x])
        ties = np.where(np.isfinite(ties), ties, 1)
        want = [
            math.copysign(to_float32(min(math.floor(abs(Fraction(v)) / exact + Fraction(1, 2)), most) * exact), v)
            for v in ties.tolist()
        ]
        assert_same(form.round(ties, top=scale, rounding="nearest-away"), want, ties)


def test_a_value_of_a_real_scale_stays_though_it_is_a_rounded_product():
    form, scale = formats.get("INT8/real"), np.float32(0.1)
    values = form.round(np.arange(-127, 128) * np.float64(scale), top=scale)
    exact = np.arange(-127, 128) * np.float64(scale)
    assert (values > exact).any()
    assert (values < exact).any()
    for mode in Rounding:
        for dtype in (X32, X64):
            x = values.astype(dtype)
            assert (form.round(x, top=scale, rounding=mode, **needs(mode, 2 * x)) == values).all()


@pytest.mark.parametrize("dtype", [X32, X64])
@pytest.mark.parametrize(
    ("tensor", "codes"), [(1.0, [1, 60, 126]), (0.7531247, [8, 50, 77, 0]), (2.0**-149, [126, 64, 57, 40, 1])]
)
def test_nvfp4_by_definition(tensor, codes, dtype):
    form = formats.get("NVFP4")
    tensor = np.float32(tensor)
    rng = np.random.default_rng(3)
    words = philox_words(SEED, STREAM, 16 * 10 * len(codes))
    top = NVFP4Scales(np.array([codes] * 10, np.uint8), tensor)
    grids = [both_signs(to_float32(e * E4M3[code] * Fraction(float(tensor))) for e in E2M1) for code in codes]
    columns = [hard(rng, grid, words[:160], dtype) for grid in grids]
    # Where random numbers decide: each element beside the threshold of its own number.
    x = np.stack([column.reshape(10, 16) for column in columns], axis=1)
    for row, block in np.ndindex(10, len(codes)):
        at = (row * len(codes) + block) * 16
        grid = [float(value) for value in grids[block] if value >= 0]
        for k in range(0, 16, 2):
            i = rng.integers(max(len(grid) - 1, 1))
            low, high = grid[i], grid[min(i + 1, len(grid) - 1)]
            x[row, block, k] = dtype((low + (words[at + k] + 1) / 2**32 * (high - low)) * rng.choice([1, -1]))
    x = x.reshape(10, -1)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        previous = (x * rng.choice([0.9, 1.0, 1.1], x.shape)).astype(dtype)
    each = [grids[i // 16 % len(codes)] for i in range(x.size)]
    numbers = np.where(np.isnan(x), 0, x)
    for mode in OTHERS:
        options = {"top": top, "rounding": mode, **needs(mode, previous)}
        got = form.round(x, **options)
        flat = zip(each, x.ravel().tolist(), [mode] * x.size, words, previous.ravel().tolist(), strict=True)
        assert_same(got.ravel(), [wanted(*one) for one in flat], x.ravel())
        assert (form.encode(numbers, **options).decode() == form.round(numbers, **options)).all()
    # To nearest, the quotient decides.
    scales = [E4M3[code] * Fraction(float(tensor)) for code in codes]
    middles = [[(a + b) / 2 * scale for a, b in itertools.pairwise(E2M1)] for scale in scales]
    ties = (
        np.array([[float(m) for m in middle] + [0] * 9 for middle in middles])
        .reshape(1, -1)
        .repeat(10, 0)
        .astype(dtype)
    )
    ties = np.concatenate([ties, np.nextafter(ties, dtype(np.inf)), np.nextafter(ties, dtype(0)), -ties])
    want = []
    for place, v in np.ndenumerate(ties):
        scale, middle = scales[place[1] // 16], middles[place[1] // 16]
        element = E2M1[sum(m <= abs(Fraction(float(v))) for m in middle)] if scale else Fraction(0)
        want.append(math.copysign(to_float32(element * scale), v))
    top = NVFP4Scales(np.array([codes] * 40, np.uint8), tensor)
    assert_same(form.round(ties, top=top, rounding="nearest-away").ravel(), want, ties.ravel())


NAMES = [
    "NF4",
    "NF4/channel",
    "NF4/channel@1",
    "NF4/block7",
    "NF4/block3@1",
    "NF4/tile4x6",
    "posit<8,2>/channel",
    "INT8/real",
]
NAMES += ["INT8/real/channel@1", "INT4/real/block32", "NVFP4", "NVFP4/tile2x3"]


@pytest.mark.parametrize("name", NAMES)
def test_groups_round_as_their_elements_do(name):
    """Each group of an array is what the tensor format makes of it at its scale; random numbers follow the place in the
    whole array."""
    form = formats.get(name)
    x = np.random.default_rng(4).standard_normal((3, 10, 4, 9)).astype(np.float32)
    previous = x * np.float32(1.05)
    top = form.find_top(x)
    words = philox_words(SEED, STREAM, x.size)
    q = form.encode(x, top=top)
    # The scale of each element, told by what decodes from the code of the largest value.
    largest = form.round(np.full(x.shape, np.inf, np.float32), top=top)
    for mode in OTHERS:
        got = form.round(x, rounding=mode, **needs(mode, previous)).ravel()
        grids = {}
        for i, (value, most) in enumerate(zip(x.ravel().tolist(), largest.ravel().tolist(), strict=True)):
            if most not in grids:
                if isinstance(form, formats.CodebookFormat):
                    grids[most] = grid_of(form, int(np.log2(most / form.values[-1])))
                elif isinstance(form, formats.IntegerFormat):
                    at = (
                        np.broadcast_to(q.top, ())
                        if q.top.ndim == 0
                        else q.top.ravel()[np.argmin(np.abs(q.top.ravel() - most / form._largest))]
                    )
                    grids[most] = both_signs(to_float32(k * Fraction(float(at))) for k in range(form._largest + 1))
                else:
                    code = min(range(127), key=lambda code: abs(float(E4M3[code]) * float(q.top.tensor) * 6 - most))
                    grids[most] = both_signs(to_float32(e * E4M3[code] * Fraction(float(q.top.tensor))) for e in E2M1)
            signed = not isinstance(form, formats.CodebookFormat) or form.signed
            apart = getattr(form, "only_zero_is_zero", False)
            want = wanted(
                grids[most],
                value,
                mode,
                words[i],
                previous.ravel()[i],
                signed=signed,
                apart=apart,
                minus_zero=not apart,
            )
            assert got[i] == want, (mode, i)


@pytest.mark.parametrize("name", NAMES)
def test_place_alone_matters(name):
    """Not threads, memory order, library, dtype, or where the result goes."""
    form = formats.get(name)
    x = torch.randn(3, 10, 20, 70)
    previous = x * 1.05
    for mode in Rounding:
        options = {"rounding": mode, **needs(mode, previous)}
        made = form.round(x.numpy(), **options)
        before = torch.get_num_threads()
        try:
            for threads in (1, 3):
                torch.set_num_threads(threads)
                views = [
                    x,
                    x.contiguous(memory_format=torch.channels_last),
                    x.permute(3, 0, 2, 1).contiguous().permute(1, 3, 2, 0),
                    torch.stack([x, x], 4)[..., 1],
                    x.clone().requires_grad_(),
                ]
                for view in views:
                    assert (form.round(view, **options).detach().numpy() == made).all()
        finally:
            torch.set_num_threads(before)
        wide = form.round(x.numpy().astype(np.float64), **options)
        assert wide.dtype == np.float64
        assert (wide == made).all()
        out = np.full((70, 20, 10, 3), 9, np.float32).T
        assert form.round(x.numpy(), out=out, **options) is out
        assert (out == made).all()
        # In place, and into the previous values.
        held = x.numpy().copy()
        assert (form.round(held, out=held, **options) == made).all()
        if mode is Rounding.HYSTERESIS:
            held = previous.numpy().copy()
            assert (form.round(x.numpy(), rounding=mode, previous=held, out=held) == made).all()


@pytest.mark.parametrize("name", ["NF4", "posit<8,2>", "INT8/real", "NVFP4"])
@pytest.mark.parametrize("mode", list(Rounding))
def test_special_values_and_shapes(name, mode):
    form = formats.get(name)
    top = {"INT8/real": 1.0, "NVFP4": NVFP4Scales(np.uint8([0x38]), np.float32(1))}.get(name, 0)
    bits = np.array(
        [0x7F800001, 0xFFFFFFFF, 0x7FC00000, 0x7F800000, 0xFF800000], np.uint32
    )  # signalling and quiet NaN, infinities
    x = bits.view(np.float32)
    got = form.round(x, top=top, rounding=mode, **needs(mode, x))
    assert np.isnan(got[:3]).all()
    largest = form.round(np.float32([3e38]), top=top)[0]
    assert got[3:].tolist() == [largest, -largest]
    kept = form.round(x, top=top, rounding=mode, keep_infinities=True, **needs(mode, x))
    assert kept[3:].tolist() == [np.inf, -np.inf]
    for shape in ((0,), (3, 0), ()):
        x = np.full(shape, 0.3, np.float32)
        assert form.round(x, rounding=mode, **needs(mode, x)).shape == shape
        q = form.encode(x, rounding=mode, **needs(mode, x))
        assert q.decode().shape == shape
        assert (q.decode() == form.round(x, rounding=mode, **needs(mode, x))).all()
    spread = np.broadcast_to(np.float32([0.3]), (40,))
    assert (
        form.round(spread, rounding=mode, **needs(mode, spread))
        == form.round(spread.copy(), rounding=mode, **needs(mode, spread))
    ).all()


@pytest.mark.parametrize(
    ("form", "top", "x"),
    [
        (NF4, 0, -0.1),
        (from_codebook([0.3, 1], signed=True), 0, 0.1),
        (formats.get("INT8/real"), 0.3, 0.4),
        (formats.get("NVFP4"), NVFP4Scales(np.full((1, 1 << 12), 0x38, np.uint8), np.float32(0.7)), 1.3),
    ],
)
def test_stochastic_rounding_is_as_frequent_as_its_fraction(form, top, x):
    x = np.full((1, 1 << 16), x, np.float32)
    counts = Counter(form.round(x, top=top, rounding="stochastic", seed=11)[0].tolist())
    assert len(counts) == 2
    (low, _), (high, up) = sorted(counts.items())
    share = (float(x[0, 0]) - low) / (high - low)
    assert abs(up - share * x.size) < 4 * math.sqrt(share * (1 - share) * x.size)


def test_previous_values_are_compared_as_they_are():
    # A float64 between x and the next float32.
    x = np.float32([0.1, 0.1])
    previous = np.array([np.nextafter(np.float64(x[0]), 1), np.float64(x[0])])
    for name, high in (("NF4", NF4.values[9]), ("INT8/real", 1.0), ("NVFP4", 0.5)):
        top = {"INT8/real": 1.0, "NVFP4": NVFP4Scales(np.uint8([0x38]), np.float32(1))}.get(name, 0)
        got = formats.get(name).round(x, top=top, rounding="hysteresis", previous=previous)
        assert got.dtype == np.float32
        assert got.tolist() == [
            high if name != "NF4" else got[0],
            formats.get(name).round(x, top=top, rounding="toward-zero")[1],
        ]
        assert got[0] > got[1]
