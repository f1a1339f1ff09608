"""What surrounds a multiply-accumulate lane costs, from synthesis, and how well formats/hardware/totals.py says so.

    python benchmarks/periphery.py run benchmarks/periphery.csv > benchmarks/periphery.txt    # 5 minutes
    python benchmarks/periphery.py fit benchmarks/periphery.csv >> benchmarks/periphery.txt   # from the counts alone

The first needs Yosys and Icarus Verilog on the PATH. Every part of formats/hardware/periphery_verilog.py is simulated
first: quantizers against the codes of the emulator, the others against whole numbers. Yosys then maps it to CMOS gates;
gates are counted as in benchmarks/cost.py. Tables that decode a codebook are parts of the lane; they are counted here,
since no profile has one.
"""

import math
import random
import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from scipy.optimize import nnls
from scipy.stats import spearmanr

import formats
from formats import Format
from formats.hardware import periphery_verilog as verilog
from formats.hardware.cost import Coefficients, quantities
from formats.hardware.lane import Lane, element_of, operand
from formats.hardware.periphery import EXPONENT_BITS, SIGNIFICAND_BITS, Rounded, target
from formats.hardware.totals import PeripheryCoefficients, normalizer_quantities, quantizer_quantities
from formats.hardware.verilog import lane_modules

ROUNDED = (
    *("FP134", "FP143", "FP152", "FP125", "FP133", "FP142", "FP124", "FP132", "INT8", "INT7", "INT12", "INT4", "INT6"),
    *("FP123", "T8.5x3@2", "T8.4x11@4", "T8.6x2@1", "T7.3x9@5", "T6.2x8@6", "T7.5x2@1", "E4M3", "E5M2", "E3M2", "E2M3"),
    *("E2M1", "LOG4", "float16", "bfloat16", "FP169", "profile:8:3,3,3", "profile:8:6,1,2,4", "T8.3x20@6"),
)
CODEBOOKS = ("posit<5,1>", "posit<6,2>", "posit<6,1>", "posit<7,1>", "posit<8,0>", "posit<8,1>", "posit<8,2>", "NF4")
QUANTILES = (4, 5, 6, 7, 8)
"""Bits of codebooks of quantiles of the normal distribution, as NF4 is one: nothing about them is regular."""
LOGARITHMS = ((5, 2), (7, 4), (8, 8), (8, 4))
"""Bits of codebooks of signed logarithms, and values a binade: all about them is regular. They are held out."""
SYNTHESIS = "synth -top part; dfflegalize -cell $_DFF_P_ 01; abc -g cmos; opt_clean"
FITTED, HELD_OUT = "fitted", "held out"
INPUTS = 500
TRANSISTORS_OF_NAND2 = 4

app = typer.Typer(help="Gates of what surrounds a lane, and the fit of formats/hardware/totals.py.")


@dataclass(frozen=True)
class Part:
    """A part, of what, its Verilog (the module `part`), and the quantities that its gates are told by."""

    kind: str
    of: str
    text: str
    counts: dict[str, float]
    check: Callable[[Path], int]


def simulate(
    text: str, given: dict[str, int], rows: list[dict[str, int]], shown: str, width: int, folder: Path
) -> list:
    """What an output is in Icarus Verilog after each row of inputs; with an input `clock` at its rising edge.

    given: the inputs and their bits.
    """
    clocked = "input clock" in text
    inputs = {"clock": 1, **given} if clocked else given
    declared = " ".join(f"reg [{bits - 1}:0] {name} = 0;" for name, bits in inputs.items())
    ports = ", ".join(f".{name}({name})" for name in (*inputs, shown))
    step = "#1 clock = 1; #1 clock = 0;" if clocked else "#1"
    lines = "\n".join(
        " ".join(f"{name} = {bits}'d{row[name] % (1 << bits)};" for name, bits in given.items())
        + f' {step} $display("%0d", {shown});'
        for row in rows
    )
    bench = f"module bench; {declared} wire [{width - 1}:0] {shown};\npart dut({ports});\ninitial begin\n{lines}\nend\n"
    (folder / "bench.v").write_text(text + bench + "endmodule\n")
    subprocess.run(["iverilog", "-o", "bench", "bench.v"], cwd=folder, check=True, capture_output=True)
    done = subprocess.run(["vvp", "-n", "bench"], cwd=folder, check=True, capture_output=True, text=True)
    return [int(line) if line.isdigit() else None for line in done.stdout.split()]


