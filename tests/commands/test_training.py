"""train and methods."""

import json
import re

import pandas as pd
import pytest
from safetensors.torch import load_file

from numeric_formats.files import hold
from predictor.risk import bundled_trainings
from tests.command import interrupted, run

FLOAT32 = [part for kind in ("-A", "-E", "-W", "-G", "--master") for part in (kind, "float32")]


def test_methods_and_training_with_one(folder):
    rows = json.loads(run("methods", "--json", cwd=folder).stdout)
    assert [row["name"] for row in rows] == ["octo", "lac", "dai8", "ui8", "lsq", "lsqplus", "slb"]
    table = run("methods", cwd=folder).stdout
    assert all(row["source"] in table for row in rows)
    assert max(map(len, table.splitlines())) <= 80
    told = run("methods", "lsq", cwd=folder).stdout
    assert re.search(r"^ weight_bits +4 *$", told, re.M)
    assert max(map(len, told.splitlines())) <= 80
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


def test_train_with_a_recipe(folder):
    (folder / "own.toml").write_text('base = "mxfp4"\n[dgrad]\nrounding = { dy = "stochastic" }\n')
    options = ("train", "-m", "mine.py:net", "--epochs", "1", "--recipe", "own.toml", "-o", "run")
    done = run(*options, cwd=folder)
    assert "recipe own: " in done.stdout
    recorded = json.loads((folder / "run" / "result.json").read_text())["recipe"]
    assert recorded["dgrad"]["dy"] == {"format": "MXFP4", "rounding": "stochastic"}
    assert run(*options, "--resume", cwd=folder).stdout == done.stdout
    for wrong, message in (
        (("-A", "FP134"), "recipe own was given together with activation: a recipe rounds operands of products alone"),
        (("--method", "lsq"), "together with method"),
        (("--resume", "--head"), "was made with head False, not True"),
    ):
        bad = run(*options, *wrong, cwd=folder, check=False)
        assert bad.returncode == 2
        assert message in bad.stderr


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
    assert refused("net", "--resume").startswith("error: run/checkpoint.safetensors is cut short or no checkpoint")
    checkpoint.write_bytes(content)
    assert inside("train", "-m", "mine.py:net", "--epochs", "2", "-o", "run", "--resume")[0] == 0
    assert checkpoint.read_bytes() == (folder / "whole" / "checkpoint.safetensors").read_bytes()


def test_what_a_training_is_held_against(folder, inside):
    """float32 from the same seed, made first and then found; not of other settings."""
    options = ("train", "-m", "mine.py:net", "--epochs", "2")
    code, first, _ = inside(*options, "-A", "INT4", "--baseline", "full", "-o", "few")
    assert code == 0
    made = (folder / "full" / "checkpoint.safetensors").stat().st_mtime_ns
    full = [row.split() for row in inside(*options, *FLOAT32)[1].splitlines() if re.match(r" +[12] ", row)]
    rows = [row.split() for row in first.splitlines() if re.match(r" +[12] ", row)]
    assert [row[3] for row in rows] == [row[1] for row in full]
    losses = pd.read_csv(folder / "few" / "epochs.csv")["loss"] / pd.read_csv(folder / "full" / "epochs.csv")["loss"]
    assert [row[4] for row in rows] == [f"{ratio - 1:+.2%}" for ratio in losses]
    assert inside(*options, "-A", "INT8", "--baseline", "full")[0] == 0
    assert (folder / "full" / "checkpoint.safetensors").stat().st_mtime_ns == made
    code, _, (line,) = inside(*options, "--rate", "0.01", "--baseline", "full")
    assert (code, "was made with rate 0.1, not 0.01" in line) == (2, True)
    code, _, (line,) = inside(*options, "--baseline", "full", "-o", "full")
    assert (code, line) == (2, "error: --baseline and --output are both full; they are two runs")


