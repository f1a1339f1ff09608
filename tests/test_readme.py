"""The README's Python runs, and the commands that it names exist."""

import re
from pathlib import Path

from typer.main import get_command

import cli
from tests.documents import run_python
from workloads import Workload

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_python_blocks_run():
    names = run_python(README, "README.md")
    assert isinstance(names["net"](), Workload)
    assert names["q"].decode().shape == (3,)


def test_commands_exist():
    known = get_command(cli.app).commands
    named = set(re.findall(r"formats (list|show|[a-z]+) (?:--|[A-Z]|mine|emulator|gradient)", README))
    assert {"rank", "show", "verify", "vectors", "plot"} <= named
    assert named <= set(known) | {"bench"}


def test_files_that_are_named_exist():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (Path(__file__).parents[1] / target).exists(), target
