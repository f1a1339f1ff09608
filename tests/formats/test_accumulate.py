"""Products of encoded matrices are right to the bit."""

import sys
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

import formats
from formats import Codes
from formats.accumulate import ExactAccumulator, Float32Accumulator, FormatAccumulator, matmul
from formats.kernel import accumulate, threads
from tests.formats.products import ACCUMULATORS, MASTER, NAMES, check, label, random_codes
from tests.processes import python

module = sys.modules["formats.accumulate"]


def encoded(rows, name=MASTER, top=32):
    """A matrix all of whose elements are values of the format."""
    x = np.array(rows, np.float64)
    q = formats.get(name).encode(x, top=top)
    assert (q.decode() == x).all()
    return q


def pair(products, name=MASTER, top=32):
    """One row and one column with these factors."""
    return encoded([[a for a, _ in products]], name, top), encoded([[b] for _, b in products], name, top)


@pytest.mark.slow
@pytest.mark.parametrize("accumulator", ACCUMULATORS, ids=label)
def test_every_accumulator_and_pair_of_formats(accumulator):
    rng = np.random.default_rng(1)
    for left, right in product(NAMES, NAMES):
        check(random_codes(left, (2, 13), rng), random_codes(right, (13, 3), rng), accumulator)


@pytest.mark.parametrize("accumulator", ACCUMULATORS, ids=label)
def test_wide_formats(accumulator):
    rng = np.random.default_rng(2)
    for left, right in ((MASTER, MASTER), (MASTER, "FP134"), ("INT16", "FP152")):
        check(random_codes(left, (2, 9), rng, top=20), random_codes(right, (9, 2), rng, top=5), accumulator)


@pytest.mark.parametrize("accumulator", ACCUMULATORS, ids=label)
def test_shapes(accumulator):
    rng = np.random.default_rng(3)
    for m, k, n in ((0, 4, 3), (3, 4, 0), (0, 0, 0), (1, 1, 1), (1, 7, 1), (5, 1, 2), (1, 64, 2)):
        check(random_codes("FP134", (m, k), rng), random_codes("FP152", (k, n), rng), accumulator)
    nothing = check(random_codes("INT8", (3, 0), rng), random_codes("FP152", (0, 2), rng), accumulator)
    assert (nothing == 0).all()


@pytest.mark.parametrize("accumulator", ACCUMULATORS, ids=label)
def test_channel_scales(accumulator):
    rng = np.random.default_rng(4)
    for left, right in (
        ("FP134/channel", "FP152"),
        ("INT8", "FP134/channel@1"),
        ("profile:8:5,4", "INT8"),
        ("FP143/channel", "FP152/channel@-1"),
    ):
        check(random_codes(left, (4, 11), rng), random_codes(right, (11, 3), rng), accumulator)
    x, y = rng.standard_normal((3, 20)), rng.standard_normal((20, 3))
    check(formats.get("FP134/channel").encode(x), formats.get("FP134/channel@1").encode(y), accumulator)


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 17, 18, 10**12])
def test_chunks(chunk):
    rng = np.random.default_rng(chunk)
    for name in ("FP134", "FP152"):  # chunks of the second do not fit float64
        qa, qb = random_codes(name, (2, 17), rng), random_codes(name, (17, 3), rng)
        for accumulator in (
            Float32Accumulator(chunk),
            FormatAccumulator(MASTER, 32, chunk),
            FormatAccumulator("FP134", 3, chunk),
        ):
            check(qa, qb, accumulator)


def test_transposed_codes():
    rng = np.random.default_rng(5)
    qa, qb = random_codes("FP134", (9, 3), rng), random_codes("FP152", (2, 9), rng)
    turned = [Codes(q.codes.T, q.top, q.format) for q in (qa, qb)]
    for accumulator in ACCUMULATORS:
        check(*turned, accumulator)


