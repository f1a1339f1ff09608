"""Hardware cost: the formula, the fit, the lane, and the Verilog of its parts read by a small interpreter."""

import importlib.util
import json
import re
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import cli
import formats
from formats.hardware.cost import Coefficients, cost
from formats.hardware.lane import Accumulator, Lane, operand
from formats.hardware.verilog import lane, write
from formats.pairs import Pair
from predictor.statistics import pareto

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
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


def script():
    spec = importlib.util.spec_from_file_location("benchmarks_cost", BENCHMARKS / "cost.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bench():
    return script()


@pytest.fixture(scope="module")
def counts():
    return pd.read_csv(BENCHMARKS / "cost.csv").fillna(0)


# The formula.


def test_more_bits_cost_more():
    for p in range(2, 7):
        assert cost(f"profile:16:{p + 1}x9").multiplier > cost(f"profile:16:{p}x9").multiplier
        assert cost(f"profile:16:{p + 1}x9").total > cost(f"profile:16:{p}x9").total
    for count in range(1, 30):
        shorter, longer = cost(f"profile:16:4x{count},3,2,1"), cost(f"profile:16:4x{count + 1},3,2,1")
        assert longer.accumulator > shorter.accumulator
        assert longer.aligner > shorter.aligner
        assert longer.multiplier == shorter.multiplier
    for family in ("INT", "FP"):
        for n in (8, 7):
            for wide, narrow in zip(formats.catalogue(n, family), formats.catalogue(n - 1, family), strict=False):
                assert cost(wide).total > cost(narrow).total, (wide.name, narrow.name)


def test_equal_profiles_cost_the_same():
    assert cost("BM43") == cost("FP143") == cost("FP143/channel") == cost("E4M3") == cost("fp143+BM43")
    assert cost("BM07") == cost("INT8/block32")


def test_pairs():
    forth, back = cost("FP143+FP152"), cost(Pair(formats.get("FP152"), formats.get("FP143")))
    assert forth == back
    assert cost("FP143").total < forth.total < cost("FP152").total
    assert cost("FP134+FP134") == cost("FP134")


def test_integers_have_no_shifter():
    for name in ("INT8", "INT6", "INT8+INT6"):
        assert cost(name).aligner == cost(name).decoder == 0
    assert cost("INT8+FP134").decoder > 0


def test_coefficients_can_be_replaced():
    nothing = Coefficients(**{field.name: 0.0 for field in fields(Coefficients)})
    assert cost("FP134", coefficients=nothing).total == cost("INT8", "float", nothing).total == 0
    # 5 x 5 AND gates, 4 x 4 adders; 22 bits of product, 12 of carry, a sign; 12 = 6 + 6 places in 4 stages of 10 bits.
    assert cost("FP134", "exact", replace(nothing, multiplier_and=1, multiplier_adder=100)).multiplier == 25 + 1600
    assert cost("FP134", "exact", replace(nothing, accumulator_register=1)).accumulator == 35
    assert cost("FP134", "exact", replace(nothing, aligner_mux=1, aligner_edge=100)).aligner == 4 * 9 + 1200
    assert cost("INT8", "exact", replace(nothing, accumulator_register=1)).total == 16 + 12
    # Products of 10 and 14 bits; 22 + 12 and 14 + 12 positions.
    assert cost("FP134", "float", replace(nothing, accumulator_sum=1)).accumulator == 10
    assert cost("INT8", "float", replace(nothing, accumulator_sum=1, accumulator_position=100)).accumulator == 14 + 500
    with pytest.raises(ValueError, match="decoder_run is -1"):
        Coefficients(decoder_run=-1)
    with pytest.raises(ValueError, match="aligner_mux is nan"):
        Coefficients(aligner_mux=float("nan"))


def test_what_has_no_cost():
    class Mine:
        name, digest = "mine", "m"

        def round(self, x):
            return x

    for given in ("NF4", "posit<8,1>", Mine()):
        with pytest.raises(ValueError, match="no precision profile"):
            cost(given)
    with pytest.raises(ValueError, match="E8M0 has no sign"):
        cost("E8M0")
    with pytest.raises(ValueError, match="unknown format"):
        cost("FP999")
    with pytest.raises(ValueError, match="accumulator 'double': allowed are exact, float"):
        cost("FP134", "double")


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
        assert [cost(name, accumulator).total for name in names] == sorted(
            cost(name, accumulator).total for name in names
        )


# The front.


def test_pareto_is_the_minimal_set():
    points = np.random.default_rng(0).integers(0, 12, (60, 2)).tolist()
    front = pareto(points)
    beaten = lambda p: any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in points)  # noqa: E731
    assert {tuple(points[i]) for i in front} == {tuple(p) for p in points if not beaten(p)}
    assert [points[i][0] for i in front] == sorted({points[i][0] for i in front})
    assert pareto([(1, 2), (1, 2), (2, 1), (2, 2), (0, 3)]) == [4, 0, 2]
    assert pareto([]) == []
    with pytest.raises(ValueError, match="point 1 holds NaN"):
        pareto([(1, 2), (float("nan"), 1)])


