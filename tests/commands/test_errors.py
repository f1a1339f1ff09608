"""How a command ends where something goes wrong."""

import os
import signal
import subprocess
import time

import pytest

from commands.errors import BAD_INPUT, BROKEN_PIPE, INTERNAL, INTERRUPTED, ended
from tests.command import run
from tests.processes import FORMATS, PATIENCE
from tests.sources import code, ours


@pytest.fixture(autouse=True)
def no_debug(monkeypatch):
    monkeypatch.delenv("FORMATS_DEBUG", raising=False)


def end(main, capsys):
    """Exit code and standard error of a command that does this."""
    with pytest.raises(SystemExit) as raised:
        ended(main)
    return raised.value.code, capsys.readouterr().err


FAULT = "(a fault of formats, not of what it was given; FORMATS_DEBUG=1 shows where)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(): return None + 1", "TypeError: unsupported operand type(s) for +: 'NoneType' and 'int'"),
        ("def f(): return {}['key']", "KeyError: 'key'"),
        ("def f(): return int('x')", "ValueError: invalid literal for int() with base 10: 'x'"),
        ("def f(): return f()", "RecursionError: maximum recursion depth exceeded"),
        ("def f(): assert False", "AssertionError"),
        ("def f(): raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("def f(): torch.zeros(3) @ torch.zeros(4)", "RuntimeError: "),
        ("def f(): np.zeros(3) + np.zeros(4)", "ValueError: operands could not be broadcast together"),
        ("def f(): from search import nothing", "ImportError: cannot import name 'nothing' from 'search'"),
    ],
)
def test_a_fault_of_ours_is_called_so(text, message, capsys):
    exit_code, err = end(ours(text), capsys)
    assert exit_code == INTERNAL
    assert err.startswith(f"internal error: {message}")
    assert err.endswith(f" {FAULT}\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(): raise ValueError('3 of\\n2')", "3 of 2"),
        ("def f(): raise TypeError('no number')", "no number"),
        ("def f(): open('nowhere')", "nowhere: No such file or directory"),
        ("def f(): import nothing_of_that_name", "No module named 'nothing_of_that_name'"),
        ("def f(): raise MemoryError", "out of memory"),
    ],
)
def test_a_users_error_is_one_line(text, message, capsys):
    assert end(ours(text), capsys) == (BAD_INPUT, f"error: {message}\n")


def test_an_error_in_a_users_file_is_told_with_its_line(tmp_path, capsys):
    mine = tmp_path / "mine.py"
    assert end(code("def f():\n    return {}['key']", mine), capsys) == (
        BAD_INPUT,
        f"error: {mine}, line 2: KeyError: 'key'\n",
    )


@pytest.mark.parametrize(
    ("text", "exit_code", "last"),
    [
        ("def f(): return None + 1", INTERNAL, "internal error: TypeError"),
        ("def f(): raise ValueError('3 of 2')", BAD_INPUT, "error: 3 of 2"),
        ("def f(): raise KeyboardInterrupt", INTERRUPTED, "interrupted"),
    ],
)
def test_debugging_shows_the_traceback_of_every_error(text, exit_code, last, monkeypatch, capsys):
    monkeypatch.setenv("FORMATS_DEBUG", "1")
    found, err = end(ours(text), capsys)
    assert found == exit_code
    assert "Traceback (most recent call last):" in err
    assert "search/stages.py" in err
    assert err.splitlines()[-1].startswith(last)
    monkeypatch.setenv("FORMATS_DEBUG", "0")
    assert "Traceback" not in end(ours(text), capsys)[1]


def test_an_interrupt_and_a_success(capsys):
    assert end(ours("def f(): raise KeyboardInterrupt"), capsys) == (INTERRUPTED, "interrupted\n")
    assert end(lambda: None, capsys) == (0, "")
    assert end(lambda: 1, capsys) == (1, "")


@pytest.mark.parametrize("arguments", [("list",), ("show", "FP134", "--json")])
def test_a_reader_that_left_is_not_complained_about(arguments, tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([FORMATS, *arguments], stdout=writing, stderr=subprocess.PIPE, text=True, timeout=PATIENCE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (BROKEN_PIPE, "")


def test_a_fault_in_the_middle_of_a_command(tmp_path, monkeypatch):
    monkeypatch.setattr("formats.description.catalogue", ours("def f(*given): return None + 1"))
    done = run("list", cwd=tmp_path, check=False)
    assert done.returncode == INTERNAL
    assert done.stderr.startswith("internal error: TypeError: ")


def test_sigterm_is_an_interrupt_that_leaves_no_handler_behind(capsys):
    def main():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(PATIENCE)  # where nothing happens

    assert end(main, capsys) == (INTERRUPTED, "interrupted\n")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
