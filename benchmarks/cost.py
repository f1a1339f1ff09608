"""What the hardware of formats costs, from synthesis, and how well formats/hardware/cost.py says so: gates of
multiply-accumulate lanes, and the fit.

    python benchmarks/cost.py run benchmarks/cost.csv > benchmarks/cost.txt      # 5 minutes
    python benchmarks/cost.py fit benchmarks/cost.csv >> benchmarks/cost.txt     # from the counts alone

The first needs Yosys and Icarus Verilog on the PATH. Every lane of formats/hardware/verilog.py is simulated first (all
codes through both decoders; random codes through the whole lane) and compared with the emulator's values in whole
numbers. Yosys then maps it to CMOS gates, each part by itself, and the lane again flattened, where logic moves across
the parts. A gate counts as its transistors in `stat -tech cmos` of Yosys (NAND2 4, XOR2 12, MUX2 12, flip-flop 16),
divided by 4: NAND2 equivalents. The coefficients are fitted on every other format and pair, and the rest held out; the
quantities that they weigh were chosen with all of them in view.
"""

import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from scipy.optimize import nnls
from scipy.stats import spearmanr

import formats
from formats import CodebookFormat, Format, ProfileFormat
from formats.hardware.cost import Coefficients, lane_cost, quantities
from formats.hardware.lane import FLOAT_BITS, Accumulator, Lane, operand
from formats.hardware.verilog import lane_modules

TAPERED = {8: 7, 7: 5, 6: 5}
"""How many tapered formats of each width, evenly spaced in the catalogue's order."""
PAIRS = (
    ("FP143", "FP152"),
    ("FP134", "FP143"),
    ("INT8", "FP134"),
    ("T8.5x3@2", "FP134"),
    ("INT8", "INT6"),
    ("FP132", "FP123"),
    ("LOG4", "FP143"),
    ("LOG4", "INT8"),
)
SYNTHESIS = "synth -top lane; dfflegalize -cell $_DFF_P_ 01; abc -g cmos; opt_clean"
PARTS = {
    "multiplier": ["multiply"],
    "aligner": ["align"],
    "accumulator": ["accumulate"],
    "decoder": ["decode_a", "decode_b"],
}
"""The parts of a cost, and the modules that they are."""
FITTED, HELD_OUT = "fitted", "held out"
CODES = 2000

app = typer.Typer(help="Gates of multiply-accumulate lanes, and the fit of formats/hardware/cost.py.")


def spread() -> list[ProfileFormat]:
    """The lanes with the same format on both sides: INT, FP and tapered, of 8, 7 and 6 bits. Block minifloats have the
    profiles of INT and FP."""
    chosen = []
    for bits, count in TAPERED.items():
        chosen += [*formats.catalogue(bits, "INT"), *formats.catalogue(bits, "FP")]
        tapered = formats.catalogue(bits, "tapered")
        chosen += [tapered[round(i)] for i in np.linspace(0, len(tapered) - 1, count)]
    return chosen


