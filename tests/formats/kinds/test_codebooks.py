"""NF4 and posits against what their sources say."""

import bisect
from fractions import Fraction

import numpy as np
import pytest

from formats.kinds.codebooks import NF4, posit
from tests.formats.inputs import around


def posit_value(text, es):
    """The value of a positive posit from its bits as text, sign included (standard of 2022, section 3)."""
    body = text[1:]
    run_length = len(body) - len(body.lstrip(body[0]))
    regime = run_length - 1 if body[0] == "1" else -run_length
    rest = body[run_length + 1 :]
    exponent = int(rest[:es].ljust(es, "0") or "0", 2)
    fraction = rest[es:]
    return Fraction(2) ** (regime * 2**es + exponent) * (1 + Fraction(int(fraction or "0", 2), 2 ** len(fraction)))


def posit_code(x, bits, es):
    """The code of the posit that a finite float rounds to (section 4)."""
    if x == 0:
        return 0
    magnitude = abs(Fraction(x))
    codes = range(1, 1 << (bits - 1))
    below = bisect.bisect_right(codes, magnitude, key=lambda code: posit_value(f"{code:0{bits}b}", es))
    if below == 0:
        code = 1  # the smallest: nothing rounds to zero
    elif below == len(codes):
        code = below
    else:
        boundary = posit_value(f"{below:0{bits}b}1", es)
        up = magnitude > boundary or (magnitude == boundary and below % 2 == 1)
        code = below + up
    return code if x > 0 else (1 << bits) - code


@pytest.mark.parametrize(("bits", "es"), [(2, 0), (3, 1), (5, 0), (6, 1), (8, 0), (8, 2), (8, 4), (10, 2)])
def test_posits_agree_with_the_reference(bits, es):
    format = posit(bits, es)
    values = [Fraction(0)] + [posit_value(f"{code:0{bits}b}", es) for code in range(1, 1 << (bits - 1))]
    boundaries = [posit_value(f"{code:0{bits}b}1", es) for code in range(1, (1 << (bits - 1)) - 1)]
    assert [Fraction(v) for v in format.magnitudes()] == values
    for dtype in (np.float32, np.float64):
        x = around(boundaries, values, dtype)
        expected = [posit_code(float(v), bits, es) for v in x]
        q = format.encode(x, top=0)
        assert q.codes.tolist() == expected
        got = format.round(x, top=0)
        assert (q.decode() == got).all()
        assert ((got == 0) == (x == 0)).all()
        assert not np.signbit(got[got == 0]).any()


def test_posit16_agrees_with_the_reference():
    format = posit(16, 2)
    rng = np.random.default_rng(3)
    x = np.ldexp(rng.standard_normal(300), rng.integers(-60, 60, 300))
    ties = np.array([float(posit_value(f"{code:016b}1", 2)) for code in rng.integers(1, 1 << 15, 300)])
    x = np.concatenate([x, ties, np.nextafter(ties, 0), np.nextafter(ties, 1e300)])
    assert format.encode(x, top=0).codes.tolist() == [posit_code(float(v), 16, 2) for v in x]
    assert format.max() == 2.0**56
    assert format.min_positive() == 2.0**-56


@pytest.mark.parametrize(("bits", "es"), [(4, 1), (8, 2), (16, 2)])
def test_every_posit_code_survives(bits, es):
    format = posit(bits, es)
    codes = np.arange(1 << bits)
    values = format.decode(codes)
    assert np.isnan(values).nonzero()[0].tolist() == [1 << (bits - 1)]
    assert (format.encode(values, top=0).codes == codes).all()
    assert format.spare_codes == 0


def test_posits_never_reach_zero_or_nar():
    format = posit(8, 2)
    x = np.array([5e-324, -5e-324, 1e-30, 1e300, -1e300, np.inf, -np.inf, 0.0, -0.0])
    low, high = 2.0**-24, 2.0**24
    got = format.round(x, top=0)
    assert got.tolist() == [low, -low, low, high, -high, high, -high, 0, 0]
    assert not np.signbit(got[-2:]).any()
    subnormal = np.array([1e-45], np.float32)
    for top in (0, *format.top_range):
        assert format.round(subnormal, top=top)[0] == np.ldexp(np.float32(low), top)


def test_nf4_is_the_table_of_qlora():
    # Appendix E of the paper rounds them; these are the float32 numbers of its code (bitsandbytes), whose quantiles are
    # recomputed here.
    from scipy.stats import norm

    offset = 0.9677083
    upper = norm.ppf(np.linspace(offset, 0.5, 9)[:-1])
    lower = -norm.ppf(np.linspace(offset, 0.5, 8)[:-1])
    table = np.sort(np.concatenate([upper, lower, [0.0]]))
    assert len(NF4.values) == 16
    assert NF4.values[0] == -1
    assert NF4.values[-1] == 1
    assert NF4.values[7] == 0
    assert np.abs(table / table.max() - NF4.values).max() < 1e-6
    assert list(NF4.values) == sorted(NF4.values)
    codes = np.arange(16)
    assert (NF4.encode(NF4.decode(codes), top=0).codes == codes).all()
