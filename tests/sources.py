"""Functions whose source seems to stand in a file that a test names."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from numeric_formats.guard import HOME


def code(text: str, file: Path) -> Callable[..., Any]:
    """The function `f` of a source text; it can use json, np and torch. The file is written where it is not ours."""
    if not file.is_relative_to(HOME):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    found: dict[str, Any] = {"json": json, "np": np, "torch": torch}
    exec(compile(text, str(file), "exec"), found)
    return found["f"]


def ours(text: str) -> Callable[..., Any]:
    """The same in a module of this distribution."""
    return code(text, HOME / "search" / "stages.py")
