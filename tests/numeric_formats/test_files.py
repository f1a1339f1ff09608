"""Writing files, and keeping a folder to one process."""

import errno
import os
import sys
import tempfile

import pytest

from numeric_formats.files import check_same, hold, read_json, remove_parts, write_atomically, write_json
from tests.processes import running

HOLDS = """
import sys, pathlib
from numeric_formats.files import hold
with hold(pathlib.Path(sys.argv[1])):
    print('held', flush=True)
    sys.stdin.read()
"""


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


def test_an_unfinished_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "deep" / "file"
    write_atomically(path, lambda file: file.write(b"old"))

    def fail(file):
        file.write(b"half")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]
    assert path.stat().st_mode & 0o044


def test_bytes_text_and_what_a_function_writes(tmp_path):
    path = tmp_path / "deep" / "result"
    for content, written in (
        (b"\xff\n", b"\xff\n"),
        ("\u00e9\n", b"\xc3\xa9\n"),
        (lambda file: file.write(b"3"), b"3"),
    ):
        write_atomically(path, content)
        assert path.read_bytes() == written
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


def test_json_comes_back_and_what_is_damaged_is_said(tmp_path):
    path, content = tmp_path / "settings.json", {"a": [1, 0.1, None], "b": "text"}
    write_json(path, content)
    assert path.read_text().endswith("}\n")
    assert read_json(path, "give another") == content
    path.write_text(path.read_text()[:-5])
    with pytest.raises(ValueError, match=r"^/.*settings.json cannot be read \(.*line 7.*\); give another$"):
        read_json(path, "give another")
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "absent", "")


def test_what_goes_on_must_have_the_same_settings(tmp_path):
    path, saved = tmp_path / "run", {"seed": 0, "widths": [6, 8], "old": True}
    check_same(path, saved, {"seed": 0, "widths": (6, 8)})  # as JSON brings it back
    with pytest.raises(
        ValueError, match=r"/run was made with seed 0, not 1; give what it was made with or another output$"
    ):
        check_same(path, saved, {"widths": (6, 8), "seed": 1})
    with pytest.raises(ValueError, match=r"was made with new None, not 'x'; begin anew$"):
        check_same(path, saved, {"new": "x"}, "begin anew")
    check_same(path, saved, {"seed": 1}, leaving_out=("seed",))
    with pytest.raises(ValueError, match=r"/run holds no settings; begin anew$"):
        check_same(path, ["seed"], {"seed": 0}, "begin anew")


def test_one_process_holds_a_folder_until_it_is_killed(tmp_path):
    folder = tmp_path / "deep" / "run"
    with running(sys.executable, "-c", HOLDS, folder) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(FileExistsError, match=r"run is being written by another process"), hold(folder):
            pass
        holder.kill()
    for _ in range(2):  # and anew once it is given back
        with hold(folder):
            assert list(folder.iterdir()) == []


def test_a_file_system_without_locks_holds_nothing(tmp_path, monkeypatch):
    def flock(handle, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)
    with hold(tmp_path), hold(tmp_path):
        pass


KILLED = """
import os, pathlib, signal, sys
from numeric_formats.files import write_atomically
def write(file):
    file.write(b"half")
    file.flush()
    print('writing', flush=True)
    sys.stdin.read()
write_atomically(pathlib.Path(sys.argv[1]), write)
"""


def hidden(folder):
    return sorted(entry.name for entry in folder.iterdir() if entry.name.startswith("."))


def test_what_a_killed_process_was_writing_is_removed_and_what_a_running_one_writes_stays(tmp_path):
    path, other = tmp_path / "run" / "result", tmp_path / "run" / "other"

    def parts():
        return [name.rsplit(".", 2)[0] for name in hidden(path.parent)]

    with running(sys.executable, "-c", KILLED, other) as killed, running(sys.executable, "-c", KILLED, path) as writer:
        assert (killed.stdout.readline(), writer.stdout.readline()) == ("writing\n", "writing\n")
        write_atomically(path, b"whole")
        remove_parts(path.parent)
        assert parts() == [".other", ".result"]
        writer.communicate()  # it ends as it should
        assert path.read_bytes() == b"half"
        killed.kill()
        killed.wait()
        write_atomically(path, b"whole")
        assert parts() == [".other"]
        write_atomically(other, b"whole")
        assert parts() == []
    assert {entry.name: entry.read_bytes() for entry in path.parent.iterdir()} == {
        "result": b"whole",
        "other": b"whole",
    }


def test_folders_inside_are_looked_at_where_they_are_named(tmp_path):
    (tmp_path / "layers").mkdir()
    for folder in (tmp_path, tmp_path / "layers"):
        tempfile.mkstemp(dir=folder, prefix=".a.b.", suffix=".part")
    with hold(tmp_path, "layers", "missing"):
        assert hidden(tmp_path) == hidden(tmp_path / "layers") == []
    assert not (tmp_path / "missing").exists()


def test_files_of_other_names_are_nobody_elses(tmp_path):
    names = [
        ".result.part",
        ".result.12345678",
        "result.abcdefgh.part",
        ".result.ABCDEFGH.part",
        ".result.abcdefgh.part~",
    ]
    for name in names:
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / ".result.abcdefgh.part")
    os.symlink(tmp_path / "result", tmp_path / ".result.abcdefgi.part")
    write_atomically(tmp_path / "result", b"new")
    with hold(tmp_path):
        kept = {entry.name for entry in tmp_path.iterdir()}
    assert kept >= {*names, "result", ".result.abcdefgi.part"}


def test_a_folder_that_may_not_be_listed_is_written_to(tmp_path, monkeypatch):
    def scandir(folder):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)

    monkeypatch.setattr(os, "scandir", scandir)
    write_atomically(tmp_path / "result", b"new")
    assert (tmp_path / "result").read_bytes() == b"new"


def test_settings_that_are_digests_are_told_by_what_they_are_of(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"/run was made with another test data \(SHA-256 aaaaaaaaaaaa, not bbbbbbbbbbbb\); begin anew$",
    ):
        check_same(tmp_path / "run", {"test_data_digest": "a" * 64}, {"test_data_digest": "b" * 64}, "begin anew")
    with pytest.raises(ValueError, match=r"another data \(SHA-256 None, not bbb\)"):
        check_same(tmp_path / "run", {}, {"data_digest": "bbb"}, "begin anew")


def test_json_that_is_nested_too_deeply(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"settings.json cannot be read \(.*recursion.*\); begin anew$"):
        read_json(path, "begin anew")
