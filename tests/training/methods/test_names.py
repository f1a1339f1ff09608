"""Methods by name, and the table of them."""

import json

import pytest

from training.methods import LSQ, DistributionAdaptiveInt8, LSQPlus, UnifiedInt8
from training.methods.names import METHODS, described, method_from


def test_methods_by_name():
    assert method_from(["ui8"], ["alpha=10", "search=grad", "skip_first=true", "period=7"]) == UnifiedInt8(
        alpha=10.0, search="grad", skip_first=True, period=7
    )
    assert method_from(["lsqplus"], ["divisor=none"]) == LSQPlus()
    assert method_from(["lsqplus"], ["divisor=15"]) == LSQPlus(divisor=15.0)
    found = method_from(["lsq", "dai8"], ["lsq.include_linear=false", "format=FP134"])
    assert found.parts == (LSQ(include_linear=False), DistributionAdaptiveInt8(format="FP134"))
    for names, options, message in (
        (["adam"], [], "method 'adam': allowed are octo, lac, dai8, ui8, lsq, lsqplus, slb"),
        (
            ["ui8"],
            ["gamma=1"],
            "option 'gamma=1': KEY=VALUE is needed, with a key of ui8: format, error_format, error_rounding, alpha, "
            "beta",
        ),
        (["ui8"], ["alpha"], "option 'alpha'"),
        (["ui8"], ["alpha=big"], "alpha 'big': a number is needed"),
        (["ui8"], ["period=1.5"], "period '1.5': a whole number is needed"),
        (["ui8"], ["skip_first=maybe"], "skip_first 'maybe': true or false is needed"),
        (
            ["lsq", "ui8"],
            ["include_linear=false"],
            "lsq and ui8 have it; write lsq.include_linear=false or ui8.include_linear=false",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            method_from(names, options)


def test_the_table_of_methods():
    rows = described()
    assert [row["name"] for row in rows] == list(METHODS)
    assert json.loads(json.dumps(rows)) == rows
    assert next(row for row in rows if row["name"] == "ui8")["options"]["alpha"] == 20