def whole(format: Format) -> dict[int, int]:
    """The value of each code that stands for one, in the format's smallest steps, from the emulator."""
    if isinstance(format, CodebookFormat):
        codes = [code for code in range(1 << format.bits) if code != format.nan_code]
        ratios = [value.as_integer_ratio() for value in format.decode(codes, top=0).tolist()]
        unit = max(denominator for _, denominator in ratios)
        return dict(zip(codes, [numerator * unit // denominator for numerator, denominator in ratios], strict=True))
    assert isinstance(format, ProfileFormat)
    profile = format.profile
    step = min(1 - d - p for d, p in enumerate(profile))
    half = 1 << (format.bits - 1)
    codes = (
        range(2 * half)
        if format.two_complement
        else [c for c in range(2 * half) if c % half < half - format.spare_codes and c != half]
    )
    values = np.ldexp(format.decode(np.array(list(codes), np.uint16)).astype(np.float64), -step)
    assert (values == np.rint(values)).all()
    return dict(zip(codes, map(int, values), strict=True))


def kept(total: int) -> int:
    """A sum in FLOAT_BITS significant bits, to nearest, ties to even."""
    drop = max(abs(total).bit_length() - FLOAT_BITS, 0)
    return round(Fraction(total, 1 << drop)) << drop


def simulate(a: Format, b: Format, accumulator: Accumulator, text: str, folder: Path) -> int:
    """Run a lane in Icarus Verilog on all codes of each side against one of the other, then on random codes; the number
    of wrong sums."""
    known_a, known_b = whole(a), whole(b)
    made = Lane(operand(a), operand(b), accumulator)
    if not made.integer:
        for format, known in ((a, known_a), (b, known_b)):
            if operand(format).two_complement:
                del known[1 << (operand(format).bits - 1)]
    rng = np.random.default_rng(0)
    pairs = [(code, max(known_b)) for code in known_a] + [(max(known_a), code) for code in known_b]
    pairs += zip(rng.choice(list(known_a), CODES).tolist(), rng.choice(list(known_b), CODES).tolist(), strict=True)
    clears = (rng.random(len(pairs)) < 0.02).tolist()
    clears[0] = True
    if accumulator is Accumulator.FLOAT:
        outputs = f"wire negative; wire [{made.position_bits - 1}:0] position; wire [{FLOAT_BITS - 1}:0] significand;"
        ports, shown = (
            ".negative(negative), .position(position), .significand(significand)",
            '"%0d %0d %0d", negative, position, significand',
        )
    else:
        outputs, ports, shown = f"wire signed [{made.register_bits - 1}:0] sum;", ".sum(sum)", '"%0d", sum'
    lines = "\n".join(
        f"a = {x}; b = {y}; clear = {int(c)}; #1 clock = 1; #1 clock = 0; $display({shown});"
        for (x, y), c in zip(pairs, clears, strict=True)
    )
    bench = (
        f"module bench; reg clock = 0, clear = 1; reg [{made.a.bits - 1}:0] a; reg [{made.b.bits - 1}:0] b; {outputs}\n"
        f"lane dut(.clock(clock), .clear(clear), .a(a), .b(b), {ports});\ninitial begin\n{lines}\nend\nendmodule\n"
    )
    (folder / "bench.v").write_text(text + bench)
    subprocess.run(["iverilog", "-o", "bench", "bench.v"], cwd=folder, check=True, capture_output=True)
    printed = subprocess.run(
        ["vvp", "-n", "bench"], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    wrong, total = 0, 0
    for (x, y), clear, line in zip(pairs, clears, printed, strict=True):
        total = (0 if clear else total) + known_a[x] * known_b[y]
        # Bits that are not known (x) are no number.
        numbers = [int(number) if re.fullmatch(r"-?\d+", number) else None for number in line.split()]
        if accumulator is Accumulator.FLOAT:
            total = kept(total)
            position = max(abs(total).bit_length() - 1, 0)
            wrong += numbers != [int(total < 0), position, (abs(total) << (FLOAT_BITS - 1)) >> position]
        else:
            wrong += numbers != [total]
    return wrong


def synthesize(text: str, folder: Path) -> dict[str, dict[str, int]]:
    """Cells of each part, and of the flattened lane, as Yosys counts them, and "transistors"."""
    (folder / "lane.v").write_text(text)
    flat = "flatten; opt; abc -g cmos; opt_clean; tee -o flat.txt stat -tech cmos"
    script = f"read_verilog lane.v; {SYNTHESIS}; tee -o parts.txt stat -tech cmos; {flat}"
    subprocess.run(["yosys", "-QT", "-p", script], cwd=folder, check=True, capture_output=True)
    found = {}
    sections = re.split(r"=== (.+?) ===", (folder / "parts.txt").read_text())[1:]
    for module, section in zip(sections[::2], sections[1::2], strict=True):
        if module.startswith("lane_"):
            found[module.removeprefix("lane_")] = _cells(section)
    found["lane"] = _cells((folder / "flat.txt").read_text())
    return found


def _cells(section: str) -> dict[str, int]:
    cells = {name.strip("_"): int(count) for name, count in re.findall(r"\$(_\w+_)\s+(\d+)", section)}
    transistors = re.search(r"Estimated number of transistors:\s+(\d+)(\+?)", section)
    assert transistors is not None, section
    assert not transistors[2], f"Yosys does not know a cell: {section}"
    return cells | {"transistors": int(transistors[1])}


def lanes() -> list[tuple[Format, Format, str]]:
    """Both formats of every lane, and whether it is fitted or held out: by turns within INT, FP, tapered and pairs."""
    every = [(f, f, str(f.family)) for f in spread()] + [(formats.get(a), formats.get(b), "pair") for a, b in PAIRS]
    seen: Counter[str] = Counter()
    found = []
    for a, b, kind in every:
        found.append((a, b, FITTED if seen[kind] % 2 == 0 else HELD_OUT))
        seen[kind] += 1
    return found


def prediction_of(table: pd.DataFrame, coefficients: Coefficients) -> pd.DataFrame:
    """For each lane of the counts: gates of every part as synthesized (the name of the part) and by the formula (with
    `_formula`), and both totals.

    `flat` is the flattened lane as synthesized.
    """
    wide = (
        table.pivot_table(index=["accumulator", "a", "b", "group"], columns="part", values="nand2", sort=False)
        .fillna(0.0)
        .reset_index()
    )
    found = wide[["accumulator", "a", "b", "group"]].copy()
    found.columns = pd.Index(["kind", "a", "b", "group"])
    for part, columns in PARTS.items():
        found[part] = wide[columns].sum(axis=1)
    found["total"] = found[list(PARTS)].sum(axis=1)
    found["flat"] = wide["lane"]
    costs = [
        lane_cost(f"{a}+{b}", kind, coefficients)
        for kind, a, b in zip(found["kind"], found["a"], found["b"], strict=True)
    ]
    for part in (*PARTS, "total"):
        found[f"{part}_formula"] = [getattr(entry, part) for entry in costs]
    return found


def fit(table: pd.DataFrame) -> Coefficients:
    """The coefficients, by least squares without negative ones on the fitted lanes, part by part, to three decimal
    places."""
    found = prediction_of(table, Coefficients())
    chosen = found[found["group"] == FITTED]
    made = [
        Lane(operand(formats.get(a)), operand(formats.get(b)), Accumulator(kind))
        for kind, a, b in zip(chosen["kind"], chosen["a"], chosen["b"], strict=True)
    ]
    counts = pd.DataFrame([quantities(entry) for entry in made])
    fitted: dict[str, float] = {}
    for part in PARTS:
        # No lane here has the table of a codebook; benchmarks/periphery.py has those.
        columns = [name for name in counts if str(name).startswith(part) and counts[name].any()]
        solution, _ = nnls(counts[columns].to_numpy(np.float64), chosen[part].to_numpy())
        fitted |= {str(name): round(float(value), 3) for name, value in zip(columns, solution, strict=True)}
    return Coefficients(**fitted)


def report(table: pd.DataFrame) -> None:
    """Print the fit and how well it holds."""
    coefficients = fit(table)
    print("fitted coefficients (NAND2 equivalents)\n")
    for name, value in asdict(coefficients).items():
        print(f"{name:22} {value:7.3f}")
    every = prediction_of(table, coefficients)
    for kind in Accumulator:
        print(f"\n\naccumulator: {kind}")
        compare(every[every["kind"] == kind], table[(table["accumulator"] == kind) & (table["part"] == "lane")])


def compare(found: pd.DataFrame, flat: pd.DataFrame) -> None:
    """Print synthesis beside the formula for the lanes with one kind of accumulator. flat: the cells of the flattened
    lanes."""
    shown = pd.DataFrame({"lane": [a if a == b else f"{a} x {b}" for a, b in zip(found["a"], found["b"], strict=True)]})
    shown["group"] = found["group"].to_numpy()
    for part in (*PARTS, "total"):
        shown[part] = [f"{x:.0f} ({y:.0f})" for x, y in zip(found[part], found[f"{part}_formula"], strict=True)]
    shown["flattened"] = [f"{x:.0f}" for x in found["flat"]]
    print(
        "NAND2 equivalents as synthesized, in brackets by the formula; flattened: the whole lane, optimized "
        "across its parts\n"
    )
    print(shown.to_string(index=False))
    print(
        "\nformula against synthesis: lanes, Pearson, Spearman, root mean square error (NAND2), largest error "
        "relative to synthesis\n"
    )
    groups = {FITTED: found["group"] == FITTED, HELD_OUT: found["group"] == HELD_OUT, "all": found["group"] != ""}
    for target in (*PARTS, "total", "flat"):
        formula = "total_formula" if target == "flat" else f"{target}_formula"
        for group, rows in groups.items():
            x, y = found[rows][target], found[rows][formula]
            worst = (abs(y - x) / x)[x > 0].max()
            print(
                f"{target:12} {group:9} {len(x):3}  {np.corrcoef(x, y)[0, 1]:.4f}  {spearmanr(x, y).statistic:.4f}  "
                f"{np.sqrt(((y - x) ** 2).mean()):7.1f}  {100 * worst:5.1f}%"
            )
    ratio = found["flat"] / found["total"]
    print(
        f"\nflattened lane / sum of the parts, both as synthesized: {ratio.min():.3f} to {ratio.max():.3f}, "
        f"mean {ratio.mean():.3f}; "
        f"Pearson {np.corrcoef(found['total'], found['flat'])[0, 1]:.4f}"
    )
    nand2 = flat["nand2"].to_numpy()
    other = nand2 + (8 * flat["DFF_P"] - 4 * (flat["XOR"] + flat["XNOR"])).to_numpy() / 4
    print(
        "XOR of 8 instead of 12 transistors, flip-flops of 24 instead of 16: Spearman "
        f"{spearmanr(nand2, other).statistic:.4f} with the weights above"
    )
    for a, b in (("INT8", "FP134"), ("INT7", "FP133"), ("INT6", "FP132")):
        i, j = (int(np.flatnonzero((flat["a"] == name) & (flat["b"] == name))[0]) for name in (a, b))
        print(f"{a} / {b}, flattened: {nand2[i] / nand2[j]:.3f}; with those other weights {other[i] / other[j]:.3f}")


@app.command()
def run(output: Annotated[Path, typer.Argument(help="CSV of gate counts to write")]) -> None:
    """Simulate and synthesize every lane, and write the counts."""
    rows = []
    for accumulator in Accumulator:
        for a, b, group in lanes():
            text = lane_modules(a, b, accumulator)
            with tempfile.TemporaryDirectory() as folder:
                if wrong := simulate(a, b, accumulator, text, Path(folder)):
                    raise SystemExit(f"{a.name} x {b.name}, {accumulator}: {wrong} sums differ from the emulator's")
                same = {"accumulator": accumulator.value, "a": a.name, "b": b.name, "group": group}
                for part, cells in synthesize(text, Path(folder)).items():
                    rows.append(same | {"part": part, "nand2": cells.pop("transistors") / 4} | cells)
    pd.DataFrame(rows).convert_dtypes().to_csv(output, index=False)
    version = subprocess.run(["yosys", "-V"], check=True, capture_output=True, text=True).stdout.strip()
    print(
        f"{len(Accumulator)} x {len(lanes())} lanes simulated: every sum as the emulator says; {version}: {SYNTHESIS}\n"
    )


@app.command("fit")
def fit_counts(counts: Annotated[Path, typer.Argument(help="CSV of gate counts that `run` wrote")]) -> None:
    """Fit the coefficients to the counts, and print them and how well they hold."""
    report(pd.read_csv(counts).fillna(0))


if __name__ == "__main__":
    app()
