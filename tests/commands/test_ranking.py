"""rank, search, fit and compare."""

import hashlib
import json
import re
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib import image

from formats.hardware.totals import total_cost
from tests.command import interrupted, run


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["csv", "json", "parquet"])
def test_rank_writes_and_plot_draws(folder, ending):
    result = folder / f"r.{ending}"
    asked = ("--minibatches", "2", "--effects", "E,A,AE")
    done = run("rank", "--model", "mine.py:net", *asked, "--output", result, cwd=folder)
    assert re.search(r"rank +format +bits +angle E +angle A +angle AE", done.stdout)
    assert "498 formats by the angle of AE" in done.stdout
    sidecar = json.loads((folder / f"r.{ending}.meta.json").read_text())
    assert sidecar["rows"] == 498
    assert sidecar["settings"]["minibatches"] == 2
    assert sidecar["versions"]["torch"].startswith("2.")
    assert "formats" in sidecar["settings"]
    run("plot", result, "-o", "p.png", cwd=folder)
    assert image.imread(folder / "p.png").shape[:2] == (900, 1200)
    if ending == "csv":
        run("plot", result, "-o", "p.svg", cwd=folder)
        drawn = (folder / "p.svg").read_text()
        assert drawn.rstrip().endswith("</svg>")
        # Marks: one a format, and one a legend entry.
        assert drawn.count("<use ") >= 498


def test_dry_run_measures_nothing(folder):
    out = run("rank", "--model", "mine.py:net", "--dry-run", "--minibatches", "3", "-o", "never.csv", cwd=folder).stdout
    measured = "3 points; 498 formats, at most 27 measured on at most 3 mini-batches"
    assert f"{measured}: 64 quantized gradients (exhaustive: 1494), about" in out
    # All of a network of 300 weights ends in half an hour.
    best = "22 anchors on 2 mini-batches, 16 race to 6; regret 0%, 10 of the first ten, intervals of ±27%"
    assert f"--time 30m: {best}" in out
    assert re.search(r"--time 1m: .*\n--time 5m: ", out)
    assert not (folder / "never.csv").exists()
    arguments = ("-f", "FP134", "--minibatches", "1", "--exact", "1", "--one-term")
    out = run("rank", "--model", "mine.py:net", "--dry-run", *arguments, cwd=folder).stdout
    assert re.search(r"2 points; 1 format, at most 1 measured on at most 1 mini-batch: 3 quantized", out)


@pytest.mark.slow
def test_a_second_ranking_measures_nothing(folder):
    arguments = ("rank", "-m", "mine.py:net", "--minibatches", "2", "--cost", "--products", "64")
    first = run(*arguments, "-o", "first.csv", cwd=folder).stdout
    assert re.search(r"BM25|FP134|T8", first)
    assert "64 products a sum" in first
    assert "64 products a sum" in run("table", "first.csv", cwd=folder).stdout
    assert re.search(r"verdict: \S+ turns the gradient least, by .* degrees of AE \(bfloat16: ", first)
    before = json.loads(run("cache", "info", "--json", cwd=folder).stdout)["measurements"]
    run(*arguments, "-o", "second.csv", cwd=folder)
    assert json.loads(run("cache", "info", "--json", cwd=folder).stdout)["measurements"] == before > 50
    assert (folder / "first.csv").read_text() == (folder / "second.csv").read_text()
    table = pd.read_csv(folder / "first.csv").set_index("name")
    assert table.gates.between(100, 10_000).all()
    assert table.bytes_per_value["FP134"] == 1 < table.bytes_per_value["BM25"]
    assert table.gates["BM25"] > table.gates["FP125"]
    assert table.gates["FP134"] == total_cost("FP134", products=64).total


