"""What formats cost with scales, conversion and weights: the formula, its fit to synthesis, energy and memory."""

import math
from dataclasses import asdict, fields, replace

import numpy as np
import pytest

import formats
from formats.hardware.cost import Coefficients, lane_cost
from formats.hardware.totals import (
    FEMTOJOULES,
    PRODUCTS,
    PeripheryCoefficients,
    bytes_of,
    cost_or_none,
    gates_of,
    total_cost,
)
from formats.names import STANDARDS

NOTHING = PeripheryCoefficients(**{field.name: 0.0 for field in fields(PeripheryCoefficients)})
LANE = Coefficients(**{field.name: 0.0 for field in fields(Coefficients)})

# The formula.


def test_parts_add_up():
    for name in ("FP134", "BM25", "NVFP4", "INT8/real", "NF4", "FP143+BM52"):
        cost = total_cost(name)
        assert cost.lane == lane_cost(name)
        assert cost.total == pytest.approx(sum(cost.parts.values())) == pytest.approx(gates_of(name))
        assert cost.total == pytest.approx(cost.lane.total + cost.scale + cost.conversion + cost.weights)
        assert cost.femtojoules == pytest.approx(FEMTOJOULES * cost.total)


def test_blocks_cost_more_than_tensors():
    for block, tensor in (("BM25", "FP125"), ("BM43", "FP143"), ("MXFP4", "E2M1"), ("FP134/block16/rceil", "FP134")):
        assert total_cost(block).lane == total_cost(tensor).lane
        assert total_cost(block).total > total_cost(tensor).total + 30
    smaller = [total_cost(f"FP134/block{block}").scale for block in (256, 64, 32, 16, 8)]
    assert smaller == sorted(smaller)
    assert total_cost("NVFP4").total > total_cost("MXFP4").total  # blocks half as long, scales that are multiplied
    assert total_cost("FP134/block16/rceil").conversion > total_cost("FP134/block16").conversion


def test_what_is_needed_once_a_group_counts_by_its_share():
    outer = replace(NOTHING, outer=4800.0)

    def scale(name, products=PRODUCTS):
        return total_cost(name, products=products, coefficients=LANE, periphery=outer).scale

    assert [scale(name) for name in ("BM25", "MXFP8-E4M3", "NVFP4", "FP134/tile4x8")] == [100, 150, 300, 600]
    assert scale("FP134") == scale("INT8/channel") == scale("E4M3/row") == scale("E4M3") == 0
    assert scale("BM25", 48) == 0  # a block that is a whole product is one of a tensor
    assert scale("BM25+MXFP8-E4M3") == scale("FP134+MXFP8-E4M3") == 150

    assert total_cost("INT8", periphery=replace(NOTHING, weight=3.0)).weights == 24
    # Every sum becomes a code once, every weight once in as many uses.
    search = replace(NOTHING, search_boundary=512.0)
    found = total_cost("NF4", periphery=search)
    assert (found.conversion, found.weights) == (15, 15)
    assert total_cost("NF4", products=256, periphery=search).conversion == 30
    # Exponents of 8 bits for the floor rule, magnitudes of 31 where they decide, none where the scale is constant.
    largest = replace(NOTHING, maximum=512.0)
    names = ("FP134", "FP134/rceil", "E4M3/real", "E4M3")
    each = [total_cost(name, coefficients=LANE, periphery=largest).conversion for name in names]
    assert each == [8, 31, 31, 0]


def test_real_scales_are_multiplied():
    bits = replace(LANE, multiplier_and=1.0)

    def scale(name):
        return total_cost(name, coefficients=bits, periphery=NOTHING).scale

    # Two scales of 24 bits with each other, and what remains of 24 bits with the sum.
    assert scale("INT8/real") == pytest.approx((24 * 24 + 24 * 24) / 512)
    assert scale("E4M3/real/block128") == pytest.approx((24 * 24 + 24 * 24) / 128)
    assert scale("INT8/real+FP134") == pytest.approx(24 * 24 / 512)
    # Scales of 4 bits for each block, real ones once.
    assert scale("NVFP4") == pytest.approx((4 * 4 + 8 * 24) / 16 + (24 * 24 + 24 * 24) / 512)
    assert scale("MXFP4") == scale("FP134") == 0
    # Each number by a reciprocal; the largest of all by that of the largest integer.
    real, power = (total_cost(name, coefficients=bits, periphery=NOTHING).conversion for name in ("INT8/real", "INT8"))
    assert real * 512 == pytest.approx(24 * 24 + 24 * 24 / 512)
    assert power == 0


def test_more_bits_are_dearer_everywhere():
    for family in ("INT", "FP"):
        for n in (8, 7):
            for wide, narrow in zip(formats.catalogue(n, family), formats.catalogue(n - 1, family), strict=False):
                of_wide, of_narrow = total_cost(wide), total_cost(narrow)
                assert of_wide.weights > of_narrow.weights
                assert of_wide.conversion > of_narrow.conversion
                assert of_wide.total > of_narrow.total
    posits = [total_cost(f"posit<{n},1>") for n in (5, 6, 7, 8)]
    for part in ("decoder", "multiplier", "conversion", "weights"):
        gates = [cost.parts[part] for cost in posits]
        assert gates == sorted(gates), part


