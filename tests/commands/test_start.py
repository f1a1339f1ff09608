"""How the command line starts, and what it says of itself."""

import builtins

import pytest
from typer.main import get_command

import cli
from numeric_formats import __version__
from tests.command import process, run
from tests.processes import python

COMMANDS = get_command(cli.app).commands
SINGLE = [name for name, command in COMMANDS.items() if not hasattr(command, "commands")]
GROUPS = [name for name in COMMANDS if name not in SINGLE]


def test_every_command_has_help_with_examples(tmp_path):
    assert GROUPS == ["recipes", "bench", "cache"]
    calls = [[name] for name in SINGLE] + [[group, name] for group in GROUPS for name in COMMANDS[group].commands]
    assert len(calls) == 27
    for call in calls:
        out = run(*call, "--help", cwd=tmp_path).stdout
        assert "Example" in out
        assert "--help" in out


def test_help_lists_commands_in_a_sentence_each(tmp_path):
    out = " ".join(run("--help", cwd=tmp_path).stdout.replace("│", " ").split())
    assert "vectors Write what a hardware engineer needs: test vectors (CSV), a decode table ($readmemh) and a C" in out
    assert run(cwd=tmp_path, check=False).stdout.split() == run("--help", cwd=tmp_path).stdout.split()


def test_version(tmp_path):
    assert run("--version", cwd=tmp_path).stdout == f"{__version__}\n"


LONG = ("torch", "pandas", "matplotlib", "numba", "scipy")
DRAWS = ("plot", "--profiles", "FP134", "-o", "p.svg")


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        *((short, LONG) for short in (("--help",), ("list",), ("cost", "FP134", "INT8"), ("cache", "info"))),
        (DRAWS, ("torch", "numba", "scipy")),
    ],
)
def test_what_takes_long_to_load_is_not_loaded_for_little(arguments, names, tmp_path):
    code = (
        f"import sys; sys.argv = ['formats', *{arguments}]\nimport cli\ntry: cli.run()\nexcept SystemExit: pass\n"
        f"print([name for name in {names} if name in sys.modules])"
    )
    assert python("-c", code, cwd=tmp_path).stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("plot", "none.csv"), "there is no result file none.csv"),
        (("report", "none.csv"), "there is no result file none.csv"),
        (("compare", "none.csv", "none.csv"), "there is no result file none.csv"),
        (("measure", "-m", "resnet20", "-f", "FP134,NVFP4/stochastic"), "NVFP4/stochastic"),
        (("rank", "-m", "resnet20", "-f", "FP8"), "that may be E4M3/tensor"),
        (
            ("rank", "-m", "resnet20", "-f", "posit8,INT8,FP999"),
            "that may be posit<8,1> or posit<8,2>; unknown format 'FP9",
        ),
        (("rank", "-m", "resnet20", "--products", "64"), "--products 64 says how costs are counted; add --cost"),
        (("rank", "-m", "resnet20", "--effects", "E,Q"), "effect 'Q'"),
        (("rank", "-m", "none.py:net"), "there is no file none.py"),
        (("attribute", "-m", "resnet20", "-f", "FP134", "--scheme", "mine"), "scheme 'mine'"),
        (("train", "-m", "resnet20", "--epochs", "1", "-A", "FP999"), "unknown format 'FP999'"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_loaded(arguments, said, tmp_path, monkeypatch):
    loaded = builtins.__import__

    def refused(name, *rest, **named):
        assert name.partition(".")[0] not in ("torch", "pandas", "matplotlib", "scipy", "workloads"), name
        return loaded(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", refused)
    done = run(*arguments, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.slow
def test_folders_of_the_same_names_in_the_way(folder):
    for name in ("formats", "search"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("")
    assert "498 formats" in process("list", cwd=folder).stdout
    assert "FP134" in process("rank", "-m", "mine.py:net", "-f", "FP134", "--minibatches", "1", cwd=folder).stdout
    done = python("-c", "from predictor import measure", cwd=folder, check=False)
    assert f"needs its own package 'formats', but {folder}/formats is found first: rename that folder" in done.stderr