# The lane.


def whole_magnitudes(format):
    magnitudes = format.magnitudes() if isinstance(format, formats.ProfileFormat) else format.magnitudes(0)
    return np.ldexp(magnitudes, max(d + p - 1 for d, p in enumerate(format.profile))).astype(object)


def read(of, index):
    """Significand and shift of a magnitude index, by the description of `Operand`."""
    runs = [run for run in of.runs if index >= run.start]
    if not runs:
        assert index < 1 << of.linear
        return index, of.linear_step
    run = runs[-1]
    binade, offset = divmod(index - run.start, 1 << (run.precision - 1))
    return (1 << (run.precision - 1)) + offset, run.step + binade


@pytest.mark.parametrize("bits", [8, 7, 6])
def test_operands_hold_every_value_of_the_catalogue(bits):
    for format in formats.catalogue(bits):
        of, magnitudes = operand(format), whole_magnitudes(format)
        pairs = [read(of, index) for index in range(len(magnitudes))]
        assert [m << s for m, s in pairs] == magnitudes.tolist(), format.name
        assert max(m for m, _ in pairs).bit_length() == of.precision
        assert max(s for _, s in pairs) == of.shift
        assert magnitudes[-1] == of.largest


OPERATORS = {
    "*": (7, lambda x, y: x * y),
    "+": (6, lambda x, y: x + y),
    "-": (6, lambda x, y: x - y),
    "<<": (5, lambda x, y: x << y),
    ">=": (4, lambda x, y: int(x >= y)),
    "==": (3, lambda x, y: int(x == y)),
    "!=": (3, lambda x, y: int(x != y)),
    "&": (2, lambda x, y: x & y),
    "^": (1, lambda x, y: x ^ y),
}


class Verilog:
    """A generated module without instances. Numbers are unsigned; an assignment cuts them to its width. What a register
    gets is called NAME_next."""

    def __init__(self, text, module):
        found = re.search(rf"module {module}\((.*?)\);\n(.*?)endmodule", text, re.S)
        self.widths = {}
        for width, name in re.findall(r"(?:input|output) (?:reg )?(?:signed )?(?:\[(\d+):0\] )?(\w+)", found[1]):
            self.widths[name] = self.widths[f"{name}_next"] = int(width or 0) + 1
        self.assignments = []
        for given in found[2].strip().splitlines():
            line = given.strip().removeprefix("always @(posedge clock)").strip()
            if line in ("begin", "end"):
                continue
            kind, width, name, becomes, value = re.fullmatch(
                r"(?:(wire|assign) )?(?:\[(\d+):0\] )?(\w+) (<?=) (.*);", line
            ).groups()
            assert (kind is None) == (becomes == "<=")
            if kind == "wire":
                self.widths[name] = int(width or 0) + 1
            tokens = re.findall(r"\d+'d\d+|\w+|<<|>=|==|!=|[^\s\w]", value)
            self.assignments.append((name if kind else f"{name}_next", tokens))

    def __call__(self, **inputs):
        self.values = dict(inputs)
        for name, tokens in self.assignments:
            self.tokens = list(tokens)
            self.values[name] = self.choice()[0] & ((1 << self.widths[name]) - 1)
            assert not self.tokens, (name, tokens)
        return self.values

    def next(self, expected=None):
        token = self.tokens.pop(0)
        assert expected in (None, token)
        return token

    def peek(self):
        return self.tokens[0] if self.tokens else ""

    def choice(self):
        value = self.binary(1)
        if self.peek() != "?":
            return value
        self.next("?")
        yes = self.choice()
        self.next(":")
        no = self.choice()
        return (yes if value[0] else no)[0], max(yes[1], no[1])

    def binary(self, lowest):
        left = self.unary()
        while OPERATORS.get(self.peek(), (0,))[0] >= lowest:
            operator = self.next()
            precedence, function = OPERATORS[operator]
            right = self.binary(precedence + 1)
            left = function(left[0], right[0]), 1 if operator in (">=", "==", "!=") else max(left[1], right[1])
        return left

    def unary(self):
        token = self.next()
        if token == "~":
            value, width = self.unary()
            return ~value & ((1 << width) - 1), width
        if token == "(":
            value = self.choice()
            self.next(")")
            return value
        if token == "{":
            return self.joined()
        if "'d" in token:
            width, number = token.split("'d")
            return int(number), int(width)
        value, width = self.values[token], self.widths[token]
        if self.peek() != "[":
            return value, width
        self.next("[")
        high = low = int(self.next())
        if self.peek() == ":":
            self.next(":")
            low = int(self.next())
        self.next("]")
        assert width > high >= low, token
        return value >> low & ((1 << (high - low + 1)) - 1), high - low + 1

    def joined(self):
        times = int(self.next()) if self.peek().isdigit() else 1
        if self.peek() == "{" and times > 1:
            self.next("{")
            value, width = self.joined()
            self.next("}")
            return sum(value << (i * width) for i in range(times)), times * width
        value, width = 0, 0
        while True:
            part, size = self.choice()
            value, width = value << size | part, width + size
            if self.next() == "}":
                return value, width


