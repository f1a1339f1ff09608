"""Hardware cost: the formula, and its fit to synthesis."""

import json
import re
from dataclasses import fields, replace

import numpy as np
import pytest
from typer.testing import CliRunner

import cli
import formats
from formats.hardware.cost import Coefficients, lane_cost
from formats.hardware.totals import total_cost
from formats.pairs import Pair

# The formula.


def test_more_bits_cost_more():
    for p in range(2, 7):
        assert lane_cost(f"profile:16:{p + 1}x9").multiplier > lane_cost(f"profile:16:{p}x9").multiplier
        assert lane_cost(f"profile:16:{p + 1}x9").total > lane_cost(f"profile:16:{p}x9").total
    for count in range(1, 30):
        shorter, longer = lane_cost(f"profile:16:4x{count},3,2,1"), lane_cost(f"profile:16:4x{count + 1},3,2,1")
        assert longer.accumulator > shorter.accumulator
        assert longer.aligner > shorter.aligner
        assert longer.multiplier == shorter.multiplier
    for family in ("INT", "FP"):
        for n in (8, 7):
            for wide, narrow in zip(formats.catalogue(n, family), formats.catalogue(n - 1, family), strict=False):
                assert lane_cost(wide).total > lane_cost(narrow).total, (wide.name, narrow.name)


def test_equal_profiles_cost_the_same():
    assert (
        lane_cost("BM43")
        == lane_cost("FP143")
        == lane_cost("FP143/channel")
        == lane_cost("E4M3")
        == lane_cost("fp143+BM43")
    )
    assert lane_cost("BM07") == lane_cost("INT8/block32")


def test_pairs():
    forth, back = lane_cost("FP143+FP152"), lane_cost(Pair(formats.get("FP152"), formats.get("FP143")))
    assert forth == back
    assert lane_cost("FP143").total < forth.total < lane_cost("FP152").total
    assert lane_cost("FP134+FP134") == lane_cost("FP134")


def test_integers_have_no_shifter():
    for name in ("INT8", "INT6", "INT8+INT6"):
        assert lane_cost(name).aligner == lane_cost(name).decoder == 0
    assert lane_cost("INT8+FP134").decoder > 0


def test_coefficients_can_be_replaced():
    nothing = Coefficients(**{field.name: 0.0 for field in fields(Coefficients)})
    assert lane_cost("FP134", coefficients=nothing).total == lane_cost("INT8", "float", nothing).total == 0
    # 5 x 5 AND gates, 4 x 4 adders; 22 bits of product, 12 of carry, a sign; 12 = 6 + 6 places in 4 stages of 10 bits.
    assert lane_cost("FP134", "exact", replace(nothing, multiplier_and=1, multiplier_adder=100)).multiplier == 25 + 1600
    assert lane_cost("FP134", "exact", replace(nothing, accumulator_register=1)).accumulator == 35
    assert lane_cost("FP134", "exact", replace(nothing, aligner_mux=1, aligner_edge=100)).aligner == 4 * 9 + 1200
    assert lane_cost("INT8", "exact", replace(nothing, accumulator_register=1)).total == 16 + 12
    # Products of 10 and 14 bits; 22 + 12 and 14 + 12 positions.
    assert lane_cost("FP134", "float", replace(nothing, accumulator_sum=1)).accumulator == 10
    assert (
        lane_cost("INT8", "float", replace(nothing, accumulator_sum=1, accumulator_position=100)).accumulator
        == 14 + 500
    )
    with pytest.raises(ValueError, match="decoder_run is -1"):
        Coefficients(decoder_run=-1)
    with pytest.raises(ValueError, match="aligner_mux is nan"):
        Coefficients(aligner_mux=float("nan"))


@pytest.mark.parametrize(
    ("scaled", "element"), [("NVFP4", "E2M1"), ("E5M2/real/row", "E5M2"), ("INT6/real", "INT6"), ("MXFP6-E2M3", "E2M3")]
)
def test_elements_cost_the_same_under_any_scale(scaled, element):
    assert lane_cost(scaled) == lane_cost(element)


