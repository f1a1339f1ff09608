"""The README is short, its Python and its commands run, and what it names exists."""

import re

from typer.main import get_command

import cli
from tests.documents import ROOT, blocks, check_page
from workloads import Workload

README = (ROOT / "README.md").read_text()
KNOWN = get_command(cli.app).commands


def test_its_size():
    lines = README.splitlines()
    assert len(lines) <= 130
    assert [line for line in lines if len(line) > 120] == []


def test_what_it_says_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = check_page(README, "README.md", tmp_path)
    assert isinstance(names["net"](), Workload)
    assert names["q"].decode().shape == (3,)
    assert (tmp_path / "mine.csv").exists()
    assert [block.text.split()[0] for block in blocks(README) if not block.run] == ["git"]


def test_commands_exist():
    named = re.findall(r"`formats ([a-z]+)([^`\n]*)|^formats ([a-z]+)(.*)$", README, re.M)
    commands = [(a or b, c or d) for a, c, b, d in named]
    assert {"rank", "measure", "plot", "train", "quantize", "verify"} <= {name for name, _ in commands}
    for name, rest in commands:
        options = {option for parameter in KNOWN[name].params for option in parameter.opts}
        assert set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest.split("#")[0])) <= options, name


def test_options_exist():
    known = {option for command in KNOWN.values() for parameter in command.params for option in parameter.opts}
    assert set(re.findall(r"`(--[a-z-]+)", README)) <= known | {"--help"}


def test_targets_of_make_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.M)) <= targets


def test_files_that_are_named_exist():
    targets = re.findall(r"\]\(([^)#:]+)\)", README)
    assert len(targets) > 20
    for target in targets:
        assert (ROOT / target).is_file(), target


def test_what_make_rank_is_said_to_print_was_printed():
    printed = (ROOT / "benchmarks" / "ranking_resnet18.txt").read_text().splitlines()
    shown = next(block.text for block in blocks(README) if block.language == "text").splitlines()
    assert len(shown) == 8
    assert [line for line in shown if line != "..." and line not in printed] == []
