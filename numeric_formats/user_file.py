"""Running a Python file of the user's, and saying where in it something went wrong."""

import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from numeric_formats.messages import one_line


@contextmanager
def located(path: Path) -> Iterator[None]:
    """Turn whatever is raised inside into a ValueError of one line that begins with the file, and the line in it that
    was at work."""
    try:
        yield
    except Exception as error:  # the user's code may raise anything
        own = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename).resolve() == path.resolve()
        ]
        number = error.lineno if isinstance(error, SyntaxError) else own[-1] if own else None
        what = error.msg if isinstance(error, SyntaxError) else one_line(error)
        where = f"{path}, line {number}" if number else str(path)
        raise ValueError(f"{where}: {type(error).__name__}: {what}") from error


def run_file(path: Path, name: str) -> ModuleType:
    """The module that a Python file defines, under a name of its own; ValueError with file and line where it cannot be
    read or fails."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} cannot be read as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with located(path):
        spec.loader.exec_module(module)
    return module
