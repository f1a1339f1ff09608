"""The Verilog of a lane: its parts read by a small interpreter, the whole by Icarus Verilog and Yosys where there are
any."""

import re

import numpy as np
import pytest

import formats
from formats.hardware.lane import Accumulator, Lane, operand
from formats.hardware.verilog import lane_modules, write_lane
from tests.formats.hardware.interpreter import Verilog
from tests.formats.hardware.magnitudes import whole_magnitudes
from tests.processes import installed

SPREAD = (
    "INT8",
    "FP134",
    "FP125",
    "FP152",
    "FP151",
    "LOG4",
    "T8.5x3@2",
    "T8.4x11@4",
    "T7.3x9@5",
    "T6.2x8@6",
    "profile:8:3,3,3",
    "profile:8:6,1,2,4",
)


@pytest.mark.parametrize("name", SPREAD)
def test_decoders_say_what_the_emulator_says(name):
    format = formats.get(name)
    of = operand(format)
    # Beside a float an INT format is decoded too.
    decode = Verilog(lane_modules(format, formats.get("FP132")), "lane_decode_a")
    magnitudes, half = whole_magnitudes(format), 1 << (format.bits - 1)
    for code in range(2 * half):
        found = decode(code=code)
        value = (-1) ** found["negative"] * (found["significand"] << found.get("shift", 0))
        if of.two_complement:
            if code != half:
                assert value == (code if code < half else code - 2 * half)
        elif code % half < len(magnitudes):
            assert value == (-1) ** (code >= half) * magnitudes[code % half], code


@pytest.mark.parametrize(
    ("a", "b"),
    [("FP134", "T8.5x3@2"), ("FP152", "LOG4"), ("INT8", "FP143"), ("INT8", "INT8"), ("INT8", "INT6"), ("INT3", "INT2")],
)
def test_multipliers_and_aligners(a, b):
    made = Lane(operand(formats.get(a)), operand(formats.get(b)))
    text = lane_modules(formats.get(a), formats.get(b))
    multiply = Verilog(text, "lane_multiply")
    rng = np.random.default_rng(1)
    if made.integer:
        n, m = made.a.bits, made.b.bits
        for x in range(-(1 << (n - 1)), 1 << (n - 1), 1 if n < 8 else 5):
            for y in range(-(1 << (m - 1)), 1 << (m - 1), 1 if m < 8 else 3):
                found = multiply(a=x % (1 << n), b=y % (1 << m))["product"]
                assert found == (x * y) % (1 << (n + m))
        assert "align" not in text.replace("aligned", "")
        return
    align = Verilog(text, "lane_align")
    for _ in range(200):
        x, y = (int(rng.integers(1 << side.precision)) for side in (made.a, made.b))
        product = multiply(a=x, b=y)["product"]
        assert product == x * y
        s, t = (int(rng.integers(side.shift + 1)) for side in (made.a, made.b))
        assert align(product=product, a=s, b=t)["aligned"] == (product << (s + t)) % (1 << made.aligned_bits)


LANES = [
    ("FP134", "T8.5x3@2"),
    ("INT8", "FP143"),
    ("LOG4", "LOG4"),
    ("INT8", "INT6"),
    ("FP152", "profile:8:6,1,2,4"),
    ("FP123", "LOG4"),
]