@pytest.mark.slow
def test_rank_with_workers_is_the_table_of_one_process(folder, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    tables = []
    for name, rest in (("one.json", ()), ("two.json", ("--workers", "2"))):
        run(
            "rank",
            "-m",
            "mine.py:net",
            "--bits",
            "6",
            "--minibatches",
            "3",
            "--no-store",
            "-o",
            name,
            *rest,
            cwd=folder,
        )
        columns = json.loads((folder / name).read_text())
        tables.append([{key: value for key, value in row.items() if key != "seconds"} for row in columns])
    assert len(tables[0]) > 24  # raced, and most of them predicted
    assert tables[0] == tables[1]


@pytest.mark.slow
def test_rank_on_a_cluster_without_ray(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    done = run("rank", "-m", "mine.py:net", "--cluster", "auto", cwd=folder, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: a cluster needs Ray, which is not installed: pip install 'numeric-formats[cluster]'\n"


def test_a_swept_ranking(folder):
    arguments = (
        "rank",
        "-m",
        "mine.py:net",
        "-f",
        "FP134,BM43",
        "--minibatches",
        "1",
        "--effects",
        "AE,WAE",
        "-o",
        "r.csv",
    )
    run(*arguments, "--scheme", "current", "--sweep", "headroom=0,1", "--sweep", "scale=floor,rceil", cwd=folder)
    suffixes = ("/headroom0", "/rceil/headroom0", "/headroom1", "/rceil/headroom1")
    table = pd.read_csv(folder / "r.csv")
    assert set(table.name) == {name + suffix for name in ("FP134", "BM43") for suffix in suffixes}
    assert {"angle_AE", "angle_WAE"} <= set(table.columns)
    assert table.angle_AE.is_monotonic_increasing


@pytest.mark.slow
def test_several_networks_and_what_is_made_of_their_ranking(folder, inside):
    code, out, _ = inside(
        *(
            "rank",
            "-m",
            "mine.py:net",
            "-m",
            "mine.py:other",
            "-f",
            "FP134,INT8,FP152,BM43",
            "--minibatches",
            "2",
            "--cost",
            "-o",
            "both.csv",
        )
    )
    assert code == 0
    assert "4 formats by mean rank, angles of AE" in out
    table = pd.read_csv(folder / "both.csv")
    assert {"mean_rank", "angle_worst", "rank@mine.py:net", "angle_AE@mine.py:other", "gates"} <= set(table.columns)
    command = json.loads((folder / "both.csv.meta.json").read_text())["settings"]["command"]
    assert command.startswith("formats rank -m mine.py:net -m mine.py:other -f FP134,INT8,FP152,BM43")
    assert inside("plot", "both.csv", "--kind", "top", "--by", "worst", "-o", "top.svg") == (0, "wrote top.svg\n", [])
    assert inside("plot", "both.csv", "--kind", "pareto", "--by", "worst", "-o", "front.pdf") == (
        0,
        "wrote front.pdf\n",
        [],
    )
    assert inside("report", "both.csv") == (0, "wrote both.html\n", [])
    page = (folder / "both.html").read_text()
    assert command in page
    assert page.count("<tr data-row=") == 4
    code, out, _ = inside("compare", "both.csv", "both.csv", "--effect", "worst", "--json")
    assert (code, json.loads(out)["overlap"]) == (0, {"1": 1})
    assert [row["change"] for row in json.loads(out)["table"]] == [0] * 4


def test_search_measures_what_it_finds(folder):
    out = run(
        "search", "-m", "mine.py:net", "--minibatches", "2", "--effects", "A", "--best", "1", "-o", "s.csv", cwd=folder
    ).stdout
    assert re.search(r"rank +format +A +less FP134 +role", out)
    assert re.search(r"FP134 +\d+\.\d{3} +reference", out)
    table = pd.read_csv(folder / "s.csv")
    found = table[table.role.str.contains("synthesized A")].iloc[0]
    assert found.n_A == 2
    assert f" {found['name']} " in out
    facts = json.loads(run("show", found["name"], "--json", cwd=folder).stdout)
    assert facts["name"] == found["name"]
    settings = json.loads((folder / "s.csv.meta.json").read_text())["settings"]
    assert (settings["reference"], settings["held_out"], settings["constraints"]["headrooms"]) == (
        "FP134",
        True,
        None,
    )


def test_search_for_layers(folder):
    out = run(
        "search",
        "-m",
        "mine.py:net",
        "--effects",
        "A",
        "--average-bits",
        "6",
        "--widths",
        "5,7",
        "-o",
        "l.json",
        cwd=folder,
    ).stdout
    assert "bits on average; predicted, not measured" in " ".join(out.split())
    table = pd.read_json(folder / "l.json")
    assert set(table.bits) <= {5, 7}
    assert (table.bits * table.elements).sum() <= 6 * table.elements.sum()


def test_fit(folder):
    rng = np.random.default_rng(0)
    np.savez(
        folder / "t.npz", a=rng.normal(size=(50, 40)).astype(np.float32), b=rng.normal(size=3000) ** 3, z=np.zeros(3)
    )
    out = run("fit", "t.npz", "--top", "3", "--max-runs", "2", "-o", "f.csv", cwd=folder).stdout
    assert re.search(r"rank +format +bits +mean NSR +worst NSR +worst", out)
    table = pd.read_csv(folder / "f.csv")
    best = table[table.role == "synthesized"].iloc[0]
    assert (
        f"the best 8-bit profile for these tensors: {best['name']} (mean NSR {best.nsr_mean:.4g}, rank {best['rank']})"
        in out
    )
    assert "left out, nothing but zeros: z" in out
    assert len(table) >= len(re.findall(r"^ +\d+ ", out, re.M)) == 3
    out = run("fit", "t.npz", "-f", "FP134,profile:8:5x7,4,3,2,1,INT8", cwd=folder).stdout
    assert "3 formats on 2 tensors" in out  # FP134 is that profile


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_measured(folder):
    # The first tenth has been measured once a line says so.
    code, out, err = interrupted(
        *("rank", "-m", "mine.py:endless", "-f", "FP134,FP143,INT8,BM43", "--minibatches", "40", "-o", "r.csv"),
        cwd=folder,
        after="measure 16/160",
    )
    assert code == 130, err
    assert "ended early by an interrupt" in out
    table = pd.read_csv(folder / "r.csv")
    assert len(table) == 4
    assert 0 < table.n_AE.sum() < 160
    assert not json.loads((folder / "r.csv.meta.json").read_text())["settings"]["complete"]


@pytest.mark.parametrize(
    ("more", "kept"), [((), "are kept; the same command goes on from there"), (("--no-store",), "are not kept")]
)
def test_what_becomes_of_measurements_that_a_budget_ended(folder, more, kept, monkeypatch):
    monkeypatch.setenv("FORMATS_CACHE", str(folder / "cache"))  # what other tests have kept counts as measured too
    command = ("rank", "-m", "mine.py:net", "-f", "FP134,INT8", "--minibatches", "2", "--time-budget", "1e-300")
    out = run(*command, *more, cwd=folder).stdout
    assert f"ended early by the time budget: 3 measurements were made and {kept}" in " ".join(out.split())


def test_what_becomes_of_measurements_that_cannot_be_kept(folder, monkeypatch):
    (folder / "file").touch()
    monkeypatch.setenv("FORMATS_CACHE", str(folder / "file" / "cache"))
    done = run("rank", "-m", "mine.py:net", "-f", "FP134", "--minibatches", "2", "--time-budget", "1e-300", cwd=folder)
    assert "were made and are not kept" in " ".join(done.stdout.split())
    assert done.stderr.count("warning: measurements are not kept") == 1


@pytest.mark.parametrize("budget", ["nan", "inf", "-1", "0"])
def test_budgets_that_are_none(inside, budget):
    code, _, errors = inside("rank", "-m", "mine.py:net", "-f", "FP134", "--time-budget", budget)
    assert code == 2
    assert errors == [f"error: time budget {float(budget)} s: a positive number of seconds is needed"]


@pytest.mark.parametrize("time", ["5", "0m", "nanm"])
def test_times_that_are_none(inside, time):
    code, _, errors = inside("rank", "-m", "mine.py:net", "-f", "FP134", "--time", time)
    assert (code, errors) == (2, [f"error: --time {time}: a time such as 90s, 5m or 1h is needed"])


def test_a_ranking_in_time(inside, folder):
    asked = ("rank", "-m", "mine.py:net", "--bits", "6", "--by", "E")
    code, out, _ = inside(*asked, "--time", "1.5h", "-o", "r.csv")
    assert code == 0
    measured = r"22 anchors on 2 mini-batches, 16 race to 6, then \d+ more measurements of the leaders"
    assert re.search(rf"{measured}, in the 5400 s that there were; 53\d\d s were left: all 184 formats", out)
    settings = json.loads((folder / "r.csv.meta.json").read_text())["settings"]
    assert (settings["time_budget"], settings["complete"]) == (5400, True)
    assert 5000 < settings["left"] < 5400
    code, _, errors = inside(*asked, "--time", "0.000001s", "--no-store")
    assert code == 2
    assert errors[-1].startswith("error: time 1e-06 s is too short for workload mine, whose screen alone takes about")


def test_formats_at_operands_from_the_ranking_to_the_page(inside, folder):
    measured = ("-m", "mine.py:net", "-f", "FP134,INT4,MXFP4,FP134+FP152", "--points", "operands")
    code, out, _ = inside("rank", *measured, "--minibatches", "2", "-o", "r.csv")
    assert code == 0
    assert "4 formats by the angle of WAE over 2 mini-batches, points operands" in out
    assert "degrees of WAE at operands (bfloat16:" in out
    assert "weights are not rounded" not in out
    settings = json.loads((folder / "r.csv.meta.json").read_text())["settings"]
    assert (settings["points"], settings["effects"], settings["by"]) == ("operands", ["WAE"], "WAE")
    # `measure` says the same, and finds it in the store.
    code, out, _ = inside("measure", *measured, "--minibatches", "2", "-o", "m.csv")
    assert code == 0
    assert "points operands" in out
    assert json.loads((folder / "m.csv.meta.json").read_text())["settings"]["points"] == "operands"
    one, other = pd.read_csv(folder / "r.csv").set_index("name"), pd.read_csv(folder / "m.csv").set_index("format")
    assert one["angle_WAE"].to_dict() == other["angle"].to_dict()
    code, _, _ = inside("report", "r.csv", "--html", "r.html")
    page = (folder / "r.html").read_text()
    assert "mine, at operands: 4 number formats" in page
    assert "all six operands of the products" in page
    code, _, _ = inside("plot", "r.csv", "--kind", "top", "-o", "r.svg")
    assert code == 0
    assert "at operands" in (folder / "r.svg").read_text()
    for arguments, message in (
        (("--points", "dataflow"), "error: r.csv is of points operands, and so are its trainings"),
        (("--weight", "INT8"), "error: weight INT8 with a ranking at operands"),
        (("--scheme", "authors"), "error: scheme authors with a ranking at operands"),
    ):
        code, _, errors = inside("validate", "r.csv", "-m", "mine.py:net", "--count", "3", "-o", "val", *arguments)
        assert code == 2
        assert errors[-1].startswith(message)
        assert not (folder / "val").exists()
    gaps = pd.DataFrame({"network": ["mine"], "name": ["FP134"], "seed": [0], "gap": [0.1], "angle_E": [1.0]})
    gaps.to_csv(folder / "runs.csv", index=False)
    digest = hashlib.sha256((folder / "runs.csv").read_bytes()).hexdigest()
    beside = {"sha256": digest, "settings": {"points": "operands"}}
    (folder / "runs.csv.meta.json").write_text(json.dumps(beside))
    code, _, errors = inside("rank", "-m", "mine.py:net", "-f", "FP134", "--calibration", "runs.csv")
    assert code == 2
    assert "runs.csv: trainings at operands; gaps are told from those of data flow" in errors[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--points", "wires"), "points 'wires': allowed are dataflow, operands"),
        (("--points", "operands", "--scheme", "paper"), "scheme paper was given with points operands"),
        (("--points", "operands", "--one-term"), "one term was given with points operands"),
        (("--points", "operands", "--effects", "E|A"), "effect at operands 'E|A'"),
    ],
)
@pytest.mark.parametrize("command", ["rank", "measure"])
def test_what_operands_do_not_have_is_one_line(inside, command, arguments, message):
    code, _, errors = inside(command, "-m", "mine.py:net", "-f", "FP134", *arguments)
    assert code == 2
    assert errors[-1].startswith(f"error: {message}")
