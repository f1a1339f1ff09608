"""The command line, as a user meets it."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import image
from safetensors.torch import load_file

import cli
from commands.options import split
from numeric_formats.files import hold
from predictor.effects import Effect
from predictor.measuring.context import Context
from predictor.measuring.store import Store, Stored
from tests.command import run

FORMATS = Path(sys.executable).with_name("formats")
ROOT = Path(__file__).parents[1]
MINE = """
import torch, time
import torch.nn.functional as F
from torch import nn
from workloads import Workload

torch.manual_seed(0)

def make(loss=None, scale=1.0, count=3):
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4))
    data = [(torch.randn(8, 1, 4, 4) * scale, torch.randint(0, 4, (8,))) for _ in range(count)]
    return Workload("mine", model, data, loss or (lambda m, b: F.cross_entropy(m(b[0]), b[1])))

def net():
    return make()

def damaged():
    return make(scale=float("nan"))

def slow():
    def loss(m, b):
        time.sleep(0.05)
        return F.cross_entropy(m(b[0]), b[1])
    return make(loss, count=40)

def number():
    return 3

def full_disk():
    import errno, os
    fsync, calls = os.fsync, []
    def fail(handle):
        calls.append(handle)
        if len(calls) == 9:  # the checkpoint of the second epoch
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)
    os.fsync = fail
    return net()

def other():
    made = make(count=2)
    object.__setattr__(made, "name", "other")
    return made

def flat():
    return make(lambda m, b: 0 * F.cross_entropy(m(b[0]), b[1]))
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


def process(*arguments, cwd, check=True):
    """The command in a process of its own, as a user starts it."""
    done = subprocess.run(
        [FORMATS, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )
    if check:
        assert done.returncode == 0, done.stderr
    return done


def test_list(folder):
    out = run("list", cwd=folder).stdout
    assert "498 formats" in out
    assert re.search(r"T8\.5x3@2 +8 +tapered +tensor +15 +4x2,5x3,4x7,3,2,1", out)
    rows = json.loads(run("list", "--bits", "7", "--family", "bm", "--json", cwd=folder).stdout)
    assert [row["name"] for row in rows] == ["BM06", "BM24", "BM33", "BM42", "BM51"]
    assert "4 formats" in run("list", "--bits", "8", "--family", "FP", cwd=folder).stdout
    assert re.search(
        r"E4M3 +8 +constant +4x15,3,2,1 +448 +0\.001953125 +NaN, -0 +E4M3FN",
        run("list", "--standards", cwd=folder).stdout,
    )


def test_show(folder):
    facts = json.loads(run("show", "fp134", "--top", "4", "--json", cwd=folder).stdout)
    assert facts["name"] == "FP134"
    assert (facts["largest"], facts["smallest_normal"], facts["smallest_positive"]) == (31.0, 0.25, 0.015625)
    assert (facts["epsilon"], facts["number_of_values"], facts["binades"]) == (0.0625, 255, 11)
    assert facts["values"][1] == {"code": 1, "value": 0.015625}
    text = run("show", "INT8", cwd=folder).stdout
    assert "7,6,5,4,3,2,1" in text
    assert re.search(r"0x7F +01111111 +1\.984375", text)
    assert re.search(
        r"special values +NaN 0x7F, 0xFF; -0 0x80\n", re.sub(r" +\n", "\n", run("show", "E4M3", cwd=folder).stdout)
    )
    assert "65279 values, too many to list" in run("show", "bfloat16", cwd=folder).stdout


def test_vectors(folder):
    out = run("vectors", "T8.5x3@2", "--top", "4", "-o", "rtl", cwd=folder).stdout
    assert out.split() == [
        "wrote",
        "rtl/T8_5x3_2_vectors.csv",
        "wrote",
        "rtl/T8_5x3_2_decode.hex",
        "wrote",
        "rtl/T8_5x3_2.h",
    ]
    assert (folder / "rtl" / "T8_5x3_2_vectors.csv").read_text().startswith("input_bits,output_code,output_bits\n")
    again = run("vectors", "T8.5x3@2", "-o", "rtl", cwd=folder, check=False)
    assert (again.returncode, again.stderr) == (
        2,
        "error: output rtl/T8_5x3_2_vectors.csv exists; use --force to replace it\n",
    )
    run("vectors", "T8.5x3@2", "-o", "rtl", "--force", cwd=folder)


def test_verify(folder):
    out = run("verify", "ml_dtypes", "--inputs", "3000", cwd=folder).stdout
    assert "12 roundings exact, 0 not" in out
    (folder / "casts.py").write_text(
        "import numpy as np\ndef sloppy(x):\n    return np.floor(x * 64 + 0.5).astype(np.float32) / 64\n"
    )
    done = run("verify", "casts:sloppy", "--as", "INT8", "--inputs", "3000", "--json", cwd=folder, check=False)
    assert done.returncode == 1
    wrong = {entry["category"] for entry in json.loads(done.stdout) if entry["mismatches"]}
    assert "ties" in wrong
    assert run("verify", "nothing", cwd=folder, check=False).returncode == 2


def test_help_has_examples_and_start_is_quick(folder):
    names = (
        "list",
        "show",
        "vectors",
        "verify",
        "rank",
        "plot",
        "measure",
        "attribute",
        "points",
        "search",
        "fit",
        "cost",
        "train",
        "methods",
        "quantize",
    )
    for command in names:
        out = run(command, "--help", cwd=folder).stdout
        assert "Example" in out
        assert "--help" in out
    code = "import sys; sys.argv = ['formats', 'list']\nimport cli\ntry: cli.run()\nexcept SystemExit: pass\nprint('numba' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, timeout=60, check=True
    )
    assert done.stdout.strip().endswith("False False")


