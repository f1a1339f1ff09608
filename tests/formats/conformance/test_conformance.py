"""verify finds no fault in exact libraries, the known faults of others, and those planted in a caller's function."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import formats
from formats.conformance.compare import LIBRARIES, Category, verify

INPUTS = 20_000


def found(checks):
    """Subject and category of every mismatch."""
    return {(check.subject, check.category) for check in checks if check.mismatches}


# Libraries.


def test_ml_dtypes_is_exact():
    checks = verify("ml_dtypes", inputs=INPUTS)
    assert not found(checks)
    # The only excuse: three types have no NaN.
    subjects = {check.subject for check in checks}
    assert len(subjects) == 12
    absent = {(subject, category) for subject in subjects for category in Category} - {
        (c.subject, c.category) for c in checks
    }
    assert absent == {(f"astype({name})", Category.NAN) for name in ("float6_e3m2fn", "float6_e2m3fn", "float4_e2m1fn")}
    assert all(check.inputs and not check.example for check in checks)


def test_torch_is_exact():
    checks = verify("torch", inputs=INPUTS)
    assert not found(checks)
    assert {"Tensor.to(float8_e4m3fn)", "Tensor.to(float8_e8m0fnu)", "Tensor.to(bfloat16)"} <= {
        check.subject for check in checks
    }


def test_gfloat_is_exact():
    pytest.importorskip("gfloat")
    checks = verify("gfloat", inputs=2000)
    assert not found(checks)
    assert {"E4M3", "E4M3/standard", "E2M1", "float16", "P3109:8.3.unsigned.finite"} <= {
        check.format for check in checks
    }


@pytest.fixture
def qtorch(monkeypatch):
    if importlib.util.find_spec("qtorch") is None:
        pytest.skip("qtorch is not installed")
    # It compiles an extension when it is imported, with a ninja that may be installed beside this interpreter only.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    try:
        verify("qtorch", inputs=1)
    except ValueError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("qtorch")
def test_qtorch_rounds_ties_away_and_loses_minus_zero_and_nan():
    checks = verify("qtorch", inputs=INPUTS)
    wrong = found(checks)
    for subject in ("float_quantize(4, 3)", "float_quantize(5, 2)", "float_quantize(3, 4)"):
        assert {category for name, category in wrong if name == subject} == {
            Category.TIES,
            Category.NEIGHBOURS,
            Category.NAN,
            Category.SIGNED_ZERO,
            Category.RANDOM,
        }
        mine = {check.category: check for check in checks if check.subject == subject}
        # Every second tie goes away from zero instead of to even; minus zero, and all negative numbers that round to
        # zero, lose the sign.
        assert mine[Category.TIES].mismatches * 2 == mine[Category.TIES].inputs + 2
        assert mine[Category.SIGNED_ZERO].mismatches * 2 == mine[Category.SIGNED_ZERO].inputs
        assert mine[Category.SIGNED_ZERO].example == "-0x0p+0: got 0, expected -0"
    assert ("fixed_point_quantize(8, 4, symmetric)", Category.TIES) not in wrong


def test_pychop_gives_zero_for_some_overflows():
    pytest.importorskip("pychop")
    checks = verify("pychop", inputs=2000)
    wrong = found(checks)
    assert ("Chop(4, 3)", Category.OVERFLOW) in wrong
    assert [
        c.example.split(": ")[1] for c in checks if (c.subject, c.category) == ("Chop(8, 7)", Category.OVERFLOW)
    ] == ["got 0, expected inf"]
    assert not any(name.startswith("p3109") for name, _ in wrong)


def test_one_format_of_a_library():
    checks = verify("ml_dtypes", "E4M3", inputs=100)
    assert {(check.subject, check.format) for check in checks} == {("astype(float8_e4m3fn)", "E4M3/standard")}
    assert checks == verify("ml_dtypes", "E4M3/standard", inputs=100)
    with pytest.raises(ValueError, match="ml_dtypes has no rounding to FP134; there are E2M1"):
        verify("ml_dtypes", "FP134")


def test_inputs_bounds_every_category():
    checks = verify("ml_dtypes", "bfloat16", inputs=500)
    assert max(check.inputs for check in checks) == 500
    assert checks == verify("ml_dtypes", "bfloat16", inputs=500)


# A caller's function. Fixed point with steps of 1/64 below 2 is INT8 at top 0.


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


@pytest.mark.filterwarnings("ignore")
def test_torchao_differs_only_at_the_smallest_scale():
    pytest.importorskip("torchao")
    checks = verify("torchao", inputs=2000)
    assert {category for _, category in found(checks)} == {Category.RANDOM}


@pytest.mark.filterwarnings("ignore")
def test_brevitas_makes_infinities_nan():
    pytest.importorskip("brevitas")
    checks = verify("brevitas", inputs=2000)
    assert {category for subject, category in found(checks) if subject.startswith("Fp8")} == {Category.INFINITIES}


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


def test_a_library_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="gfloat is not installed: pip install gfloat"):
        verify("gfloat")


def test_nothing_is_tried_without_inputs():
    with pytest.raises(ValueError, match="at least 1"):
        verify("ml_dtypes", inputs=0)


def test_libraries_are_imported_only_when_asked_for():
    code = f"import sys, formats.conformance.compare; print(sorted(set({LIBRARIES!r}) & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(formats.__file__).parents[1]
    )
    assert result.stdout.strip() == "[]"
