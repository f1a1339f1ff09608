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
from numeric_formats.messages import one_line

OURS = ("numeric_formats", "formats", "workloads", "predictor", "search", "training", "reports", "commands", "cli")
"""The packages and the module of this distribution."""
LIBRARIES = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib"))
RAISE = dis.opmap["RAISE_VARARGS"]
LENT = (
    *("predictor/flow/calls.py", "predictor/flow/checkpointing.py", "predictor/flow/decompositions.py"),
    *("predictor/flow/float32.py", "predictor/flow/sites.py", "workloads/metrics.py", "workloads/public"),
)
"""Ours, where no more is carried out than what a user's network and loss ask torch for."""
PASSING = ("predictor/flow/dataflow.py",)
"""Ours, which stands between a network and those."""


def told(error: BaseException) -> str | None:
    """What a user is told about an error.

    Args:
        error: Anything that was raised, with its traceback.

    Returns:
        A line, where the error is the user's; None where it is ours.
    """
    text = one_line(error) if str(error) else ""
    if _of_memory(error, text):
        return text if "memory" in text.lower() else f"out of memory: {text}".removesuffix(": ")
    text = text or type(error).__name__
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename is not None and error.strerror else text
    frames = frames_of(error)
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


def is_in_what_was_called(error: BaseException) -> bool:
    """Whether an error comes out of what the outermost frame of its traceback called for a user, rather than out of
    what we do in between (a quantizer, a refusal, a fault); missing files and memory that ran out are neither."""
    if isinstance(error, OSError) or _of_memory(error, str(error)):
        return False
    own = [frame for frame in frames_of(error)[1:] if not _is_library(_file(frame))]
    if any(_is_ours(_file(frame)) and not _lies_in(frame, LENT + PASSING) for frame in own):
        return False
    return not own or not _is_ours(_file(own[-1])) or (_lies_in(own[-1], LENT) and not _raises(own[-1]))


def place_of_the_user(error: BaseException) -> list[str]:
    """The line of a user's file that was at work, as text; nothing where it was none."""
    places = [(_file(frame), frame.tb_lineno) for frame in frames_of(error)]
    own = [f"{file}, line {number}" for file, number in places if not (_is_library(file) or _is_ours(file))]
    return own[-1:]


def frames_of(error: BaseException) -> list[TracebackType]:
    """From the outermost to the one that raised."""
    trace, found = error.__traceback__, []
    while trace is not None:
        found.append(trace)
        trace = trace.tb_next
    return found


def _file(frame: TracebackType) -> Path:
    return Path(frame.tb_frame.f_code.co_filename)


def _raises(frame: TracebackType) -> bool:
    """Whether it stands at a `raise`, rather than at what failed by itself."""
    return frame.tb_frame.f_code.co_code[frame.tb_lasti] == RAISE


def _lies_in(frame: TracebackType, places: tuple[str, ...]) -> bool:
    """Whether a frame is of one of these files or folders of ours."""
    return any(_file(frame).resolve().is_relative_to(HOME / place) for place in places)


def _is_ours(file: Path) -> bool:
    """Before libraries are asked for: an installation lies among them."""
    place = file.resolve()
    return place.is_relative_to(HOME) and place.relative_to(HOME).parts[0].removesuffix(".py") in OURS


def _is_library(file: Path) -> bool:
    """Compiled, generated and frozen code too, whose files are not there."""
    place = file.resolve()
    return not _is_ours(file) and (not file.is_file() or any(place.is_relative_to(each) for each in LIBRARIES))
