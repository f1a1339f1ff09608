"""Whose an error is."""

import errno
import os

import pytest
import torch

from formats import get
from numeric_formats.faults import told
from tests.sources import code, ours


def line_of(call):
    """What a user is told of the error of a call."""
    with pytest.raises(BaseException) as raised:
        call()
    return told(raised.value)


def test_what_our_code_refuses_is_the_users():
    assert line_of(lambda: get("FP999")).startswith("unknown format 'FP999'")
    assert line_of(lambda: get(3)) == "3 is neither a format's name nor an object with name, digest and round"
    refuses = (
        "def f():\n    try:\n        json.loads('{')\n    except ValueError as error:\n"
        "        raise ValueError('it is\\n  damaged') from error"
    )
    assert line_of(ours(refuses)) == "it is damaged"
    assert line_of(ours("def f(): raise ImportError('this needs plotly')")) == "this needs plotly"


@pytest.mark.parametrize(
    "text",
    [
        "def f(): return None + 1",  # the interpreter
        "def f(): return {}['key']",
        "def f(): return int('x')",
        "def f(): return f()",  # without end
        "def f(): return np.zeros(3) + np.zeros(4)",  # libraries, compiled and not
        "def f(): return json.loads('{')",
        "def f(): np.random.default_rng(-1)",  # whose frames have files that are not there
        "def f(): return torch.zeros(3) @ torch.zeros(4)",
        "def f(): return torch.nn.functional.cross_entropy(torch.zeros(3), torch.zeros(4))",
        "def f(): assert False",
        "def f(): raise NotImplementedError",
        "def f(): raise RuntimeError('no such state')",
        "def f(): raise KeyError('key')",
        "def f(): from search import nothing_of_that_name",
        "def f(): import search.nothing_of_that_name",
        "def f():\n    try:\n        return None + 1\n    except TypeError:\n        raise",  # raised again, not by us
    ],
)
def test_what_fails_in_the_middle_of_our_code_is_ours(text):
    assert line_of(ours(text)) is None


def test_files_packages_and_memory_are_the_users():
    assert line_of(ours("def f(): open('nowhere')")) == "nowhere: No such file or directory"
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert told(full) == "[Errno 28] No space left on device"
    assert line_of(ours("def f(): import nothing_of_that_name")) == "No module named 'nothing_of_that_name'"
    assert line_of(ours("def f(): raise MemoryError")) == "out of memory"
    assert "Unable to allocate" in line_of(ours("def f(): np.zeros(1 << 50)"))
    assert "can't allocate memory" in line_of(ours("def f(): torch.empty(1 << 50)"))
    assert told(torch.OutOfMemoryError("CUDA out of memory. Tried 3 GiB")) == "CUDA out of memory. Tried 3 GiB"


def test_what_the_users_own_code_does_is_theirs_with_its_line(tmp_path):
    mine = tmp_path / "mine.py"
    for text, expected in (
        ("def f():\n    return {}['key']", f"{mine}, line 2: KeyError: 'key'"),
        ("def f():\n    return None + 1", f"{mine}, line 2: TypeError: unsupported operand type"),
        ("def f():\n\n    np.zeros(3) + np.zeros(4)", f"{mine}, line 3: ValueError: operands could not be broadcast"),
        ("def f():\n    torch.zeros(3) @ torch.zeros(4)", f"{mine}, line 2: RuntimeError: "),
        ("def f():\n    raise RuntimeError", f"{mine}, line 2: RuntimeError: RuntimeError"),
    ):
        assert line_of(code(text, mine)).startswith(expected)
    assert line_of(code("def f(): np.random.default_rng(-1)", mine)).startswith(f"{mine}, line 1: ValueError: expected")
    # It hands something wrong to our code, which says so; or our code fails by itself.
    assert line_of(code("def f():\n    from formats import get\n    get('FP999')", mine)).startswith("unknown format")
    calls = code("def f(inner):\n    inner()", mine)
    assert line_of(lambda: calls(ours("def f(): return None + 1"))) is None


def test_a_users_module_that_is_no_python(tmp_path, monkeypatch):
    (tmp_path / "no_python.py").write_text("\ndef f(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    told_of = line_of(ours("def f(): import no_python"))
    assert told_of == f"{tmp_path / 'no_python.py'}, line 2: SyntaxError: invalid syntax"


def test_an_installation_among_libraries_is_ours(monkeypatch, tmp_path):
    monkeypatch.setattr("numeric_formats.faults.LIBRARIES", (tmp_path,))
    monkeypatch.setattr("numeric_formats.faults.HOME", tmp_path)
    installed = tmp_path / "search" / "stages.py"
    assert line_of(code("def f(): raise ValueError('3 workers')", installed)) == "3 workers"
    assert line_of(code("def f(): return None + 1", installed)) is None
    library = code("def f(): raise ValueError('3 workers')", tmp_path / "other" / "module.py")
    calls = code("def f(inner): inner()", installed)
    assert line_of(lambda: calls(library)) is None
