"""The command line in the tests' own process."""

import contextlib
import io
import os
import signal
import subprocess
import sys

import pytest

import cli
from tests.processes import FORMATS, finished, read_until, running


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


def process(*arguments, cwd, check=True):
    """The command in a process of its own."""
    return finished(FORMATS, *arguments, cwd=cwd, check=check)


def interrupted(*arguments, cwd, after):
    """The command in a process of its own that gets Ctrl-C once it has said something: exit code, output, errors
    after that."""
    with running(FORMATS, *arguments, cwd=cwd, TERM="dumb") as process:
        read_until(process.stderr, after)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        return process.returncode, out, err
