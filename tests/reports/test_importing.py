"""Every module of reports and commands can be the first that is imported."""

import pytest

from tests.imports import modules
from tests.processes import python

FIRST = """
import importlib, os, sys
import matplotlib.pyplot, rich.console, rich.table, typer  # what takes long, once for all
for name in sys.argv[1].split():
    importlib.import_module(name)
for name in sys.argv[2].split():
    child = os.fork()
    if not child:
        importlib.import_module(name)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"{name} cannot be imported first")
"""


@pytest.mark.slow
def test_each_module_can_be_imported_first():
    found = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path.parts[0] for path in modules()}
    below = [name for name, floor in found.items() if floor in ("formats", "predictor", "search", "training")]
    ours = [name for name, floor in found.items() if floor in ("reports", "commands")]
    assert len(ours) > 30
    assert "reports.plots.drawing" in ours
    python("-c", FIRST, " ".join(below), " ".join(ours))
