"""Whose an error is: the user's, to be told in one line, or ours.

An error is the user's where one of these holds:

1. There is not enough memory for what was asked.
2. It is an `OSError`, or an `ImportError` of a package that is not ours: files, disks, networks, what is installed.
3. Our own code says so, by a `raise` of a `ValueError` or `TypeError` (arguments that were checked, files that are
   damaged). The same error out of a library, or out of the interpreter in the middle of our code, is none of it.
4. The user's own code was at work: the frame nearest to the error that is not of a library lies in a file of theirs.

Every other one is a fault of ours, whatever its type.
"""

from __future__ import annotations

import dis
import sysconfig
from pathlib import Path
from types import TracebackType

from numeric_formats.guard import HOME

OURS = ("numeric_formats", "formats", "workloads", "predictor", "search", "training", "reports", "commands", "cli")
"""The packages and the module of this distribution."""
LIBRARIES = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib"))
RAISE = dis.opmap["RAISE_VARARGS"]


def told(error: BaseException) -> str | None:
    """What a user is told about an error.

    Args:
        error: Anything that was raised, with its traceback.

    Returns:
        A line, where the error is the user's; None where it is ours.
    """
    text = " ".join(str(error).split())
    if _of_memory(error, text):
        return text if "memory" in text.lower() else f"out of memory: {text}".removesuffix(": ")
    text = text or type(error).__name__
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename is not None and error.strerror else text
    frames = _frames(error.__traceback__)
    if frames and _is_ours(_file(frames[-1])) and _raises(frames[-1]):
        return text if isinstance(error, ValueError | TypeError | ImportError) else None
    if isinstance(error, ImportError):
        return None if (error.name or "").partition(".")[0] in OURS else text
    places = [(_file(frame), frame.tb_lineno) for frame in frames]
    if isinstance(error, SyntaxError) and error.filename:
        places.append((Path(error.filename), error.lineno or 0))
        text = error.msg
    own = [(file, line) for file, line in places if not _is_library(file)]
    if own and not _is_ours(own[-1][0]):
        return f"{own[-1][0]}, line {own[-1][1]}: {type(error).__name__}: {text}"
    return None


def _of_memory(error: BaseException, text: str) -> bool:
    """Also those of torch, whose types are not to be imported for this: of a GPU by its name, of the CPU by its
    words."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or "can't allocate memory" in text


def _frames(trace: TracebackType | None) -> list[TracebackType]:
    """From the outermost to the one that raised."""
    found = []
    while trace is not None:
        found.append(trace)
        trace = trace.tb_next
    return found


def _file(frame: TracebackType) -> Path:
    return Path(frame.tb_frame.f_code.co_filename)


def _raises(frame: TracebackType) -> bool:
    """Whether it stands at a `raise`, rather than at what failed by itself."""
    return frame.tb_frame.f_code.co_code[frame.tb_lasti] == RAISE


def _is_ours(file: Path) -> bool:
    """Before libraries are asked for: an installation lies among them."""
    place = file.resolve()
    return place.is_relative_to(HOME) and place.relative_to(HOME).parts[0].removesuffix(".py") in OURS


def _is_library(file: Path) -> bool:
    """Compiled, generated and frozen code too, whose files are not there."""
    place = file.resolve()
    return not _is_ours(file) and (not file.is_file() or any(place.is_relative_to(each) for each in LIBRARIES))
