"""Processes that tests start: what they do is waited for, and no limit of time is one that a busy machine can reach."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

ROOT = Path(__file__).parents[1]
FORMATS = Path(sys.executable).with_name("formats")
"""The command as a user starts it."""
PATIENCE = 1800.0
"""Seconds after which what is waited for counts as hung; the only limit of time in tests."""


def installed(program: str) -> str:
    """Where a program is that not every machine has; where it is missing, the test is skipped."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def finished(*command: Any, cwd: Path = ROOT, check: bool = True, **variables: Any) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, at its end; variables are set in its environment."""
    environment = os.environ | {name: str(value) for name, value in variables.items()}
    words = list(map(str, command))
    done = subprocess.run(
        words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    if check:
        assert done.returncode == 0, done.stderr
    return done


def python(*arguments: Any, cwd: Path = ROOT, check: bool = True, **variables: Any) -> subprocess.CompletedProcess[str]:
    """The same for Python with these arguments."""
    return finished(sys.executable, *arguments, cwd=cwd, check=check, **variables)


@contextmanager
def running(*command: Any, cwd: Path = ROOT, alone: bool = False, **variables: Any) -> Iterator[subprocess.Popen[str]]:
    """A command that runs meanwhile, with pipes to all its streams; killed at the end of the block, or when it hangs.

    Args:
        alone: it leads a process group of its own, so that a signal can be sent to all that it starts.
    """
    environment = os.environ | {name: str(value) for name, value in variables.items()}
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(
        list(map(str, command)), cwd=cwd, env=environment, text=True, start_new_session=alone, **streams
    ) as process:
        watch = threading.Timer(PATIENCE, process.kill)
        watch.start()
        try:
            yield process
        finally:
            watch.cancel()
            process.kill()


def read_until(stream: IO[str], text: str) -> str:
    """The line in which a stream of a process says this; what it has said instead is shown where it ends first."""
    seen = ""
    for line in stream:
        seen += line
        if text in line:
            return line
    raise AssertionError(f"{text!r} was not said; said was: {seen}")


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that has no end to wait at."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < PATIENCE
        time.sleep(0.01)
