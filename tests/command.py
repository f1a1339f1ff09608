"""The command line in the tests' own process."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import cli

FORMATS = Path(sys.executable).with_name("formats")
"""The command as a user starts it, in a process of its own."""
HUNG = 600
"""Seconds that only a process that hangs takes."""


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
    done = subprocess.run(
        [FORMATS, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=HUNG, check=False
    )
    if check:
        assert done.returncode == 0, done.stderr
    return done


def interrupted(*arguments, cwd, after):
    """The command in a process of its own that gets Ctrl-C once it has said something: exit code, output, errors
    after that."""
    process = subprocess.Popen(
        [FORMATS, *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TERM": "dumb"},
    )
    seen = ""
    while after not in seen:
        line = process.stderr.readline()
        assert line, seen
        seen += line
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=HUNG)
    return process.returncode, out, err
