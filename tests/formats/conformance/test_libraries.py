"""verify finds no fault in exact libraries, and the known faults of others."""

import importlib.util
import sys
from pathlib import Path

import pytest

from formats.conformance.compare import verify
from formats.conformance.inputs import Category
from formats.conformance.libraries import LIBRARIES
from tests.formats.conformance.mismatches import found
from tests.processes import python

INPUTS = 20_000


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


def test_a_library_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="gfloat is not installed: pip install gfloat"):
        verify("gfloat")


def test_libraries_are_imported_only_when_asked_for():
    code = f"import sys, formats.conformance.compare; print(sorted(set({LIBRARIES!r}) & set(sys.modules)))"
    assert python("-c", code).stdout.strip() == "[]"