def synthesize(text: str, folder: Path) -> float:
    """NAND2 equivalents of the module `part`."""
    (folder / "part.v").write_text(text)
    script = f"read_verilog part.v; {SYNTHESIS}; tee -o part.txt stat -tech cmos"
    subprocess.run(["yosys", "-QT", "-p", script], cwd=folder, check=True, capture_output=True)
    found = re.search(r"Estimated number of transistors:\s+(\d+)(\+?)", (folder / "part.txt").read_text())
    assert found is not None
    assert not found[2], "Yosys does not know a cell"
    return int(found[1]) / TRANSISTORS_OF_NAND2


def quantiles(bits: int) -> Format:
    """A codebook of quantiles of the normal distribution, the largest magnitude 1."""
    values = [NormalDist().inv_cdf((i + 0.5) / (1 << bits)) for i in range(1 << bits)]
    return formats.from_codebook([value / values[-1] for value in values], bits=bits, name=f"normal{bits}")


def logarithms(bits: int, per_binade: int) -> Format:
    """A codebook of both signs of 0 and 2^(-i / per_binade)."""
    magnitudes = [0.0, *(2.0 ** (-i / per_binade) for i in reversed(range((1 << (bits - 1)) - 1)))]
    return formats.from_codebook(magnitudes, signed=True, bits=bits, name=f"log{bits}/{per_binade}")


def numbers(format: Format) -> tuple[list[dict[str, int]], list[int]]:
    """Numbers that are handed on, and the codes that the emulator gives them."""
    rng, element, of = np.random.default_rng(0), element_of(format), target(format)
    if isinstance(of, Rounded):
        low, high = -of.binades - 2, 3
    else:
        # A step of 0 is passed by whatever is not zero.
        steps = [abs(step) for step in of.steps if abs(step) > 2.0**-200]
        low, high = math.frexp(min(steps))[1] - 3, math.frexp(max(steps))[1] + 2
    exponents = rng.integers(low, high, INPUTS)
    significands = rng.integers(1 << 23, 1 << 24, INPUTS)
    short = 24 - rng.integers(1, 10, INPUTS)  # ties, and values of the format themselves
    significands = np.where(rng.random(INPUTS) < 0.3, significands, significands >> short << short)
    significands[:3] = 0
    inexact = (rng.random(INPUTS) < 0.3) & (significands > 0)
    negative = rng.random(INPUTS) < 0.5
    x = np.ldexp(significands + np.where(inexact, 0.25, 0.0), exponents - 23) * np.where(negative, -1, 1)
    if hasattr(element, "infinities"):  # a standard, whose T is its own
        codes = element.encode(np.ldexp(x, element.top)).codes
    else:
        codes = element.encode(x, top=0).codes
    rows = zip(negative.tolist(), significands.tolist(), inexact.tolist(), exponents.tolist(), strict=True)
    keys = ("negative", "significand", "inexact", "exponent")
    return [dict(zip(keys, map(int, row), strict=True)) for row in rows], codes.astype(int).tolist()


def quantizer(format: Format) -> Part:
    of = target(format)
    text = verilog.quantizer(of, "part")

    def check(folder: Path) -> int:
        rows, codes = numbers(format)
        given = {"negative": 1, "significand": SIGNIFICAND_BITS, "inexact": 1, "exponent": EXPONENT_BITS}
        found = simulate(text, given, rows, "code", of.bits, folder)
        return sum(a != b for a, b in zip(found, codes, strict=True))

    kind = "quantizer" if isinstance(of, Rounded) else "search"
    return Part(kind, format.name, text, quantizer_quantities(of), check)