def test_points(folder):
    out = run("points", "--model", "mine.py:net", "--exact", "3", cwd=folder).stdout
    assert re.search(r"0 +\(network\) +input +8 x 1 x 4 x 4 +two terms \(A\)", out)
    assert re.search(r"2 +3 +linear +8 x 4 +exact, two terms \(E\)", out)
    assert re.search(r"2 +relu +8 x 12 +chooses", out)
    assert "3 points" in out


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
    table = pd.read_json(folder / "m.json")
    assert len(table) == 12
    assert set(table.n) == {2}


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
    assert kept() == 2 * 2 * 3


@pytest.mark.parametrize("ending", ["csv", "json", "parquet"])
def test_rank_writes_and_plot_draws(folder, ending):
    result = folder / f"r.{ending}"
    done = run("rank", "--model", "mine.py:net", "--minibatches", "2", "--output", result, cwd=folder)
    assert re.search(r"rank +format +bits +angle E \(deg\) +angle A \(deg\) +angle AE \(deg\)", done.stdout)
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
    expected = r"3 points; 498 formats, at most 48 measured on at most 3 mini-batches: 186 quantized gradients \(exhaustive: 4482\), about"
    assert re.search(expected, out)
    assert not (folder / "never.csv").exists()
    arguments = ("-f", "FP134", "--minibatches", "1", "--exact", "1", "--one-term")
    out = run("rank", "--model", "mine.py:net", "--dry-run", *arguments, cwd=folder).stdout
    assert re.search(r"2 points; 1 formats, at most 1 measured on at most 1 mini-batches: 3 quantized", out)


def test_a_second_ranking_measures_nothing(folder):
    arguments = ("rank", "-m", "mine.py:net", "--minibatches", "2", "--cost")
    first = run(*arguments, "-o", "first.csv", cwd=folder).stdout
    assert re.search(r"BM25|FP134|T8", first)
    assert "degrees (97.5% confidence for each)" in first
    before = json.loads(run("cache", "info", "--json", cwd=folder).stdout)["measurements"]
    run(*arguments, "-o", "second.csv", cwd=folder)
    assert json.loads(run("cache", "info", "--json", cwd=folder).stdout)["measurements"] == before > 150
    assert (folder / "first.csv").read_text() == (folder / "second.csv").read_text()
    assert pd.read_csv(folder / "first.csv").gates.between(100, 10_000).all()


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