def test_ties():
    # 2^24 + 1 lies between two float32 numbers: down to even, and from the next one up.
    assert check(*pair([(2**12, 2**12), (1, 1)]), Float32Accumulator()).item() == 2**24
    assert check(*pair([(2**12, 2**12), (2, 1), (1, 1)]), Float32Accumulator()).item() == 2**24 + 4
    # FP169 keeps ten bits.
    fp169 = FormatAccumulator(MASTER, top=32)
    assert check(*pair([(2**10, 1), (1, 1)]), fp169).item() == 2**10
    assert check(*pair([(2**10, 1), (2, 1), (1, 1)]), fp169).item() == 2**10 + 4
    assert check(*pair([(2**10, 1), (1, 1), (1, 1)]), FormatAccumulator(MASTER, 32, chunk=3)).item() == 2**10 + 2
    # Below the smallest value: half of it goes to zero, more does not. With one bit a tie goes up.
    small = FormatAccumulator("FP134", top=0)
    assert check(*pair([(2**-11, 1)]), small).item() == 0
    assert check(*pair([(-(2**-6), 2**-5)]), small).item() == 0
    assert check(*pair([(3 * 2**-6, 2**-6)]), small).item() == 2**-10
    assert check(*pair([(2**-12, 1)] * 3, top=32), FormatAccumulator("FP134", 0, chunk=3)).item() == 2**-10
    assert check(*pair([(3, 1)]), FormatAccumulator("profile:4:1x7", top=3)).item() == 4


@pytest.mark.parametrize("sign", [1, -1])
def test_no_double_rounding(sign):
    """The exact sum lies a hair beside a tie, which a float64 sum would hit."""
    for accumulator in (Float32Accumulator(chunk=2), Float32Accumulator(chunk=4), ExactAccumulator()):
        start = [(2**26, sign * 2**27), (0, 0)]
        up, down = [(2**14, sign * 2**15), (1, sign)], [(3 * 2**14, sign * 2**15), (1, -sign)]
        assert check(*pair(start + up), accumulator).item() == sign * (2**53 + 2**30)
        assert check(*pair(start + down), accumulator).item() == sign * (2**53 + 2**30)
    for chunk in (2, 4):
        accumulator = FormatAccumulator(MASTER, 60, chunk)
        start = [(2**26, sign * 2**27), (0, 0)]
        assert check(*pair([*start, (2**21, sign * 2**22), (2**-30, sign * 2**-9)]), accumulator).item() == sign * (
            2**53 + 2**44
        )
        assert (
            check(*pair([*start, (2**21, sign * 2**22), (2**-30, -sign * 2**-9)]), accumulator).item() == sign * 2**53
        )
    # Also where every chunk is exact in float64.
    start = [(2**25, sign * 2**25)] * 8
    for end in ([(2**14, sign * 2**15), (1, sign)], [(3 * 2**14, sign * 2**15), (1, -sign)]):
        assert check(*pair(start + end), Float32Accumulator(chunk=2)).item() == sign * (2**53 + 2**30)
    # The exact float64 result, too.
    for tail, expected in ((0, 2**53), (2**-30, 2**53 + 2)):
        products = [(2**26, sign * 2**27), (1, sign), (tail, sign * 2**-5)]
        assert check(*pair(products), ExactAccumulator("float64")).item() == sign * expected


def test_sum_rounded_to_odd():
    rng = np.random.default_rng(6)
    x = np.ldexp(rng.standard_normal(3000), rng.integers(-80, 80, 3000))
    y = np.ldexp(rng.standard_normal(3000), rng.integers(-80, 80, 3000))
    powers = 2.0 ** rng.integers(-5, 5, 3000)
    for a, b in [
        *zip(x.tolist(), y.tolist(), strict=True),
        *zip(powers.tolist(), (y * 2.0**-60).tolist(), strict=True),
    ]:
        exact, got = Fraction(a) + Fraction(b), accumulate._odd_sum(a, b)
        if exact != Fraction(got):
            assert np.float64(got).view(np.int64) & 1
            # On the right side, and nearer than the next number.
            other = np.nextafter(got, np.inf if exact > Fraction(got) else -np.inf)
            assert min(Fraction(got), Fraction(float(other))) < exact < max(Fraction(got), Fraction(float(other)))
    assert accumulate._odd_sum(np.inf, -1.0) == np.inf