def table(format: Format) -> Part:
    of = operand(format)
    text = lane_modules(format, formats.get("FP132"), name="part").split("endmodule")[0] + "endmodule\n"
    text = text.replace("part_decode_a", "part")
    every = quantities(Lane(of, operand(formats.get("FP132"))))
    counts = {name: count for name, count in every.items() if name.startswith("decoder_table")}

    def check(folder: Path) -> int:
        rows = [{"code": code} for code in range(1 << of.bits)]
        wrong = 0
        for output, width in (("negative", 1), ("significand", of.precision), ("shift", of.shift_bits)):
            if width:
                # The other outputs stay open.
                found = simulate(text, {"code": of.bits}, rows, output, width, folder)
                wrong += sum(a != int(getattr(b, output)) for a, b in zip(found, of.table, strict=True))
        return wrong

    return Part("table", format.name, text, counts, check)


def of_numbers(
    kind: str,
    of: str,
    text: str,
    counts: dict[str, float],
    given: dict[str, int],
    shown: str,
    width: int,
    right: Callable[[list[dict[str, int]]], list[int]],
    prepare: Callable[[list[dict[str, int]]], Any] = lambda rows: None,
) -> Part:
    """A part whose output is a function of rows of random inputs."""

    def check(folder: Path) -> int:
        rng = random.Random(0)
        rows = [
            {name: rng.getrandbits(bits) >> rng.randrange(bits) for name, bits in given.items()} for _ in range(INPUTS)
        ]
        prepare(rows)
        found = simulate(text, given, rows, shown, width, folder)
        return sum(a != b for a, b in zip(found, right(rows), strict=True) if b is not None)

    return Part(kind, of, text, counts, check)


def adder(bits: int) -> Part:
    return of_numbers(
        "adder",
        f"{bits} bits",
        verilog.adder(bits, "part"),
        {"adder": bits},
        {"a": bits, "b": bits},
        "sum",
        bits + 1,
        lambda rows: [row["a"] + row["b"] for row in rows],
    )


def multiplier(a: int, b: int) -> Part:
    """Not fitted: by the coefficients of the lane."""
    return of_numbers(
        "multiplier",
        f"{a} x {b} bits",
        verilog.multiplier(a, b, "part"),
        {},
        {"a": a, "b": b},
        "product",
        a + b,
        lambda rows: [row["a"] * row["b"] for row in rows],
    )


def normalizer(width: int) -> Part:
    def right(rows: list[dict[str, int]]) -> list[int]:
        magnitudes = [min(row["sum"], (1 << width) - row["sum"]) for row in rows]
        return [(m << SIGNIFICAND_BITS) >> m.bit_length() for m in magnitudes]

    return of_numbers(
        "hand over",
        f"{width} bits",
        verilog.normalizer(width, "part"),
        normalizer_quantities(width),
        {"sum": width, "unit": EXPONENT_BITS},
        "significand",
        SIGNIFICAND_BITS,
        right,
    )


def maximum(bits: int) -> Part:
    def prepare(rows: list[dict[str, int]]) -> None:
        for number, row in enumerate(rows):
            row["clear"] = int(number % 16 == 0)

    def right(rows: list[dict[str, int]]) -> list[int]:
        found: list[int] = []
        for row in rows:
            found.append(row["given"] if row["clear"] else max(found[-1], row["given"]))
        return found

    return of_numbers(
        "maximum",
        f"{bits} bits",
        verilog.largest_register(bits, "part"),
        {"maximum": bits},
        {"clear": 1, "given": bits},
        "largest",
        bits,
        right,
        prepare,
    )


def weight(bits: int) -> Part:
    def right(rows: list[dict[str, int]]) -> list[int]:
        found: list[int] = []
        for row in rows:
            found.append(row["given"] if row["load"] else found[-1])
        return found

    return of_numbers(
        "weight",
        f"{bits} bits",
        verilog.weight_register(bits, "part"),
        {"weight": bits},
        {"load": 1, "given": bits},
        "weight",
        bits,
        right,
        lambda rows: rows[0].update(load=1),
    )


