"""The commands about recipes."""

import json

import pandas as pd

from tests.command import run


def test_list_and_show(folder):
    listed = run("recipes", "list", cwd=folder).stdout
    assert "18 recipes" in listed
    assert "nvfp4: dgrad: dy stochastic; wgrad: dy stochastic, hadamard 16" in listed
    assert "fp8-delayed: delayed scales" in listed
    rows = json.loads(run("recipes", "list", "--json", cwd=folder).stdout)
    assert rows[1]["name"] == "fp8-tensor"
    assert rows[1]["dy"] == "E5M2/real"
    shown = run("recipes", "show", "nvfp4", cwd=folder).stdout.split("\n")
    assert ["wgrad", "dy", "NVFP4", "stochastic", "hadamard", "16"] in [line.split() for line in shown]
    (folder / "own.toml").write_text('base = "mxfp8"\n[wgrad]\nx = "float32"\n')
    found = json.loads(run("recipes", "show", "own.toml", "--json", cwd=folder).stdout)
    assert (found["name"], found["wgrad"]["x"]["format"], found["dgrad"]["w"]["format"]) == (
        *("own", "float32", "MXFP8-E4M3"),
    )


def test_a_table_with_its_sidecar(folder):
    arguments = ("recipes", "-m", "mine.py:net", "-r", "mxfp4,E4M3/real", "--head", "--minibatches", "2")
    planned = run(*arguments, "--dry-run", cwd=folder).stdout
    assert "3 recipes, 2 products with 100.0% of the multiply-accumulates; 6 gradients" in planned
    assert "memory at the peak: " in planned
    out = run(*arguments, "--by", "product", "-o", "found.csv", cwd=folder).stdout
    assert "wrote found.csv" in out
    table = pd.read_csv(folder / "found.csv")
    # Three recipes, and of two their products; the first layer's input needs no gradient, the second's does.
    assert len(table) == 3 + 2 * 3
    assert table["rank"].equals(table["rank_by_projection"])
    assert set(table["recipe"]) == {"bf16", "mxfp4", "E4M3/real"}
    settings = json.loads((folder / "found.csv.meta.json").read_text())["settings"]
    assert settings["recipes"].keys() == {"bf16", "mxfp4", "E4M3/real"}
    assert (settings["draws"], settings["head"], settings["minibatches"]) == (4, True, 2)
    assert settings["order"] == "projection"
    run("plot", "found.csv", cwd=folder)
    assert (folder / "found.png").stat().st_size
    of_one = run("table", "found.csv", "--formats", "mxfp4", "--columns", "rank,recipe,projection", cwd=folder).stdout
    rows = [line.split() for line in of_one.splitlines()]
    assert ["rank", "recipe", "projection"] in rows
    assert [row[1] for row in rows if row[:1] in (["1"], ["2"], ["3"])] == ["mxfp4"]
    bad = run("table", "found.csv", "--formats", "nvfp4", cwd=folder, check=False)
    assert bad.stderr.startswith("error: found.csv has no nvfp4; it has bf16, ")
    by_angle = run(*arguments, "--order", "angle", cwd=folder).stdout
    assert "rank by projection" in by_angle
    assert "turns the mean gradient least" in by_angle or "keeps the gradient's length" in by_angle


def test_the_table_of_the_first_minibatch_comes_first(folder, monkeypatch):
    """Where measuring takes long, and there are more."""
    arguments = ("recipes", "-m", "mine.py:net", "-r", "mxfp8", "--head", "--no-store", "--minibatches")
    assert "after the first mini-batch" not in run(*arguments, 2, cwd=folder).stdout
    monkeypatch.setattr("commands.recipes.PATIENCE", 0.0)
    first, _, last = (
        run(*arguments, 2, cwd=folder).stdout.partition("after the first mini-batch:")[2].partition("gates: of")
    )
    alone, _, verdict = run(*arguments, 1, cwd=folder).stdout.partition("verdict: ")
    assert verdict.startswith("nothing is decided by 1 mini-batch, 3 more would give intervals; mxfp8 keeps ")
    assert [line for line in first.splitlines() if "mxfp8" in line] == [
        line for line in alone.splitlines() if "mxfp8" in line
    ]
    assert "mxfp8" in last
    assert "after the first mini-batch" not in alone
    # What is measured to choose by is not in it.
    first = run(*arguments, 2, "--keep", "80%", cwd=folder).stdout.partition("gates: of")[0]
    assert len([line for line in first.splitlines() if "mxfp8" in line]) == 1


def test_keep(folder):
    arguments = ("recipes", "-m", "mine.py:net", "-r", "mxfp4", "--head", "--minibatches", "2")
    lines = run(*arguments, "--keep", "0%", cwd=folder).stdout.splitlines()
    assert "mxfp4, 0.0% kept: nothing that saves any fits" in lines
    out = run(*arguments, "--by", "layer", "--keep", "80%", cwd=folder).stdout
    [line] = [line for line in out.splitlines() if "% kept: " in line]
    names = line.partition("% kept: ")[2]
    assert "layers kept in bfloat16" in out
    # The last table, after all layers; the baseline is not taken apart.
    assert out.index("layers kept in bfloat16") > out.index("without")
    assert not [line for line in out.splitlines() if line.split()[:1] == ["bf16"]]
    again = run(*arguments, "--keep", names, cwd=folder).stdout
    assert line in again.splitlines()
    trained = ("train", "-m", "mine.py:net", "-r", "mxfp4", "--head", "--epochs", "1", "--keep", names)
    assert f"; kept in bf16: {names.partition(',')[0]}" in run(*trained, cwd=folder).stdout
    bad = run(*arguments, "--keep", "nothing", cwd=folder, check=False)
    assert bad.returncode == 2
    assert "no product of layer 'nothing' is changed by a recipe" in bad.stderr


def test_recipes_are_trained(folder):
    run("recipes", "-m", "mine.py:net", "-r", "mxfp4,E4M3/real", "--minibatches", "2", "-o", "found.csv", cwd=folder)
    arguments = ("recipes", "validate", "found.csv", "-m", "mine.py:net", "-o", "out", "--epochs", "1", "--seeds", "1")
    done = run(*arguments, cwd=folder).stdout
    assert "angle_of_mean against the gap: Spearman" in done
    runs = pd.read_csv(folder / "out" / "runs.csv")
    assert sorted(runs["recipe"]) == ["E4M3/real", "bf16", "mxfp4"]
    assert (folder / "out" / "E4M3_real-0" / "result.json").exists()
    bad = run(*arguments, "--recipe", "mxfp8", cwd=folder, check=False)
    assert bad.returncode == 2
    assert "recipe 'mxfp8' is not in the table" in bad.stderr


def test_what_is_wrong_is_one_line(inside):
    for arguments, message in (
        ((), "no network was given: say --model, or recipes list, show NAME or validate TABLE"),
        (("-m", "mine.py:net", "-r", "mxfp9"), "unknown recipe 'mxfp9'; did you mean mxfp8, mxfp4, "),
        (("-m", "mine.py:net", "-r", "bad.toml"), "bad.toml"),
        (("-m", "mine.py:net", "--order", "bias"), "order 'bias': allowed are projection, angle"),
        (("-m", "mine.py:net", "--by", "layers"), "by 'layers': allowed are product, layer, both"),
        (("show", "E4M4/real"), "unknown recipe 'E4M4/real'"),
    ):
        code, out, errors = inside("recipes", *arguments)
        assert (code, out, len(errors)) == (2, "", 1), errors
        assert message in errors[0]