def test_rank_on_a_cluster_without_ray(folder, monkeypatch):
    (folder / "ray.py").write_text("raise ImportError('no Ray here')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    done = process("rank", "-m", "mine.py:net", "--cluster", "auto", cwd=folder, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: a cluster needs Ray, which is not installed: pip install 'numeric-formats[cluster]'\n"


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
    assert re.search(
        r"mine.py:net: 3 points; 15 rows, 46 quantized gradients on 2 mini-batches; about 0\.\d minutes", out
    )
    assert not (folder / "why.csv").exists()
    out = run(*arguments, "--top", "2", cwd=folder).stdout
    assert "what causes the angle of E4M3+E5M2" in out
    assert re.search(r"WAEG +all +\d+\.\d{3} ± \d+\.\d{3} +- +- +2", out)
    assert len(re.findall(r"%", out)) == 4 + 2 + 1
    table = pd.read_csv(folder / "why.csv")
    assert len(table) == 15
    assert json.loads((folder / "why.csv.meta.json").read_text())["settings"]["formats"].keys() == {"E4M3+E5M2"}
    assert image.imread(folder / "why.png").shape[1] == 1200


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
    run(*arguments, "--sweep", "headroom=0,1", "--sweep", "scale=floor,rceil", cwd=folder)
    suffixes = ("", "/rceil", "/headroom1", "/rceil/headroom1")
    table = pd.read_csv(folder / "r.csv")
    assert set(table.name) == {name + suffix for name in ("FP134", "BM43") for suffix in suffixes}
    assert {"angle_AE", "angle_WAE"} <= set(table.columns)
    assert table.angle_AE.is_monotonic_increasing


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
        [0, 1],
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


def test_bad_input_is_one_line_and_exit_code_two(folder, inside):
    (folder / "there.csv").write_text("x\n")
    (folder / "file").write_text("")
    cases = [
        (("rank", "-m", "mine.py:net", "-f", "FP13"), "unknown format 'FP13'; did you mean FP143, FP134"),
        (("show", "FP999"), "unknown format 'FP999'"),
        (("rank", "-m", "resnet81"), "unknown model 'resnet81'; did you mean resnet18"),
        (
            ("rank", "-m", "mine.py:absent"),
            "has no function 'absent'; it defines make, net, damaged, slow, number, full_disk, other, flat",
        ),
        (("rank", "-m", "mine.py:number"), "returned int"),
        (("rank", "-m", "nofile.py:net"), "there is no file nofile.py"),
        (("rank", "-m", "mine.py:net", "-o", "there.csv"), "output there.csv exists; use --force"),
        (("rank", "-m", "mine.py:net", "-o", "file/r.csv"), "cannot be written"),
        (("rank", "-m", "mine.py:net", "-o", "r.txt"), "must end in .csv, .json, .parquet"),
        (("rank", "-m", "mine.py:net", "--minibatches", "0"), "0 mini-batches: at least 1"),
        (("rank", "-m", "mine.py:net", "--minibatches", "7"), "7 mini-batches were asked for; workload mine has 3"),
        (("rank", "-m", "mine.py:net", "--batch-size", "4"), "ready made"),
        (("rank", "-m", "mine.py:damaged"), "the loss of workload mine is nan in full precision"),
        (("rank", "-m", "mine.py:flat"), "the full-precision gradient is zero on a mini-batch"),
        (
            ("rank", "-m", "mine.py:net", "-m", "mine.py:other", "--minibatches", "3"),
            "3 mini-batches were asked for; workload other has 2",
        ),
        (
            ("rank", "-m", "mine.py:net", "--modle", "x"),
            "No such option: --modle (Possible options: --model); see formats rank --help",
        ),
        (("rank",), "Missing option '--model' / '-m'; see formats rank --help"),
        (("show", "FP134", "--top", "x"), "Invalid value for '--top'"),
        (("shwo",), "No such command 'shwo'"),
        (
            ("train", "-m", "resnet20", "--epochs", "1", "--batch-size", "20000"),
            "workload resnet20 has no mini-batches of 20000",
        ),
        (("train", "-m", "mine.py:net", "--epochs", "1", "-o", "file/run"), "file/run: Not a directory"),
        (("rank", "-m", "mine.py:net", "--effects", "E,Q"), "effect 'Q': allowed are E, A, AE"),
        (("rank", "-m", "mine.py:net", "--bits", "5"), "5 bits: the catalogue has 8, 7, 6"),
        (("list", "--family", "posit"), "the catalogue has INT, FP, tapered, BM"),
        (("list", "--standards", "--bits", "8"), "--standards lists all standards"),
        (("show", "NVFP4", "--top", "1"), "the values of NVFP4 are shown at top exponent 2 only"),
        (("plot", "none.csv"), "there is no result file none.csv"),
        (("plot", "there.csv"), "has no column 'name'"),
        (("measure", "-m", "mine.py:net", "-f", ","), "no format was given"),
        (("attribute", "-m", "mine.py:net", "-f", "FP134", "--plot", "why.gif"), "must end in .png, .svg, .pdf"),
        (("plot", "there.csv", "none.csv"), "2 results, of which there.csv is no folder"),
        (("plot", "."), "holds no settings.json; a folder is needed"),
        (("rank", "-m", "mine.py:net", "--sweep", "width=8"), "sweep 'width=8': an axis is headroom="),
        (("search", "-m", "mine.py:net", "--headroom", "a"), "--headroom 'a': whole numbers"),
        (
            ("search", "-m", "mine.py:net", "--average-bits", "3"),
            "an average of 3.0 bits: the narrowest allowed format has 4",
        ),
        (("rank", "-m", "mine.py:net", "--device", "cuda:99"), "device 'cuda:99': torch "),
        (("measure", "-m", "mine.py:net", "-f", "FP134", "--device", "gpu"), "device 'gpu': torch "),
        (("search", "-m", "mine.py:net", "--device", "gpu"), "device 'gpu': torch "),
        (("rank", "-m", "mine.py:net", "--workers", "0"), "0 workers: at least 1"),
        (("rank", "-m", "mine.py:net", "--workers", "2", "--cluster", "auto"), "give one of the two"),
        (("train", "-m", "mine.py:net", "--epochs", "1", "--export", "net.onnx"), "--export is for --method"),
        (
            ("train", "-m", "mine.py:net", "--epochs", "1", "--method", "lsq", "--export", "net.pt"),
            "names that end in .safetensors or .onnx",
        ),
        (("fit", "there.csv"), "tensors are read from .npz, .npy, .safetensors"),
    ]
    for arguments, message in cases:
        code, _, errors = inside(*arguments)
        assert (code, len(errors)) == (2, 1), (arguments, errors)
        assert message in errors[0], (arguments, errors)
    # As a process of its own does it.
    done = process(*cases[0][0], cwd=folder, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert cases[0][1] in done.stderr
    assert (folder / "there.csv").read_text() == "x\n"
    assert not (folder / "r.txt").exists()


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


def read_until(process, text):
    """Wait until a command that runs has said this."""
    seen = ""
    while text not in seen:
        line = process.stderr.readline()
        assert line, seen
        seen += line


def test_ctrl_c_keeps_what_was_measured(folder):
    command = [
        FORMATS,
        "rank",
        "-m",
        "mine.py:slow",
        "-f",
        "FP134,FP143,INT8,BM43",
        "--minibatches",
        "40",
        "-o",
        "r.csv",
    ]
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TERM": "dumb"},
    )
    # The first tenth has been measured once a line says so.
    read_until(process, "measure 16/160")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "ended early by an interrupt" in out
    table = pd.read_csv(folder / "r.csv")
    assert len(table) == 4
    assert 0 < table.n_AE.sum() < 160
    assert not json.loads((folder / "r.csv.meta.json").read_text())["settings"]["complete"]


def test_ctrl_c_in_a_training_says_how_to_go_on(folder):
    command = [FORMATS, "train", "-m", "mine.py:slow", "--epochs", "40", "--checkpoint-every", "1", "-o", "run"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    read_until(process, "step ")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.endswith("interrupted; the same command with --resume goes on from the last checkpoint in run\n")


def test_ctrl_c_keeps_the_rows_that_were_attributed(folder):
    command = [FORMATS, "attribute", "-m", "mine.py:slow", "-f", "FP134", "--minibatches", "10", "-o", "why.csv"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    read_until(process, "measure 46/230")  # the first mini-batch has been attributed
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "ended early by an interrupt" in out
    table = pd.read_csv(folder / "why.csv")
    assert len(table) == 15
    assert table.n.max() < 10
    assert not json.loads((folder / "why.csv.meta.json").read_text())["settings"]["complete"]


def test_cache(folder, monkeypatch):
    monkeypatch.setenv("FORMATS_CACHE", str(folder / "cache"))
    path = folder / "cache" / "measurements.sqlite"
    context = Context("w" * 64, "n", "l", "p", "torch 2", "cpu", "contiguous", 3)
    with Store.open() as store:
        store.put(context, "batch", [(name, Effect.E, Stored(("a",), np.ones((1, 3)), 1.0)) for name in ("f", "g")])
    info = json.loads(run("cache", "info", "--json", cwd=folder).stdout)
    assert (info["path"], info["measurements"], info["formats"], info["minibatches"]) == (str(path), 2, 2, 1)
    assert (info["contexts"][0]["threads"], info["contexts"][0]["measurements"]) == (3, 2)
    text = run("cache", "info", cwd=folder).stdout
    assert "2 measurements of 2 formats on 1 mini-batches" in text
    assert re.search(r"w{12} +torch 2 +cpu +3 +2", text)
    refused = run("cache", "clear", cwd=folder, check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "say --yes" in refused.stderr
    assert "forgot 2 measurements" in run("cache", "clear", "--yes", cwd=folder).stdout
    assert json.loads(run("cache", "info", "--json", cwd=folder).stdout)["measurements"] == 0
    path.write_text("damaged" * 1000)
    done = run("cache", "info", cwd=folder)
    assert "0 measurements" in done.stdout
    assert "1 older or damaged files set aside" in done.stdout
    assert done.stderr.startswith("warning: the store ")


def test_folders_of_the_same_names_in_the_way(folder):
    for name in ("formats", "search"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("")
    assert "498 formats" in process("list", cwd=folder).stdout
    assert "FP134" in process("rank", "-m", "mine.py:net", "-f", "FP134", "--minibatches", "1", cwd=folder).stdout
    done = subprocess.run(
        [sys.executable, "-c", "from predictor import measure"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert f"needs its own package 'formats', but {folder}/formats is found first: rename that folder" in done.stderr


def test_pairs_of_written_out_profiles_are_told_from_lists():
    profile = "profile:8:4x2,5x3,4x7,3,2,1"
    for names in (
        [f"FP134+{profile}", "INT8"],
        [f"{profile}+{profile}", f"FP143+{profile}"],
        [f"{profile}+INT8", profile],
    ):
        assert split(",".join(names)) == names


def test_methods_and_training_with_one(folder):
    rows = json.loads(run("methods", "--json", cwd=folder).stdout)
    assert [row["name"] for row in rows] == ["octo", "lac", "dai8", "ui8", "lsq", "lsqplus", "slb"]
    table = run("methods", cwd=folder).stdout
    assert all(row["source"] in table for row in rows)
    options = ("train", "-m", "mine.py:net", "--epochs", "1", "--method", "lsq", "--method", "ui8", "-o", "run")
    run(*options, "--option", "weight_bits=3", "--option", "format=FP134", cwd=folder)
    [lsq, ui8] = json.loads((folder / "run/settings.json").read_text())["method"]
    assert (lsq["name"], lsq["weight_bits"], ui8["name"], ui8["format"]) == ("lsq", 3, "ui8", "FP134")
    for wrong, message in (
        (("--option", "colour=red"), "option 'colour=red': KEY=VALUE is needed"),
        (("--method", "dai8"), "ui8 and dai8: both set the thresholds"),
    ):
        bad = run(*options, *wrong, cwd=folder, check=False)
        assert bad.returncode == 2
        assert message in bad.stderr
        assert "Traceback" not in bad.stderr


def test_train(folder):
    options = ("train", "-m", "mine.py:net", "--epochs", "2", "-W", "LOG4", "-o", "run")
    done = run(*options, cwd=folder)
    assert "mine.py:net: finished" in done.stdout
    assert "step 6/6, epoch 2/2, loss " in done.stderr
    assert json.loads((folder / "run" / "settings.json").read_text())["weight"] == "LOG4"
    assert len(pd.read_parquet(folder / "run" / "steps.parquet")) == 6
    assert set(pd.read_parquet(folder / "run" / "layers").kind) == {"W", "A", "E", "G"}
    again = run(*options, cwd=folder, check=False)
    assert again.returncode == 2
    assert "use --resume to go on from it or --force to replace it" in again.stderr
    assert run(*options, "--resume", cwd=folder).stdout == done.stdout
    bad = run("train", "-m", "mine.py:damaged", "--epochs", "1", cwd=folder, check=False)
    assert bad.returncode == 1
    assert "diverged: the loss is nan at step 1" in bad.stdout


@pytest.fixture
def inside(folder, monkeypatch, capsys):
    """Runs the command in this process, which has loaded torch already: exit code, output, lines of errors without
    those of progress."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(os, "fsync", os.fsync)  # put back after full_disk

    def run_inside(*arguments):
        monkeypatch.setattr(sys, "argv", ["formats", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.run()
        out, err = capsys.readouterr()
        return ended.value.code, out, [line for line in err.splitlines() if not line.startswith("step ")]

    return run_inside


def test_train_in_a_folder_that_cannot_be_gone_on_with(folder, inside):
    def refused(model, *more):
        code, _, errors = inside("train", "-m", f"mine.py:{model}", "--epochs", "2", "-o", "run", *more)
        assert code == 2
        (line,) = errors
        return line

    assert inside("train", "-m", "mine.py:net", "--epochs", "2", "-o", "whole")[0] == 0
    checkpoint = folder / "run" / "checkpoint.safetensors"
    assert refused("full_disk") == "error: run/checkpoint.safetensors: No space left on device"
    with hold(folder / "run"):
        assert refused("net", "--resume").startswith("error: run is being written by another process")
    assert "run/checkpoint.safetensors was made with workload 'mine', not 'other'" in refused("other", "--resume")
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[:-9])
    assert refused("net", "--resume").startswith(
        "error: run/checkpoint.safetensors is cut short or no checkpoint of `train`"
    )
    checkpoint.write_bytes(content)
    assert inside("train", "-m", "mine.py:net", "--epochs", "2", "-o", "run", "--resume")[0] == 0
    assert checkpoint.read_bytes() == (folder / "whole" / "checkpoint.safetensors").read_bytes()


def test_train_exports_what_a_method_trained(folder, inside):
    command = ("train", "-m", "mine.py:net", "--epochs", "1", "--method", "dai8", "-o", "run")
    code, out, _ = inside(*command, "--export", "net.onnx")
    assert (code, out.splitlines()[-1]) == (0, "wrote net.onnx")
    assert (folder / "net.onnx").stat().st_size > 1000
    # Of the finished run too, without training again.
    assert inside(*command, "--resume", "--export", "net.safetensors")[0] == 0
    assert any(key.endswith(".codes") for key in load_file(folder / "net.safetensors"))


def test_train_that_diverges_says_so_and_keeps_its_checkpoint(folder, inside):
    arguments = (
        "train",
        "-m",
        "mine.py:net",
        "--epochs",
        "2",
        "--checkpoint-every",
        "1",
        "--rate",
        "1e30",
        "-o",
        "run",
    )
    code, out, errors = inside(*arguments)
    assert (code, errors) == (1, [])
    assert re.search(r"diverged: the loss is .* at step \d; the last checkpoint is in run", " ".join(out.split()))
    assert json.loads((folder / "run" / "result.json").read_text())["outcome"] == "diverged"
    # It is still there, and leads to the same end.
    assert inside(*arguments, "--resume") == (code, out, errors)


def test_plot_of_training_runs(folder, inside):
    for seed in ("0", "1"):
        assert inside("train", "-m", "mine.py:net", "--epochs", "2", "--seed", seed, "-o", f"run{seed}")[0] == 0
    assert inside("plot", "run0") == (0, "wrote run0/flips.png\n", [])
    assert image.imread(folder / "run0" / "flips.png").shape[:2] == (750, 1200)
    assert inside("plot", "run0", "run1") == (2, "", ["error: 2 runs: say with --output where their plot goes"])
    assert inside("plot", "run0", "run1", "-o", "flips.svg")[0] == 0
    assert "mine: flips of quantized weights" in (folder / "flips.svg").read_text()


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
    assert {"mean_rank", "angle_worst", "rank@mine.py:net", "angle_E@mine.py:other", "gates"} <= set(table.columns)
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


def test_plot_of_profiles_and_tensors(folder, inside):
    assert inside("plot", "--profiles", "FP134,profile:8:4x2,5") == (0, "wrote profiles.png\n", [])
    np.savez(folder / "dump.npz", w=np.linspace(-1, 1, 99, dtype=np.float32))
    assert inside("plot", "dump.npz", "--profiles", "FP134,INT8") == (0, "wrote dump.png\n", [])
    assert image.imread(folder / "dump.png").shape[1] == 1200
    (folder / "r.csv").write_text("name\n")
    for arguments, message in (
        (("plot",), "nothing to draw was given"),
        (("plot", "r.csv", "--profiles", "FP134"), "--profiles are drawn alone, or over tensors from .npz"),
        (("plot", "r.csv", "--kind", "pie"), "kind 'pie': allowed are angles, top, pareto, layers"),
        (("report", "r.csv"), "has no column 'rank'"),
        (("report", "r.csv", "--html", "r.txt"), "must end in .html"),
    ):
        code, _, errors = inside(*arguments)
        assert (code, len(errors)) == (2, 1), (arguments, errors)
        assert message in errors[0]


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


def test_quantize_tells_steps_and_layers_and_exports(folder, inside):
    quick = ("quantize", "-m", "mine.py:net", "-W", "INT4", "--adaround-iterations", "4", "--minibatches", "1")
    code, out, _ = inside(*quick, "-o", "run", "--export", "net.safetensors")
    assert code == 0
    assert "weights by AdaRound" in out
    assert "the costliest first" in out
    assert out.splitlines()[-2:] == ["wrote run", "wrote net.safetensors"]
    assert any(key.endswith(".codes") for key in load_file(folder / "net.safetensors"))
    code, out, _ = inside(*quick, "-o", "run", "--resume", "--json")
    assert code == 0
    assert json.loads(out) == json.loads((folder / "run" / "result.json").read_text())
    for more, expected in (
        (
            ("-o", "run"),
            "error: run holds an earlier run; go on with resume (--resume) or replace it with force (--force)",
        ),
        (
            ("-o", "run", "--resume", "--seed", "1"),
            "error: run/settings.json was made with seed 0, not 1; give the same, or start with --force",
        ),
        (("--no-fold",), "error: without folding there is nothing to equalize or absorb; switch those off too"),
        (
            ("-W", "NVFP4"),
            "error: format NVFP4 has no single scale for a clipping threshold to set; allowed are formats with one a tensor",
        ),
    ):
        code, _, errors = inside(*quick, *more)
        assert (code, errors) == (2, [expected])