def divider(bits: int) -> Part:
    def prepare(rows: list[dict[str, int]]) -> None:
        for number, row in enumerate(rows):
            row["start"] = int(number % (bits + 1) == 0)
            row["divisor"] = row["divisor"] | 1 << (bits - 1) if row["start"] else rows[number - 1]["divisor"]

    def right(rows: list[dict[str, int]]) -> list[Any]:
        return [
            ((1 << (2 * bits - 1)) - 1) // row["divisor"] if number % (bits + 1) == bits else None
            for number, row in enumerate(rows)
        ]

    return of_numbers(
        "reciprocal",
        f"{bits} bits",
        verilog.divider(bits, "part"),
        {"divide": bits},
        {"start": 1, "divisor": bits},
        "quotient",
        bits,
        right,
        prepare,
    )


def outer() -> Part:
    """Sums of numbers of 24 bits at neighbouring positions against exact ones, rounded after each addition."""
    text, bits = verilog.outer_accumulator("part"), SIGNIFICAND_BITS

    def check(folder: Path) -> int:
        rng = np.random.default_rng(0)
        rows, sums, total = [], [], 0
        for number in range(INPUTS):
            at, aligned = int(rng.integers(100, 140)), int(rng.integers(1 << (bits - 1), 1 << bits))
            row = {"clear": int(number % 16 == 0), "minus": int(rng.random() < 0.5), "aligned": aligned, "at": at}
            rows.append(row)
            total = (0 if row["clear"] else total) + (-1) ** row["minus"] * (aligned << at)
            drop = max(abs(total).bit_length() - bits, 0)
            half, rest = 1 << drop >> 1, abs(total) & ((1 << drop) - 1)
            whole = abs(total) >> drop
            whole += rest > half or (rest == half and rest > 0 and whole & 1)
            total = (-1) ** (total < 0) * (whole << drop)
            sums.append((abs(total) << bits) >> abs(total).bit_length())
        given = {"clear": 1, "minus": 1, "aligned": bits, "at": EXPONENT_BITS}
        found = simulate(text, given, rows, "significand", bits, folder)
        return sum(a != b for a, b in zip(found, sums, strict=True))

    return Part("outer", f"{bits} bits", text, {"outer": 1}, check)


def parts() -> list[Part]:
    """All parts, those of one kind together."""
    codebooks = [*map(formats.get, CODEBOOKS), *map(quantiles, QUANTILES)]
    codebooks += [logarithms(*size) for size in LOGARITHMS]
    return [
        *(adder(bits) for bits in (5, 6, 8, 10)),
        *(multiplier(*size) for size in ((4, 4), (4, 24), (8, 24), (24, 24))),
        *(normalizer(width) for width in (17, 21, 24, 28, 32, 36, 40, 47, 54, 62, 72, 88)),
        *(quantizer(formats.get(name)) for name in ROUNDED),
        *(quantizer(format) for format in codebooks),
        *(table(format) for format in codebooks),
        *(maximum(bits) for bits in (8, 12, 16, 24, 31)),
        outer(),
        *(divider(bits) for bits in (8, 11, 16, 24)),
        *(weight(bits) for bits in (4, 6, 8, 16)),
    ]


def grouped(found: list[Part]) -> list[str]:
    """By turns within a kind, whether a part is fitted or held out; all of those with fewer than eight are fitted, and
    no logarithms."""
    kinds = [part.kind for part in found]
    return [
        HELD_OUT
        if part.of.startswith("log") or (kinds.count(part.kind) >= 8 and kinds[:number].count(part.kind) % 2)
        else FITTED
        for number, part in enumerate(found)
    ]


