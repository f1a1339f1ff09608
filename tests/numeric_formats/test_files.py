"""Writing files, and keeping a folder to one process."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from numeric_formats.files import hold, write_atomically

ROOT = Path(__file__).parents[2]
HOLDS = "import sys, pathlib; from numeric_formats.files import hold\nwith hold(pathlib.Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"


def no_space():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_failed_write_changes_nothing_and_says_where(tmp_path):
    path = tmp_path / "result"
    path.write_text("old")

    def write(file):
        file.write(b"new")
        no_space()

    with pytest.raises(OSError, match=r"No space left on device: '.*/result'$"):
        write_atomically(path, write)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_one_process_holds_a_folder_until_it_is_killed(tmp_path):
    folder = tmp_path / "deep" / "run"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDS, folder], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(FileExistsError, match=r"run is being written by another process"), hold(folder):
            pass
    finally:
        holder.kill()
        holder.communicate()
    for _ in range(2):  # and anew once it is given back
        with hold(folder):
            assert list(folder.iterdir()) == []


def test_a_file_system_without_locks_holds_nothing(tmp_path, monkeypatch):
    def flock(handle, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)
    with hold(tmp_path), hold(tmp_path):
        pass
