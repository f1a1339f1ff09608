"""points, measure and attribute."""

import json
import re

import pandas as pd
import pytest
from matplotlib import image

from formats.hardware.totals import total_cost
from formats.pairs import candidate
from search.yardsticks import yardsticks_of
from tests.command import interrupted, run


def test_points(folder):
    out = run("points", "--model", "mine.py:net", "--exact", "3", cwd=folder).stdout
    assert re.search(r"0 +\(network\) +input +8 x 1 x 4 x 4 +two terms \(A\)", out)
    assert re.search(r"2 +3 +linear +8 x 4 +exact, two terms \(E\)", out)
    assert re.search(r"2 +relu +8 x 12 +chooses", out)
    assert "3 points" in out


def test_tensors_of_points_are_written_fitted_and_drawn(folder, inside):
    assert inside("points", "-m", "mine.py:net", "--tensors", "t.npz", "--layer", "1") == (
        0,
        "wrote 2 tensors to t.npz\n",
        [],
    )
    assert inside("fit", "t.npz", "--formats", "FP134,INT8")[0] == 0
    assert inside("plot", "t.npz", "--kind", "histograms", "--profiles", "FP134,INT8") == (0, "wrote t.png\n", [])
    for arguments, message in (
        (("--layer", "1"), "--layer chooses what --tensors writes"),
        (("--tensors", "t.npz"), "output t.npz exists; use --force"),
        (("--tensors", "t.npz", "--force", "--layer", "fc"), "layer 'fc' has no point"),
        (("--tensors", "t.txt"), "must end in .npz"),
    ):
        code, _, errors = inside("points", "-m", "mine.py:net", *arguments)
        assert (code, len(errors)) == (2, 1), (arguments, errors)
        assert message in errors[0]


def test_measure_and_its_file(folder):
    out = run(
        "measure",
        "-m",
        "mine:net",
        "-f",
        "FP134,BM<4,3>,profile:8:5x7,4,3,2,1,FP143+FP152",
        "--minibatches",
        "2",
        "-o",
        "m.json",
        cwd=folder,
    ).stdout
    assert "FP143+FP152" in out
    assert "BM43" in out
    assert re.search(r"format +angle E +angle A +angle AE +gap", out)
    # A row a format, held against bfloat16 and what trained best.
    beside = [entry.name for entry in yardsticks_of([candidate("FP134")])]
    assert beside[0] == "bfloat16"
    assert [line.split()[0] for line in out.splitlines() if re.match(r" (FP|BM|bf|T8)", line)] == [
        *("FP134", "BM43", "FP143+FP152", *beside)
    ]
    table = pd.read_json(folder / "m.json")
    assert len(table) == 12
    assert set(table.n) == {2}


def test_measure_prints_rows_of_effects_on_demand(folder):
    arguments = ("-m", "mine.py:net", "-f", "FP134,E4M3/tensor", "--effects", "E,AE", "--minibatches", "2")
    out = run("measure", *arguments, "--long", cwd=folder).stdout
    assert re.search(r"format +effect +scope +angle \(deg\) +projection", out)
    assert len(re.findall(r"^ (?:FP134|E4M3/tensor) +(?:E|AE) +all ", out, re.M)) == 4
    out = run("measure", *arguments, "--cost", "--products", "64", "--scope", "first", cwd=folder).stdout
    assert re.search(r"format +angle E +angle AE +gates +fJ +bytes *\n", out)
    assert "64 products a sum" in out
    cost = total_cost("FP134", products=64)
    assert re.search(rf"^ FP134 .* {cost.total:.0f} +{cost.femtojoules:.0f} +1 *$", out, re.M)
    assert re.search(r"^ E4M3/tensor .* \d+† +\d+ +1 *$", out, re.M)
    assert "† without infinities and NaN" in out
    assert "bfloat16" not in out  # of which another scope says nothing


def test_what_measure_measured_a_ranking_finds(folder, monkeypatch):
    monkeypatch.setenv("FORMATS_CACHE", str(folder / "cache"))

    def kept():
        return json.loads(run("cache", "info", "--json", cwd=folder).stdout)["measurements"]

    arguments = ("-m", "mine.py:net", "-f", "FP134,INT8", "--minibatches", "2")
    without = run("measure", *arguments, "--no-store", cwd=folder).stdout
    assert kept() == 0
    assert run("measure", *arguments, cwd=folder).stdout == without
    run("rank", *arguments, cwd=folder)
    assert run("measure", *arguments, cwd=folder).stdout == without
    # Three effects of the two and of the yardsticks on two mini-batches, and the weights of the two on one.
    beside = yardsticks_of([candidate("FP134"), candidate("INT8")])
    assert kept() == (2 + len(beside)) * 2 * 3 + 2


def test_attribute_writes_and_draws(folder):
    arguments = (
        "attribute",
        "-m",
        "mine.py:net",
        "-f",
        "E4M3+E5M2",
        "--minibatches",
        "2",
        "-o",
        "why.csv",
        "--plot",
        "why.png",
    )
    out = run(*arguments, "--dry-run", cwd=folder).stdout
    assert re.search(r"mine.py:net: 3 points; 15 rows, 46 quantized gradients on 2 mini-batches; about \d+ s", out)
    assert not (folder / "why.csv").exists()
    out = run(*arguments, "--top", "2", cwd=folder).stdout
    assert "what causes the angle of E4M3+E5M2" in out
    assert re.search(r"WAEG +all +\d+\.\d{3} \[[\d.]+, [\d.]+\] +- +- +2", out)
    assert len(re.findall(r"%", out)) == 4 + 2 + 1
    table = pd.read_csv(folder / "why.csv")
    assert len(table) == 15
    assert json.loads((folder / "why.csv.meta.json").read_text())["settings"]["formats"].keys() == {"E4M3+E5M2"}
    assert image.imread(folder / "why.png").shape[1] == 1200


def test_keep_ends_in_what_to_paste(folder):
    out = run("keep", "-m", "mine.py:net", "-f", "INT4", "--layers", "1", "-o", "kept.csv", cwd=folder).stdout
    assert re.search(r"^ +0 +\(nothing kept\) +- +\d+\.\d{3}", out, re.M)
    pasted = re.search(r"^--exact (\S+)$", out, re.M)[1]
    settings = json.loads((folder / "kept.csv.meta.json").read_text())["settings"]
    assert settings["chosen"] == [pasted]
    assert pd.read_csv(folder / "kept.csv").stays.tolist()[0] is False
    out = run("points", "-m", "mine.py:net", "--exact", "[13]", cwd=folder).stdout
    assert len(re.findall("exact", out)) == 2


@pytest.mark.slow
def test_ctrl_c_keeps_the_rows_that_were_attributed(folder):
    # By then the first mini-batch has been attributed.
    code, out, err = interrupted(
        *("attribute", "-m", "mine.py:endless", "-f", "FP134", "--minibatches", "10", "-o", "why.csv"),
        cwd=folder,
        after="measure 46/230",
    )
    assert code == 130, err
    assert "ended early by an interrupt" in out
    table = pd.read_csv(folder / "why.csv")
    assert len(table) == 15
    assert table.n.max() < 10
    assert not json.loads((folder / "why.csv.meta.json").read_text())["settings"]["complete"]
