"""A Python file of the user's: run under a name of its own, and its faults said with file and line."""

import sys

import pytest

from numeric_formats.user_file import located, run_file


def test_a_file_is_a_module_of_its_own(tmp_path):
    file = tmp_path / "json.py"
    file.write_text("import json\nVALUE = json.dumps([1])\n")
    module = run_file(file, "mine_and_no_other")
    assert module.VALUE == "[1]"
    assert sys.modules.pop("mine_and_no_other") is module


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("def net(:", "mine.py, line 1: SyntaxError: invalid syntax"),
        ("x = 1\n{}[x]", "mine.py, line 2: KeyError: 1"),
        ("raise OSError", "mine.py, line 1: OSError: OSError"),
        ("raise ValueError('two\\n  lines')", "mine.py, line 1: ValueError: two lines"),
    ],
)
def test_what_it_raises_is_said_with_its_line(tmp_path, content, message):
    file = tmp_path / "mine.py"
    file.write_text(content)
    with pytest.raises(ValueError) as raised:
        run_file(file, "fails")
    assert str(raised.value) == f"{tmp_path}/{message}"


def test_what_does_not_come_from_the_file_has_no_line(tmp_path):
    with pytest.raises(ValueError, match=r"mine.py: TypeError: no number$"), located(tmp_path / "mine.py"):
        raise TypeError("no number")


def test_what_is_no_python_file(tmp_path):
    with pytest.raises(ValueError, match=r"mine.txt cannot be read as Python$"):
        run_file(tmp_path / "mine.txt", "text")