@pytest.mark.parametrize("accumulator", Accumulator)
@pytest.mark.parametrize(("a", "b"), LANES)
def test_lanes_add_up_products(bench, a, b, accumulator):
    a, b = formats.get(a), formats.get(b)
    text, made = lane_modules(a, b, accumulator), Lane(operand(a), operand(b), accumulator)
    modules = {name: Verilog(text, f"lane_{name}") for name in re.findall(r"module lane_(\w+)", text)}
    known_a, known_b = bench.whole(a), bench.whole(b)
    for known, side in ((known_a, made.a), (known_b, made.b)):
        if side.two_complement and not made.integer:
            del known[1 << (side.bits - 1)]
    rng = np.random.default_rng(2)
    state = {"sum": 0} if accumulator is Accumulator.EXACT else {"negative": 0, "position": 0, "significand": 0}
    total = 0
    for x, y in zip(rng.choice(list(known_a), 250).tolist(), rng.choice(list(known_b), 250).tolist(), strict=True):
        clear = int(rng.random() < 0.03)
        total = (0 if clear else total) + known_a[x] * known_b[y]
        if made.integer:
            found = modules["accumulate"](clear=clear, aligned=modules["multiply"](a=x, b=y)["product"], **state)
        else:
            left, right = modules["decode_a"](code=x), modules["decode_b"](code=y)
            product = modules["multiply"](a=left["significand"], b=right["significand"])["product"]
            minus = left["negative"] ^ right["negative"]
            aligned = modules["align"](product=product, a=left.get("shift"), b=right.get("shift"))
            if accumulator is Accumulator.EXACT:
                found = modules["accumulate"](clear=clear, negative=minus, aligned=aligned["aligned"], **state)
            else:
                found = modules["accumulate"](
                    clear=clear, minus=minus, aligned=aligned["aligned"], at=aligned["position"], **state
                )
        state = {name: found[f"{name}_next"] for name in state}
        if accumulator is Accumulator.EXACT:
            assert state["sum"] == total % (1 << made.register_bits)
        else:
            total = bench.kept(total)
            assert (-1) ** state["negative"] * ((state["significand"] << state["position"]) >> 9) == total
            assert state["significand"] >> 9 == int(total != 0)


def test_float_accumulator_rounds_as_the_master_format(bench):
    sums = np.random.default_rng(3).integers(-(1 << 20), 1 << 20, 2000)
    sums = np.concatenate([sums, np.arange(-4200, 4200)])
    rounded = formats.get("FP169").round(np.ldexp(sums.astype(np.float64), -10))
    assert [bench.kept(total) for total in sums.tolist()] == np.ldexp(rounded, 10).astype(int).tolist()


@pytest.mark.parametrize("accumulator", Accumulator)
@pytest.mark.parametrize(
    ("a", "b"), [("FP134", "T8.5x3@2"), ("INT8", "FP143"), ("INT8", "INT6"), ("posit<6,1>", "NF4")]
)
def test_lanes_in_icarus_verilog(bench, a, b, accumulator, tmp_path):
    installed("iverilog")
    a, b = formats.get(a), formats.get(b)
    text = lane_modules(a, b, accumulator)
    assert bench.simulate(a, b, accumulator, text, tmp_path) == 0
    # The simulation notices a mistake.
    broken = text.replace("product = a * b", "product = a * b ^ 1").replace(
        "product = unsigned_part", "product = 1 + unsigned_part"
    )
    assert bench.simulate(a, b, accumulator, broken, tmp_path) > 0


def test_synthesis_gives_the_committed_counts(bench, counts, tmp_path):
    installed("yosys")
    format = formats.get("FP123")
    found = bench.synthesize(lane_modules(format, format), tmp_path)
    lanes = counts[(counts["a"] == "FP123") & (counts["b"] == "FP123")]
    known = lanes[lanes["accumulator"] == "exact"].set_index("part")["nand2"]
    assert set(found) == set(known.index)
    # Other versions of Yosys map a little differently.
    assert found["lane"]["transistors"] / 4 == pytest.approx(known["lane"], rel=0.1)


def test_written_verilog_has_names_of_its_own(tmp_path):
    path = write_lane("T8.5x3@2", tmp_path)
    assert path.name == "lane_T8_5x3_2.v"
    modules = re.findall(r"^module (\w+)", path.read_text(), re.M)
    assert all(module.startswith("lane_T8_5x3_2") for module in modules)
    assert path.read_text().count("endmodule") == len(modules) == 6