@pytest.mark.parametrize("name", SPREAD)
def test_decoders_say_what_the_emulator_says(name):
    format = formats.get(name)
    of = operand(format)
    # Beside a float an INT format is decoded too.
    decode = Verilog(lane(format, formats.get("FP132")), "lane_decode_a")
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
    text = lane(formats.get(a), formats.get(b))
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
    text, made = lane(a, b, accumulator), Lane(operand(a), operand(b), accumulator)
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
@pytest.mark.parametrize(("a", "b"), [("FP134", "T8.5x3@2"), ("INT8", "FP143"), ("INT8", "INT6")])
def test_lanes_in_icarus_verilog(bench, a, b, accumulator, tmp_path):
    if shutil.which("iverilog") is None:
        pytest.skip("iverilog is not installed")
    a, b = formats.get(a), formats.get(b)
    text = lane(a, b, accumulator)
    assert bench.simulate(a, b, accumulator, text, tmp_path) == 0
    # The simulation notices a mistake.
    broken = text.replace("product = a * b", "product = a * b ^ 1").replace(
        "product = unsigned_part", "product = 1 + unsigned_part"
    )
    assert bench.simulate(a, b, accumulator, broken, tmp_path) > 0


def test_synthesis_gives_the_committed_counts(bench, counts, tmp_path):
    if shutil.which("yosys") is None:
        pytest.skip("yosys is not installed")
    format = formats.get("FP123")
    found = bench.synthesize(lane(format, format), tmp_path)
    lanes = counts[(counts["a"] == "FP123") & (counts["b"] == "FP123")]
    known = lanes[lanes["accumulator"] == "exact"].set_index("part")["nand2"]
    assert set(found) == set(known.index)
    # Other versions of Yosys map a little differently.
    assert found["lane"]["transistors"] / 4 == pytest.approx(known["lane"], rel=0.1)


# The command.


def test_command(tmp_path):
    runner = CliRunner()
    done = runner.invoke(cli.app, ["cost", "FP134", "FP143+FP152", "--json", "--verilog", str(tmp_path / "rtl")])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [row["name"] for row in rows] == ["FP134", "FP143+FP152"]
    assert rows[0]["total"] == cost("FP134").total
    assert rows[0]["total"] == rows[0]["multiplier"] + rows[0]["aligner"] + rows[0]["accumulator"] + rows[0]["decoder"]
    assert sorted(path.name for path in (tmp_path / "rtl").iterdir()) == ["lane_FP134.v", "lane_FP143_FP152.v"]
    text = runner.invoke(cli.app, ["cost", "int8", "FP134"]).stdout
    assert re.search(rf"FP134 .* {cost('FP134').total:.0f}\s*$", text, re.M)


def test_written_verilog_has_names_of_its_own(tmp_path):
    path = write("T8.5x3@2", tmp_path)
    assert path.name == "lane_T8_5x3_2.v"
    modules = re.findall(r"^module (\w+)", path.read_text(), re.M)
    assert all(module.startswith("lane_T8_5x3_2") for module in modules)
    assert path.read_text().count("endmodule") == len(modules) == 6
