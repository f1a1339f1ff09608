"""Verilog of what surrounds a lane, read by a small interpreter: every part against the emulator or whole numbers."""

import re
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

import formats
from formats.hardware import periphery_verilog as verilog
from formats.hardware.lane import Lane, operand
from formats.hardware.periphery import Scaling, scaled, target
from formats.hardware.verilog import lane_modules
from tests.formats.hardware.interpreter import Verilog
from tests.processes import installed


def handed(x):
    """A number as parts hand it on: sign, 24 bits with the leading one on top, what is lost below, exponent."""
    if x == 0:
        return {"negative": 0, "significand": 0, "inexact": 0, "exponent": 7}
    exponent = 0
    while abs(x) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while abs(x) < Fraction(2) ** exponent:
        exponent -= 1
    scaled_up = abs(x) / Fraction(2) ** (exponent - 23)
    whole = int(scaled_up)
    return {
        "negative": int(x < 0),
        "significand": whole,
        "inexact": int(scaled_up != whole),
        "exponent": exponent % 1024,
    }


def cases(magnitudes):
    """Values, the middles between them, what lies just above and below, beyond both ends; of both signs."""
    ascending = [Fraction(float(m)) for m in magnitudes]
    near = Fraction(1, 1 << 30)
    found = [Fraction(0), ascending[-1] * 5, ascending[1] / 3, ascending[1] / 64]
    for low, high in pairwise(ascending):
        middle = (low + high) / 2
        found += [high, middle, middle * (1 + near), middle * (1 - near)]
    return [sign * x for x in found for sign in (1, -1)]


@pytest.mark.parametrize("name", ["FP133", "INT6", "T6.2x8@6", "LOG4", "profile:6:3,3,3", "posit<6,1>", "NF4", "E3M2"])
def test_quantizers_give_the_codes_of_the_emulator(name):
    format = formats.get(name)
    part = Verilog(verilog.quantizer(target(format), "q"), "q")
    top = getattr(format, "top", 0)  # of a standard, whose own T it is
    given = cases(np.ldexp(format.magnitudes(top), -top))
    if name == "NF4":  # whose boundaries have 25 bits: of what is handed on 24 and whether anything was lost are known
        given = [Fraction(float(np.float32(float(value)))) for value in given]
    x = np.array([float(value) for value in given])
    codes = format.encode(np.ldexp(x, top), **({} if top else {"top": 0})).codes
    for value, code in zip(given, codes.tolist(), strict=True):
        assert part(**handed(value))["code"] == code, float(value)


def test_registers_are_brought_to_the_top():
    for width in (17, 33):
        part, rng = Verilog(verilog.normalizer(width, "n"), "n"), np.random.default_rng(0)
        for value in [0, 1, -1, -(1 << (width - 1)), *rng.integers(-(1 << (width - 1)), 1 << (width - 1), 40).tolist()]:
            found = part(sum=value % (1 << width), unit=1000)
            expected = handed(Fraction(value))
            for key in ("negative", "significand", "inexact"):
                assert found[key] == expected[key], (value, key)
            if value:
                assert found["exponent"] == (expected["exponent"] + 1000) % 1024


def test_the_largest_is_kept_until_a_group_ends():
    part = Verilog(verilog.largest_register(8, "m"), "m")
    kept, given = 200, [3, 9, 5, 255, 1]
    for number, value in enumerate(given):
        kept = part(clear=int(number in (0, 4)), given=value, largest=kept)["largest_next"]
        assert kept == (value if number in (0, 4) else max(given[: number + 1]))


def test_a_reciprocal_takes_as_many_clocks_as_it_has_bits():
    part = Verilog(verilog.divider(11, "d"), "d")
    for divisor in (1024, 1025, 1500, 2047):
        state = {"remainder": 5, "quotient": 9}
        for clock in range(12):
            found = part(start=int(clock == 0), divisor=divisor, **state)
            state = {key: found[f"{key}_next"] for key in state}
        assert state["quotient"] == ((1 << 21) - 1) // divisor


def test_a_codebook_is_decoded_by_a_table():
    for name in ("NF4", "posit<6,2>"):
        format = formats.get(name)
        part, of = Verilog(lane_modules(format, formats.get("FP132")), "lane_decode_a"), operand(format)
        values = []
        for code in range(1 << format.bits):
            found = part(code=code)
            values.append((-1) ** found["negative"] * (found["significand"] << found["shift"]))
        # In steps: each is the value over one and the same power of two.
        known = [code for code in range(1 << format.bits) if code != format.nan_code]
        real = format.decode(np.array(known, np.uint8), top=0).astype(float)
        step = abs(real[real != 0]).max() / max(map(abs, values))
        assert np.log2(step) == int(np.log2(step))
        assert [values[code] * step for code in known] == real.tolist()
        assert max(map(abs, values)) == of.largest
    assert operand(formats.get("NF4")).precision == 24
    # 1.1111 is the longest; of 24 binades below and above 1.
    assert Lane(operand(format), operand(format)).product_bits == 2 * operand(format).precision


def test_what_scales_a_format():
    def of(name):
        found = scaled(formats.get(name))
        return found.scaling, found.along, found.group, found.magnitude

    assert of("E4M3") == (Scaling.NONE, None, None, False)
    assert of("FP134") == of("INT8/channel") == of("E5M2/tensor") == (Scaling.POWER, None, None, False)
    assert of("BM25") == (Scaling.POWER, 48, 48 * 48, False)
    assert of("MXFP6-E2M3") == (Scaling.POWER, 32, 32, False)
    assert of("FP134/block16/rceil") == (Scaling.POWER, 16, 16, True)
    assert of("FP134/tile1x128") == (Scaling.POWER, 128, 128, False)
    assert of("NVFP4") == (Scaling.NVFP4, 16, 16, True)
    assert of("INT8/real") == (Scaling.REAL, None, None, True)


def test_synthesis_gives_the_committed_counts(periphery, tmp_path):
    installed("yosys")
    bench, counts = periphery
    for part in (bench.maximum(8), bench.quantizer(formats.get("FP123"))):
        # Other versions of Yosys map a little differently.
        assert bench.synthesize(part.text, tmp_path) == pytest.approx(bench.gates_in(counts, part), rel=0.1)


def test_parts_are_simulated_before_they_are_counted(periphery, tmp_path):
    installed("iverilog")
    bench, _ = periphery
    part = bench.quantizer(formats.get("FP132"))
    assert part.check(tmp_path) == 0
    broken = re.sub(r"wire up = .*;", "wire up = 1'd0;", part.text)
    rows, codes = bench.numbers(formats.get("FP132"))
    given = {"negative": 1, "significand": 24, "inexact": 1, "exponent": 10}
    found = bench.simulate(broken, given, rows, "code", 6, tmp_path)
    assert sum(a != b for a, b in zip(found, codes, strict=True)) > 10
