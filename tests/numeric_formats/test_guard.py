"""Refusals at the first import."""

import sys

import pytest

from numeric_formats.guard import require, require_linux
from tests.processes import python

ELSEWHERE = "import sys; sys.platform = 'darwin'; "


def test_other_systems_are_refused(monkeypatch):
    require_linux()
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ImportError, match=r"^numeric-formats needs Linux; this is win32$"):
        require_linux()


@pytest.mark.parametrize("package", ["numeric_formats.files", "formats", "workloads", "training"])
def test_importing_elsewhere_says_what_is_needed(package):
    done = python("-c", f"{ELSEWHERE}import {package}", check=False)
    assert done.returncode
    assert done.stderr.splitlines()[-1] == "ImportError: numeric-formats needs Linux; this is darwin"


def test_the_command_elsewhere_is_one_line():
    code = f"import cli; {ELSEWHERE}sys.argv = ['formats', 'list']; cli.run()"
    done = python("-c", code, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: numeric-formats needs Linux; this is darwin\n"


def test_a_folder_in_the_way_is_named(tmp_path, monkeypatch):
    require("formats", "workloads")
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "__init__.py").touch()
    for name in [name for name in sys.modules if name.partition(".")[0] == "reports"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=rf"own package 'reports', but {tmp_path}/reports is found first: rename"):
        require("formats", "reports")
    with pytest.raises(ImportError, match="nothing of that name is found"):
        require("nowhere_to_be_found")