@pytest.mark.slow
def test_train_by_scheme_authors(folder, inside):
    command = ("train", "-m", "mine.py:net", "--epochs", "2", "-W", "INT4", "--hysteresis-epochs", "1", "-o", "run")
    code, out, errors = inside(*command, "--scheme", "authors,settling=4")
    assert (code, errors) == (0, [])
    assert "mine.py:net: finished" in out
    settings = json.loads((folder / "run/settings.json").read_text())
    assert (settings["scheme"], settings["hysteresis_epochs"]) == ("authors,settling=4", 1)
    parts = {"branches": True, "last_error": "current", "weight_scale": "delayed", "weight_channels": "log-and-int"}
    parts |= {"settling": 4, "rounded_decay": True, "all_parameters": True, "best_epoch": True, "two_terms": True}
    assert {key: settings[key] for key in parts} == parts
    assert pd.read_parquet(folder / "run/steps.parquet").flips_by_scale.notna().all()
    metrics = pd.read_csv(folder / "run/epochs.csv").metric
    assert json.loads((folder / "run/result.json").read_text())["metric"] == (
        None if metrics.isna().all() else metrics.max()
    )
    for given, message in (
        ("authors,branches=1", "branches '1': allowed are no, yes"),
        ("author", "scheme 'author': allowed are paper, current, authors"),
    ):
        code, _, errors = inside(*command, "--scheme", given, "--force")
        assert (code, len(errors)) == (2, 1)
        assert message in errors[0]


@pytest.mark.slow
def test_train_exports_what_a_method_trained(folder, inside):
    command = ("train", "-m", "mine.py:net", "--epochs", "1", "--method", "dai8", "-o", "run")
    code, out, _ = inside(*command, "--export", "net.onnx")
    assert code == 0
    assert out.splitlines()[-1].startswith("wrote net.onnx; in onnxruntime it differs from evaluation by ")
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


@pytest.mark.slow
def test_ctrl_c_in_a_training_says_how_to_go_on(folder):
    code, _, err = interrupted(
        *("train", "-m", "mine.py:endless", "--epochs", "10", "--checkpoint-every", "1", "-o", "run"),
        cwd=folder,
        after="step ",
    )
    assert code == 130, err
    assert err.endswith("interrupted; the same command with --resume goes on from the last checkpoint in run\n")


@pytest.mark.slow
def test_own_trainings_tell_gaps_too(inside):
    """From a ranking to trainings to a ranking: what one command writes, the next ones read."""
    ranked = ("rank", "-m", "mine.py:net", "-f", "FP134,INT8,FP143", "--minibatches", "1", "--force", "-o", "r.csv")
    assert inside(*ranked)[0] == 0
    trained = ("validate", "r.csv", "-m", "mine.py:net", "--count", "3", "--seeds", "1", "--epochs", "1", "-o", "val")
    assert inside(*trained)[0] == 0
    code, out, errors = inside(*ranked, "--calibration", "val/runs.csv")
    assert (code, [line for line in errors if line.startswith("error")]) == (0, [])
    bundled = bundled_trainings()
    names = [*bundled["network"].unique(), "mine"]
    told = f"from {len(bundled) + 3} trainings of {len(names)} networks ({', '.join(names)}), with 95% intervals"
    assert f"gap: told by the angle of AE {told}" in " ".join(out.split())
    assert inside("plot", "val/runs.csv", "--kind", "gap", "-o", "gap.png")[:2] == (0, "wrote gap.png\n")


def test_a_ranking_as_it_is_written_is_validated_by_its_own_scheme(inside):
    validate = ("validate", "r.csv", "-m", "mine.py:net", "--count", "3", "--seeds", "1", "--epochs", "1")
    for scheme, other in (("paper", "current"), ("authors", "paper"), ("current", "paper,branches=yes")):
        ranked = ("rank", "-m", "mine.py:net", "-f", "FP134,INT8,FP143", "--minibatches", "1", "--scheme", scheme)
        assert inside(*ranked, "-o", "r.csv", "--force")[0] == 0
        code, _, errors = inside(*validate, "-o", "other", "--scheme", other)
        assert code == 2
        assert errors[0].startswith(f"error: the ranking is of scheme {scheme}, the trainings are of scheme {other}")
    code, out, errors = inside(*validate, "-o", "val", "--scheme", "current")
    assert (code, errors) == (0, [])
    assert out.splitlines()[-1] == "wrote val/runs.csv and val/loss_against_angle.png"