def test_every_format_of_the_catalogue_has_a_cost():
    of = {bits: [total_cost(format) for format in formats.catalogue(bits)] for bits in (6, 7, 8)}
    assert sum(map(len, of.values())) == 498
    assert all(cost.not_counted == "" and math.isfinite(cost.total) for costs in of.values() for cost in costs)
    assert min(cost.total for cost in of[8]) > min(cost.total for cost in of[6])


def test_every_standard_has_a_cost_or_says_what_it_is_without():
    names = (
        *STANDARDS,
        "posit<8,2>",
        "NVFP4",
        "MXFP4",
        "MXFP6-E2M3",
        "MXFP6-E3M2",
        "MXFP8-E4M3",
        "MXFP8-E5M2",
        "MXINT8",
    )
    without = {name for name in names if cost_or_none(name) is None}
    assert without == {"E8M0"}  # a scale: it has no sign and no zero
    assert math.isnan(gates_of("E8M0"))
    marked = {name for name in names if (cost := cost_or_none(name)) and cost.not_counted}
    assert {"E4M3", "E5M2", "bfloat16", "float16", "posit<8,2>"} <= marked
    assert not marked & {"E2M1", "E2M3", "E3M2", "NF4", "NVFP4", "MXFP4", "MXFP8-E4M3", "MXINT8"}
    assert total_cost("E4M3/tensor").not_counted == total_cost("E5M2/real").not_counted == "infinities and NaN"
    assert total_cost("FP134+E4M3").not_counted == "infinities and NaN"


def test_what_is_refused():
    with pytest.raises(ValueError, match="products 0: a sum has at least 1"):
        total_cost("FP134", products=0)
    with pytest.raises(ValueError, match="coefficient outer is -1"):
        PeripheryCoefficients(outer=-1.0)


# Memory and energy.


def test_bytes_of_a_value_with_its_scale():
    expected = {
        **{"FP134": 1, "INT6": 0.75, "bfloat16": 2, "E4M3/real": 1, "E4M3": 1},
        **{"MXFP4": 4.25 / 8, "NVFP4": 4.5 / 8, "MXFP8-E4M3": 8.25 / 8, "BM25": (8 + 8 / 48**2) / 8},
        **{"INT8/real/block32": 9 / 8, "FP134/tile1x128": (8 + 8 / 128) / 8, "NF4/block64": (4 + 8 / 64) / 8},
        **{"INT8/row": (8 + 8 / 512) / 8, "INT8/real/row": (8 + 32 / 512) / 8, "MXFP4+FP134": (4.25 + 8) / 16},
        **{"E8M0": 1},
    }
    assert {name: bytes_of(name) for name in expected} == pytest.approx(expected)

    class Mine:
        name, digest = "mine", "m"

        def round(self, x):
            return x

    assert math.isnan(bytes_of(Mine()))


def test_energy_is_that_of_published_integer_arithmetic():
    lane, adder = Coefficients(), PeripheryCoefficients().adder
    picojoules = {("add", 8): 0.03, ("add", 32): 0.1, ("multiply", 8): 0.2, ("multiply", 32): 3.1}
    gates = {
        "add": lambda n: adder * n,
        "multiply": lambda n: lane.multiplier_and * n**2 + lane.multiplier_adder * (n - 1) ** 2,
    }
    each = [1000 * energy / gates[kind](n) for (kind, n), energy in picojoules.items()]
    assert float(np.exp(np.mean(np.log(each)))) == pytest.approx(FEMTOJOULES, abs=0.005)
    assert min(each) > 0.29
    assert max(each) < 0.48


# The fit.


def test_coefficients_are_those_of_the_counts(periphery):
    bench, counts = periphery
    lane = {name: value for name, value in asdict(Coefficients()).items() if name.startswith("decoder_table")}
    assert bench.fit(counts) == asdict(PeripheryCoefficients()) | lane


def test_formula_holds_on_what_it_was_not_fitted_on(periphery):
    bench, counts = periphery
    every, coefficients = bench.parts(), bench.fit(counts)
    assert [(part.kind, part.of) for part in every] == list(zip(counts["part"], counts["of"], strict=True))
    assert bench.grouped(every) == counts["group"].tolist()
    errors = {}
    for part, group in zip(every, bench.grouped(every), strict=True):
        known = group == bench.HELD_OUT and not part.of.startswith("log")
        if known or part.kind == "multiplier":
            errors.setdefault(part.kind, []).append(
                bench.formula(part, coefficients) / bench.gates_in(counts, part) - 1
            )
    for kind, most in (("multiplier", 0.06), ("hand over", 0.05), ("quantizer", 0.2), ("search", 0.3), ("table", 0.5)):
        assert len(errors[kind]) >= 4
        assert np.sqrt(np.mean(np.square(errors[kind]))) < most, kind