def fit(counts: pd.DataFrame) -> dict[str, float]:
    """The coefficients of PeripheryCoefficients and the lane's for tables, by least squares without negative ones on
    the fitted parts, kind by kind, to three decimal places."""
    every = parts()
    chosen: dict[str, float] = {}
    for kind in dict.fromkeys(part.kind for part in every):
        mine = [part for part, group in zip(every, grouped(every), strict=True) if (part.kind, group) == (kind, FITTED)]
        names = list(dict.fromkeys(name for part in mine for name in part.counts))
        if names:
            quantity = np.array([[part.counts.get(name, 0) for name in names] for part in mine], np.float64)
            gates = [gates_in(counts, part) for part in mine]
            # Relative: what is rare and large does not decide for the others.
            solution, _ = nnls(quantity / np.array(gates)[:, None], np.ones(len(mine)))
            chosen |= {name: round(float(value), 3) for name, value in zip(names, solution, strict=True)}
    return chosen


def gates_in(counts: pd.DataFrame, part: Part) -> float:
    """NAND2 equivalents of a part in the table of counts."""
    return float(counts[(counts["part"] == part.kind) & (counts["of"] == part.of)]["nand2"].iloc[0])


def formula(part: Part, coefficients: dict[str, float]) -> float:
    """NAND2 equivalents of a part by the formula."""
    if part.kind == "multiplier":
        a, b = map(int, re.findall(r"\d+", part.of))
        lane = Coefficients()
        return lane.multiplier_and * a * b + lane.multiplier_adder * (a - 1) * (b - 1)
    return sum(coefficients[name] * count for name, count in part.counts.items())


@app.command()
def run(output: Annotated[Path, typer.Argument(help="CSV of gate counts to write")]) -> None:
    """Simulate and synthesize every part, and write the counts."""
    rows, every = [], parts()
    for part, group in zip(every, grouped(every), strict=True):
        with tempfile.TemporaryDirectory() as folder:
            if wrong := part.check(Path(folder)):
                raise SystemExit(f"{part.kind} of {part.of}: {wrong} outputs are wrong")
            rows.append(
                {"part": part.kind, "of": part.of, "group": group, "nand2": synthesize(part.text, Path(folder))}
            )
    pd.DataFrame(rows).to_csv(output, index=False)
    version = subprocess.run(["yosys", "-V"], check=True, capture_output=True, text=True).stdout.strip()
    print(f"{len(rows)} parts simulated: every output is right; {version}: {SYNTHESIS}\n")


@app.command("fit")
def fit_counts(given: Annotated[Path, typer.Argument(help="CSV of gate counts that `run` wrote")]) -> None:
    """Fit the coefficients to the counts, and print them and how well they hold."""
    counts, every = pd.read_csv(given), parts()
    coefficients = fit(counts)
    print("fitted coefficients (NAND2 equivalents)\n")
    for name, value in coefficients.items():
        print(f"{name:18} {value:9.3f}")
    lane = asdict(Coefficients())
    known = asdict(PeripheryCoefficients()) | {name: lane[name] for name in lane if name.startswith("decoder_table")}
    print("\nthe same as in the package:", "yes" if coefficients == known else "no")
    rows = [
        (part.kind, part.of, group, gates_in(counts, part), formula(part, coefficients))
        for part, group in zip(every, grouped(every), strict=True)
    ]
    shown = pd.DataFrame(rows, columns=["part", "of", "group", "synthesis", "formula"])
    shown["error"] = [f"{100 * (y / x - 1):+.1f}%" for x, y in zip(shown["synthesis"], shown["formula"], strict=True)]
    print("\nNAND2 equivalents as synthesized, and by the formula\n")
    print(shown.to_string(index=False, float_format=lambda value: f"{value:.1f}"))
    print("\npart, group, how many, Spearman, root mean square of relative errors, largest\n")
    for (part, group), rows_of in shown.groupby(["part", "group"], sort=False):
        error = rows_of["formula"] / rows_of["synthesis"] - 1
        order = spearmanr(rows_of["synthesis"], rows_of["formula"]).statistic if len(rows_of) > 2 else math.nan
        print(
            f"{part:11} {group:9} {len(rows_of):3}  {order:6.3f}  {100 * np.sqrt((error**2).mean()):5.1f}%  "
            f"{100 * abs(error).max():5.1f}%"
        )


if __name__ == "__main__":
    app()
