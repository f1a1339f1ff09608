"""plot and report."""

import numpy as np
from matplotlib import image

from reports.plots.drawing import Kind
from tests.command import run


def test_plot_of_training_runs(folder, inside):
    for seed in ("0", "1"):
        assert inside("train", "-m", "mine.py:net", "--epochs", "2", "--seed", seed, "-o", f"run{seed}")[0] == 0
    assert inside("plot", "run0") == (0, "wrote run0/flips.png\n", [])
    assert image.imread(folder / "run0" / "flips.png").shape[:2] == (750, 1200)
    assert inside("plot", "run0", "run1") == (2, "", ["error: 2 runs: say with --output where their plot goes"])
    assert inside("plot", "run0", "run1", "-o", "flips.svg")[0] == 0
    assert "mine: flips of quantized weights" in (folder / "flips.svg").read_text()


def test_plot_of_profiles_and_tensors(folder, inside):
    assert inside("plot", "--profiles", "FP134,profile:8:4x2,5") == (0, "wrote profiles.png\n", [])
    np.savez(folder / "dump.npz", w=np.linspace(-1, 1, 99, dtype=np.float32))
    assert inside("plot", "dump.npz", "--profiles", "FP134,INT8") == (0, "wrote dump.png\n", [])
    assert image.imread(folder / "dump.png").shape[1] == 1200
    (folder / "r.csv").write_text("name\n")
    for arguments, message in (
        (("plot",), "nothing to draw was given"),
        (("plot", "r.csv", "--profiles", "FP134"), "--profiles are drawn alone, or over tensors from .npz"),
        (("plot", "r.csv", "--kind", "pie"), f"kind 'pie': allowed are {', '.join(Kind)}"),
        (("report", "r.csv"), "has no column 'rank'"),
        (("report", "r.csv", "--html", "r.txt"), "must end in .html"),
    ):
        code, _, errors = inside(*arguments)
        assert (code, len(errors)) == (2, 1), (arguments, errors)
        assert message in errors[0]


def test_bars_of_what_was_measured(folder, inside):
    """Beside the formats that they were held against; not of layers."""
    arguments = ("-m", "mine.py:net", "-f", "FP134,INT8", "--minibatches", "2", "--effects", "E,AE")
    assert inside("measure", *arguments, "-o", "m.csv")[0] == 0
    assert inside("plot", "m.csv", "--kind", "bars", "-o", "m.svg") == (0, "wrote m.svg\n", [])
    drawn = (folder / "m.svg").read_text()
    for said in ("mine.py:net: angles of 2 formats, 2 mini-batches", "FP134", "INT8", "bfloat16", "AE"):
        assert f"<!-- {said} -->" in drawn
    assert inside("measure", *arguments, "--scope", "layers", "-o", "l.csv")[0] == 0
    code, _, errors = inside("plot", "l.csv", "--kind", "bars")
    assert (code, errors) == (2, ["error: l.csv has no angle over all layers; --kind layers draws those of each"])


def test_tables_for_papers(folder, inside):
    arguments = ("-m", "mine.py:net", "-f", "FP134,INT8", "--minibatches", "2")
    assert inside("rank", *arguments, "-o", "r.csv")[0] == 0
    assert inside("table", "r.csv", "-o", "r.tex") == (0, "wrote r.tex\n", [])
    lines = (folder / "r.tex").read_text().splitlines()
    assert lines[0] == "\\begin{tabular}{rlrrrrrrl}"
    assert sum("FP134" in line for line in lines) == 1
    kept = ("--keep", "50%", "--head")
    assert inside("recipes", "-m", "mine.py:net", "-r", "mxfp8", "--minibatches", "2", *kept, "-o", "c.csv")[0] == 0
    assert inside("table", "c.csv", "-o", "c.md")[0] == 0
    tables = [part for part in (folder / "c.md").read_text().split("\n\n") if part.startswith("|")]
    [recipes, kept] = [[line.split("|")[1:3] for line in table.splitlines()[2:]] for table in tables]
    assert recipes == [[" 1 ", " bf16 "], [" 1 ", " mxfp8 "]]
    assert [row[0] for row in kept] == [" mxfp8 ", " mxfp8 "]  # without and with what is kept
    code, shown, _ = inside("table", "c.csv")
    assert (code, "mxfp8" in shown) == (0, True)
    assert inside("table", "c.csv", "-o", "c.html")[2] == ["error: output c.html: the name must end in .tex, .md"]


def test_a_result_cut_short_is_refused(folder):
    for ending in ("csv", "json", "parquet"):
        result = folder / f"r.{ending}"
        run("rank", "-m", "mine.py:net", "-f", "FP134,FP143,INT8", "--minibatches", "1", "-o", result, cwd=folder)
        content = result.read_bytes()
        result.write_bytes(content[: len(content) * 2 // 3])
        assert "cut short or was changed" in run("plot", result, cwd=folder, check=False).stderr
        (folder / f"r.{ending}.meta.json").unlink()
        done = run("plot", result, cwd=folder, check=False)
        assert done.returncode == 2
        assert "cut short" in done.stderr
        assert done.stderr.count("\n") == 1