def test_saturation_and_infinity():
    row = [(1.9375, 1.9375)] * 9 + [(-1.9375, 1.9375)]
    # Stays at the largest value, and comes back from there: 3.75 away, where the step is 1/16.
    assert check(*pair(row, "FP134", 0), FormatAccumulator("INT8", top=2)).item() == 127 / 16 - 3.75
    for chunk in (1, 4, 10):
        check(*pair(row, "FP134", 0), FormatAccumulator(MASTER, top=2, chunk=chunk))
    # float32 stays infinite.
    high = [Codes(q.codes, np.asarray(63), q.format) for q in pair(row, "FP134", 0)]
    for chunk in (1, 3):
        assert check(*high, Float32Accumulator(chunk)).item() == np.inf
    rng = np.random.default_rng(7)
    for accumulator in ACCUMULATORS:
        for name in ("FP134", "FP152"):
            check(random_codes(name, (3, 12), rng, top=63), random_codes(name, (12, 3), rng, top=65), accumulator)


@pytest.mark.parametrize("name", ["FP134", "FP152", "INT8"])
def test_infinite_sums_of_one_sign(name):
    format = formats.get(name)
    largest = np.full((1, 40), format.max(64))
    for sign in (1, -1):
        qa, qb = format.encode(largest, top=64), format.encode(sign * largest.T, top=63)
        for accumulator in (Float32Accumulator(), Float32Accumulator(chunk=5), ExactAccumulator()):
            assert matmul(qa, qb, accumulator=accumulator).item() == sign * np.inf
        assert np.isfinite(matmul(qa, qb, accumulator=ExactAccumulator("float64"))).all()


def test_subnormal_float32():
    rng = np.random.default_rng(8)
    for name, low in (("FP134", -70), ("FP152", -65), ("INT8", -75)):
        for accumulator in (*ACCUMULATORS, FormatAccumulator("FP134", top=-139)):
            check(random_codes(name, (3, 12), rng, top=low), random_codes(name, (12, 3), rng, top=low), accumulator)
    lowest = formats.get(MASTER).top_range[0]
    for accumulator in ACCUMULATORS:
        check(random_codes(MASTER, (2, 6), rng, top=lowest), random_codes(MASTER, (6, 2), rng, top=127), accumulator)
        check(random_codes(MASTER, (2, 6), rng, top=lowest), random_codes(MASTER, (6, 2), rng, top=lowest), accumulator)
        check(
            random_codes("FP152", (2, 6), rng, top=127),
            random_codes("FP152", (6, 2), rng, top=127),
            ExactAccumulator("float64"),
        )


@pytest.mark.parametrize("name", ["FP134", "FP152", MASTER])
def test_sums_that_cancel(name):
    rng = np.random.default_rng(9)
    half = random_codes(name, (3, 8), rng, top=6).decode()
    other = random_codes(name, (8, 3), rng, top=6).decode()
    order = rng.permutation(16)
    format = formats.get(name)
    qa = format.encode(np.concatenate([half, half], axis=1)[:, order], top=6)
    qb = format.encode(np.concatenate([other, -other], axis=0)[order], top=6)
    for accumulator in ACCUMULATORS:
        got = check(qa, qb, accumulator)
        if isinstance(accumulator, ExactAccumulator):
            assert (got == 0).all()


@pytest.mark.parametrize("accumulator", ACCUMULATORS, ids=label)
def test_threads_do_not_change_the_result(accumulator, monkeypatch):
    monkeypatch.setattr(module, "MIN_PRODUCTS_PER_THREAD", 1)
    rng = np.random.default_rng(10)
    for name in ("FP134", "FP152"):
        qa, qb = random_codes(name, (7, 40), rng), random_codes(name, (40, 5), rng)
        results = []
        for count in (1, 2, 3, 16):
            monkeypatch.setattr(threads, "available", lambda count=count: count)
            results.append(matmul(qa, qb, accumulator=accumulator).tobytes())
        assert len(set(results)) == 1
    monkeypatch.setattr(threads, "available", lambda: 2)
    check(qa, qb, accumulator)


def test_default_is_float32():
    rng = np.random.default_rng(11)
    qa, qb = random_codes("FP134", (2, 30), rng), random_codes("FP134", (30, 2), rng)
    assert (matmul(qa, qb) == matmul(qa, qb, accumulator=Float32Accumulator())).all()


