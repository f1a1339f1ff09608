"""verify finds the faults that are planted in a caller's function, and none in a correct one."""

import sys

import ml_dtypes
import numpy as np
import pytest

import formats
from formats.conformance.compare import verify
from formats.conformance.inputs import Category
from tests.formats.conformance.mismatches import found

INPUTS = 20_000


# Fixed point with steps of 1/64 below 2 is INT8 at top 0.


def int8(x):
    return np.clip(np.rint(x * np.float32(64)), -127, 127) / np.float32(64)


def int8_twice(x):
    y = np.clip(np.abs(x) * np.float32(64), 0, 127)
    return np.copysign(np.floor(y + np.float32(0.5)) / np.float32(64), x)


def int8_in_place(x):
    x[:] = int8(x)
    return x


def int8_without_minus_zero(x):
    return int8(x) + np.float32(0)


def int8_without_nan(x):
    return np.nan_to_num(int8(x))


def e4m3(x):
    return x.astype(ml_dtypes.float8_e4m3fn).astype(np.float32)


def e4m3_saturating(x):
    return np.where(np.isnan(x), x, e4m3(np.clip(x, -448, 448)))


def e3m4_flushing(x):
    y = x.astype(ml_dtypes.float8_e3m4).astype(np.float64)
    return np.where(np.abs(y) < 0.25, np.copysign(0, y), y)


def exact(name):
    def function(x):
        return formats.get(name).round(x, top=0)

    return function


posits, nf4, tapered = exact("posit<8,2>"), exact("NF4"), exact("T8.5x3@2")
FIVE = 5


def raises(x):
    if np.isnan(x).any():
        raise TypeError("no NaN, please\nat all")
    return int8(x)


def too_short(x):
    return x[1:]


def complex_numbers(x):
    return x.astype(np.complex64)


def own(function, as_format, **arguments):
    return verify(f"{__name__}:{function}", as_format, **{"inputs": INPUTS, **arguments})


@pytest.mark.parametrize(
    ("function", "as_format"),
    [
        ("int8", "INT8"),
        ("int8_in_place", "FP116"),
        ("e4m3", "E4M3/standard"),
        ("e4m3_saturating", "float8_e4m3fn"),
        ("posits", "posit<8,2>"),
        ("nf4", "NF4"),
        ("tapered", "T8.5x3@2"),
    ],
)
def test_a_correct_function_passes(function, as_format):
    checks = own(function, as_format)
    assert not found(checks)
    assert {Category.VALUES, Category.TIES, Category.NEIGHBOURS, Category.OVERFLOW, Category.RANDOM} <= {
        c.category for c in checks
    }


def wrong(function, as_format):
    return {check.category: check for check in own(function, as_format) if check.mismatches}


def test_a_double_rounding_is_caught():
    planted = wrong("int8_twice", "INT8")
    assert set(planted) == {Category.TIES, Category.NEIGHBOURS}
    # Ties go away from zero: every second is wrong. And just below half a step, adding a half rounds up to a whole one.
    assert planted[Category.TIES].mismatches * 2 == planted[Category.TIES].inputs + 2
    below = planted[Category.NEIGHBOURS]
    assert below.example == "0x1.fffffep-8: got 0.015625, expected 0"
    assert below.format == "INT8 at top 0"
    assert below.subject == f"{__name__}:int8_twice"


def test_each_fault_is_in_its_category():
    assert set(wrong("int8_without_minus_zero", "INT8")) == {Category.SIGNED_ZERO}
    lost = wrong("int8_without_nan", "INT8")
    assert set(lost) == {Category.NAN, Category.RANDOM}
    assert lost[Category.NAN].example == "NaN 0x7f800001: got 0, expected nan"
    assert set(wrong("e4m3", "E4M3")) == {Category.OVERFLOW, Category.INFINITIES, Category.RANDOM}
    flushed = wrong("e3m4_flushing", "E3M4/standard")
    assert Category.SUBNORMALS in flushed
    assert not {Category.VALUES, Category.OVERFLOW, Category.NAN, Category.INFINITIES, Category.SIGNED_ZERO} & set(
        flushed
    )
    # The other bias: FP134 at top 0 is not E3M4.
    assert Category.VALUES in wrong("e3m4_flushing", "FP134")


# Block formats. MXFP4 by hand, with ml_dtypes' elements, and with the faults that published emulations have.


def mxfp4_scale(x):
    exponent = np.frexp(np.abs(np.nan_to_num(x)).max(axis=1, keepdims=True))[1] - 3
    return np.ldexp(1.0, np.clip(exponent, -127, 125))


def e2m1(x):
    # Its overflow saturates; NaN would become a zero.
    return np.where(np.isnan(x), x, x.astype(ml_dtypes.float4_e2m1fn).astype(np.float64))


def mxfp4(x):
    blocks = x.astype(np.float64).reshape(-1, 32)
    scale = mxfp4_scale(blocks)
    return (e2m1(blocks / scale) * scale).reshape(-1)


