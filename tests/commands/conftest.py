"""What tests of the command line share."""

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.command import run

PROGRESS = re.compile(r"[\w ]+ \d+/\d+(, .*)?$")


@pytest.fixture
def folder(tmp_path):
    """A folder with a user's networks in mine.py."""
    shutil.copy(Path(__file__).with_name("mine.py"), tmp_path)
    return tmp_path


@pytest.fixture
def inside(folder, monkeypatch):
    """Runs the command in that folder: exit code, output, lines of errors without those of progress."""
    monkeypatch.setattr(os, "fsync", os.fsync)  # put back after full_disk

    def run_inside(*arguments):
        done = run(*arguments, cwd=folder, check=False)
        return done.returncode, done.stdout, [line for line in done.stderr.splitlines() if not PROGRESS.match(line)]

    return run_inside