def test_what_is_refused():
    rng = np.random.default_rng(12)
    good = random_codes("FP134", (4, 4), rng)
    for name in ("FP134/channel@1", "FP134/block4", "BM43"):
        with pytest.raises(ValueError, match=r"qa is encoded in .* may vary along k"):
            matmul(formats.get(name).encode(np.ones((4, 4))), good)
    for name in ("FP134/channel", "FP134/block4@0", "FP134/tile2x2"):
        with pytest.raises(ValueError, match=r"qb is encoded in .* may vary along k"):
            matmul(good, formats.get(name).encode(np.ones((4, 4))))
    with pytest.raises(ValueError, match=r"qa has shape \(4, 4\) and qb \(3, 2\)"):
        matmul(good, random_codes("FP134", (3, 2), rng))
    with pytest.raises(ValueError, match="a matrix is needed"):
        matmul(good, formats.get("FP134").encode(np.ones(4)))
    with pytest.raises(TypeError, match="ndarray; the Codes"):
        matmul(np.ones((4, 4)), good)
    with pytest.raises(TypeError, match="accumulator is 'float32'"):
        matmul(good, good, accumulator="float32")
    with pytest.raises(ValueError, match="stands for no value"):
        matmul(Codes(np.full((4, 4), 128, np.uint8), np.asarray(0), good.format), good)
    with pytest.raises(ValueError, match="no finite float32"):
        matmul(Codes(np.full((4, 4), 128, np.uint8), np.asarray(127), formats.get("INT8")), good)
    wide = Codes(np.broadcast_to(np.uint8(0), (0, (1 << 30) + 1)), np.asarray(0), good.format)
    with pytest.raises(ValueError, match="at most 1073741824 products"):
        matmul(wide, Codes(wide.codes.T, wide.top, wide.format))
    for make, message in (
        (lambda: Float32Accumulator(chunk=0), "chunk 0: at least 1"),
        (lambda: FormatAccumulator(MASTER, 32, chunk=-1), "chunk -1: at least 1"),
        (lambda: FormatAccumulator(MASTER, 128), "top 128 is outside -78 to 127"),
        (lambda: FormatAccumulator("BM43", 0), "scale per block"),
        (lambda: FormatAccumulator("FP134/channel", 0), "scale per channel"),
        (lambda: FormatAccumulator("FP16x", 0), "unknown format"),
        (lambda: ExactAccumulator("float16"), "allowed are float32, float64"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    for make, message in (
        (lambda: Float32Accumulator(chunk=1.5), "chunk is 1.5"),
        (lambda: Float32Accumulator(chunk=True), "chunk is True"),
        (lambda: FormatAccumulator(MASTER, 1.0), "top is 1.0; a whole number"),
        (lambda: FormatAccumulator(3, 1), "neither a format's name"),
        (lambda: FormatAccumulator(Standard(overflow="standard"), 1), "a signed, saturating format"),
        (lambda: FormatAccumulator(Stranger(), 1), "with a precision profile is needed"),
    ):
        with pytest.raises(TypeError, match=message):
            make()


class Stranger:
    """A user's own format, which has no profile."""

    name, digest = "stranger", "1"

    def round(self, x):
        return x


class Standard(Stranger):
    """A standard format: a profile without its largest magnitude, as in E4M3."""

    name, profile, bits, largest, signed, overflow = "E4M3", (4,) * 15 + (3, 2, 1), 8, 14, True, "saturate"

    def __init__(self, **changes):
        vars(self).update(changes)


def test_accumulator_in_a_standard_format():
    assert FormatAccumulator(Standard(largest=15), 8) == FormatAccumulator("FP143", 8)
    accumulator = FormatAccumulator(Standard(), 8)
    assert check(*pair([(16, 15), (1, 3)]), accumulator).item() == 240
    assert matmul(*pair([(32, 14), (64, 1)]), accumulator=accumulator).item() == 448


def test_accumulators_are_values():
    assert FormatAccumulator("fp169", 32) == FormatAccumulator(formats.get(MASTER), 32)
    assert len({Float32Accumulator(), Float32Accumulator(1), ExactAccumulator(), FormatAccumulator(MASTER, 3)}) == 3
    with pytest.raises(AttributeError):
        Float32Accumulator().chunk = 2


def test_numba_is_loaded_only_where_it_is_needed():
    code = "import sys, formats.accumulate; sys.exit('numba' in sys.modules)"
    python("-c", code)