def test_what_has_no_cost():
    class Mine:
        name, digest = "mine", "m"

        def round(self, x):
            return x

    with pytest.raises(ValueError, match="mine is neither a precision profile nor a codebook"):
        lane_cost(Mine())
    with pytest.raises(ValueError, match="E8M0 has no sign"):
        lane_cost("E8M0")
    with pytest.raises(ValueError, match="unknown format"):
        lane_cost("FP999")
    with pytest.raises(ValueError, match="accumulator 'double': allowed are exact, float"):
        lane_cost("FP134", "double")


# The fit.


def test_coefficients_are_those_of_the_counts(bench, counts):
    assert bench.fit(counts) == Coefficients()


def test_formula_holds_on_what_it_was_not_fitted_on(bench, counts):
    found = bench.prediction_of(counts, Coefficients())
    held_out = found[found["group"] == bench.HELD_OUT]
    for accumulator, pearson, worst in (("exact", 0.995, 0.05), ("float", 0.95, 0.1)):
        lanes = held_out[held_out["kind"] == accumulator]
        assert len(lanes) >= 16
        assert np.corrcoef(lanes["total"], lanes["total_formula"])[0, 1] > pearson
        assert (abs(lanes["total_formula"] / lanes["total"] - 1) < worst).all()
        same = found[found["kind"] == accumulator]
        assert set(zip(same["a"], same["b"], same["group"], strict=True)) == {
            (a.name, b.name, group) for a, b, group in bench.lanes()
        }


def test_counts_weigh_what_they_say(counts):
    transistors = {
        "NAND": 4,
        "NOR": 4,
        "NOT": 2,
        "AOI3": 6,
        "OAI3": 6,
        "AOI4": 8,
        "OAI4": 8,
        "XOR": 12,
        "XNOR": 12,
        "MUX": 12,
        "NMUX": 10,
        "DFF_P": 16,
    }
    assert set(counts.columns) == {"accumulator", "a", "b", "group", "part", "nand2", *transistors}
    assert (sum(counts[cell] * weight for cell, weight in transistors.items()) == 4 * counts["nand2"]).all()


def test_order_of_standard_formats_is_that_of_synthesis(counts):
    lanes = counts[(counts["part"] == "lane") & (counts["a"] == counts["b"])]
    # Exact: an 8 x 8 multiplier is larger than a 5 x 5 one with its shifter, and a wide range is dearer than both.
    # Float: range is nearly free.
    for accumulator, names in (
        ("exact", ["FP123", "FP134", "INT8", "FP143", "FP152"]),
        ("float", ["FP152", "FP134", "FP125", "INT8"]),
    ):
        flat = lanes[lanes["accumulator"] == accumulator].set_index("a")["nand2"]
        assert flat[names].is_monotonic_increasing
        assert [lane_cost(name, accumulator).total for name in names] == sorted(
            lane_cost(name, accumulator).total for name in names
        )


# The command.


def test_command(tmp_path):
    runner = CliRunner()
    done = runner.invoke(cli.app, ["cost", "FP134", "FP143+FP152", "--json", "--verilog", str(tmp_path / "rtl")])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [row["name"] for row in rows] == ["FP134", "FP143+FP152"]
    assert rows[0]["total"] == total_cost("FP134").total
    assert rows[0]["femtojoules"] == total_cost("FP134").femtojoules
    assert (rows[0]["bytes_per_value"], rows[0]["not_counted"]) == (1, "")
    assert rows[0]["total"] == pytest.approx(
        sum(
            rows[0][part]
            for part in ("multiplier", "aligner", "accumulator", "decoder", "scale", "conversion", "weights")
        )
    )
    assert sorted(path.name for path in (tmp_path / "rtl").iterdir()) == ["lane_FP134.v", "lane_FP143_FP152.v"]
    text = runner.invoke(cli.app, ["cost", "int8", "FP134", "E4M3", "--products", "64"]).stdout
    of = {name: total_cost(name, products=64) for name in ("FP134", "E4M3")}
    for name, mark in (("FP134", ""), ("E4M3", "†")):
        assert re.search(rf"{name} .* {of[name].total:.0f}{mark} +{of[name].femtojoules:.0f} +1\s*$", text, re.M)
    assert "† without infinities and NaN" in text
    assert of["FP134"].conversion > 4 * total_cost("FP134").conversion