def mxfp4_whole_block_nan(x):
    blocks = mxfp4(x).reshape(-1, 32)
    return np.where(np.isnan(blocks).any(axis=1, keepdims=True), np.nan, blocks).reshape(-1)


def mxfp4_ties_away(x):
    # Half of the last place is added to the magnitude, and the rest cut off.
    blocks = x.astype(np.float64).reshape(-1, 32)
    scale = mxfp4_scale(blocks)
    magnitude = np.abs(blocks) / scale
    step = np.where(magnitude < 2, 0.5, np.where(magnitude < 4, 1, 2))
    return np.copysign(np.minimum(np.floor(magnitude / step + 0.5) * step, 6) * scale, blocks).reshape(-1)


def mxfp4_small_scales_lost(x):
    blocks = x.astype(np.float64).reshape(-1, 32)
    scale = np.maximum(mxfp4_scale(blocks), 2.0**-126)
    return (e2m1(blocks / scale) * scale).reshape(-1)


nvfp4, mx_rceil, int8_blocks = (formats.get(name).round for name in ("NVFP4", "MXFP8-E4M3/rceil", "INT8/block16"))


@pytest.mark.parametrize(
    ("function", "as_format"),
    [
        ("mxfp4", "MXFP4"),
        ("mxfp4_whole_block_nan", "MXFP4"),
        ("nvfp4", "NVFP4"),
        ("mx_rceil", "MXFP8-E4M3/rceil"),
        ("int8_blocks", "INT8/block16"),
    ],
)
def test_a_correct_block_function_passes(function, as_format):
    checks = own(function, as_format)
    assert not found(checks)
    assert {c.category for c in checks} >= {
        Category.VALUES,
        Category.TIES,
        Category.NEIGHBOURS,
        Category.OVERFLOW,
        Category.NAN,
        Category.RANDOM,
    }
    assert Category.INFINITIES not in {c.category for c in checks}
    assert {c.format for c in checks} == {as_format}


def test_faults_of_block_functions_are_in_their_categories():
    away = wrong("mxfp4_ties_away", "MXFP4")
    assert {Category.TIES} <= set(away) <= {Category.TIES, Category.RANDOM}
    # Of the ties 0.25, 0.75, ... 5 of both signs, the four whose lower neighbour is even go the other way.
    assert away[Category.TIES].mismatches == 8
    assert set(wrong("mxfp4_small_scales_lost", "MXFP4")) == {Category.RANDOM}
    # Another policy of scale: blocks with a maximum above 6 / 4 of a power of two.
    assert Category.OVERFLOW in wrong("mxfp4", "MXFP4/rceil")
    assert {Category.VALUES, Category.TIES} <= set(wrong("mxfp4", "MXFP6-E2M3"))


# Errors.


@pytest.mark.parametrize(
    ("target", "as_format", "message"),
    [
        ("numpie", None, "unknown library 'numpie'; known are ml_dtypes, torch"),
        (f"{__name__}:int8", None, "as_format is needed"),
        (f"{__name__}:int8", "E9M9", "unknown format 'E9M9'"),
        (f"{__name__}:int8", "FP134/channel", "FP134/channel: a function is compared with formats of one scale"),
        (f"{__name__}:int8", "BM43", "or of runs, such as MXFP4"),
        (f"{__name__}:int9", "INT8", "has no function int9"),
        (f"{__name__}:FIVE", "INT8", "has no function FIVE"),
        ("no_such_module_anywhere:f", "INT8", "No module named 'no_such_module_anywhere'"),
        (":f", "INT8", "does not read as package.module:function"),
        (f"{__name__}:raises", "INT8", "raises raised TypeError on NaN: no NaN, please$"),
        (f"{__name__}:too_short", "INT8", r"too_short returned shape \(\d+,\) for an array of shape \(\d+,\)"),
        (f"{__name__}:complex_numbers", "INT8", "returned complex64"),
    ],
)
def test_errors_say_what_is_wrong(target, as_format, message):
    with pytest.raises(ValueError, match=message) as caught:
        verify(target, as_format, inputs=100)
    assert "\n" not in str(caught.value)


def test_a_module_that_cannot_be_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken_for_verify.py").write_text("1 / 0\n")
    (tmp_path / "right_for_verify.py").write_text(
        "import numpy as np\n\ndef f(x):\n    return x.astype(np.float16).astype(np.float32)\n"
    )
    with pytest.raises(ValueError, match="importing broken_for_verify raised ZeroDivisionError"):
        verify("broken_for_verify:f", "INT8")
    # The current directory is searched, and is not left on the path.
    before = list(sys.path)
    assert not found(verify("right_for_verify:f", "float16/standard", inputs=1000))
    assert sys.path == before


def test_nothing_is_tried_without_inputs():
    with pytest.raises(ValueError, match="at least 1"):
        verify("ml_dtypes", inputs=0)
