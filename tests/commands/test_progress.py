"""The one display of progress."""

import io
import re

import numba
import pytest
import rich.console
import typer

from commands import progress
from commands.errors import INTERRUPTED
from commands.progress import interruptible, progress_shown, resuming
from numeric_formats.progress import Progress


def lines(reports, capsys):
    """What a log gets."""
    with progress_shown() as show:
        for report in reports:
            show(report)
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_a_log_gets_a_line_every_tenth(capsys):
    found = lines([Progress("measure", done, 40) for done in range(41)], capsys)
    assert [line.partition(",")[0] for line in found] == [f"measure {done}/40" for done in range(4, 41, 4)]
    assert all(re.fullmatch(r"measure \d+/40, about \d+ s left", line) for line in found[:-1])
    assert found[-1] == "measure 40/40"


def test_what_is_known_by_now_stands_in_the_line(capsys):
    [line] = lines([Progress("step", 0, 1), Progress("step", 1, 1, "epoch 1/1, loss 0.5 [x] :llama:")], capsys)
    assert line == "step 1/1, epoch 1/1, loss 0.5 [x] :llama:"


def test_a_run_that_goes_on_has_no_time_left_at_first(capsys):
    assert lines([Progress("step", 50, 100)], capsys) == ["step 50/100"]


def test_stages_and_networks_follow_each_other(capsys):
    reports = [Progress(stage, done, 2) for stage in ("screen", "race") for done in range(3)]
    found = [line.partition(",")[0] for line in lines([*reports, *reports], capsys)]
    assert found == ["screen 1/2", "screen 2/2", "race 1/2", "race 2/2"] * 2
    assert lines([Progress("measure", 0, 0)], capsys) == []


def test_a_terminal_gets_a_bar_for_each_stage(monkeypatch):
    written = io.StringIO()
    written.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", written)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress_shown() as show:
        for stage in ("screen", "measure"):
            for done in range(5):
                show(Progress(stage, done, 4, "FP134 [0] :llama:"))
        show(Progress("measure", 1, 4, "of the next network"))
    last = written.getvalue().split("\x1b[2K")[-1]
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", last)
    assert "measure" in plain
    assert re.search(r"1/4 +0:00:\d\d left .*of the next network", plain)
    assert "FP134 [0] :llama:" in written.getvalue()
    assert rich.console.Console(file=written).is_terminal


def test_a_terminal_shows_nothing_before_there_is_progress(monkeypatch):
    written = io.StringIO()
    written.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", written)
    with progress_shown():
        pass
    assert written.getvalue() == ""


def test_ctrl_c_says_how_to_go_on(capsys, tmp_path):
    with pytest.raises(typer.Exit) as ended, interruptible(resuming(None, "the last checkpoint")):
        raise KeyboardInterrupt
    assert ended.value.exit_code == INTERRUPTED
    assert capsys.readouterr().err == "interrupted; nothing is kept without --output\n"
    assert resuming(tmp_path, "the last checkpoint") == (
        f"the same command with --resume goes on from the last checkpoint in {tmp_path}"
    )


def test_kernels_that_are_compiled_are_told_of_once(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_TOLD", [])
    progress.tell_of_compiling()
    progress.tell_of_compiling()
    for term in (1, 2):
        assert numba.njit(lambda x, term=term: x + term)(1) == 1 + term
    assert capsys.readouterr().err == "compiling kernels, once\n"
