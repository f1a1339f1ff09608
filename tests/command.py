"""The command line in the tests' own process."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cli

FORMATS = Path(sys.executable).with_name("formats")
"""The command as a user starts it, in a process of its own."""


def run(*arguments, cwd, check=True):
    """A command in this process, which has loaded and compiled already what takes a new one most of its time."""
    out, err, before = io.StringIO(), io.StringIO(), (os.getcwd(), sys.argv)
    os.chdir(cwd)
    sys.argv = ["formats", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
            cli.run()
    finally:
        os.chdir(before[0])
        sys.argv = before[1]
    code = ended.value.code or 0
    if check:
        assert code == 0, err.getvalue()
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())
