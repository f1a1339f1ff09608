"""How a command ends where something goes wrong: one line on standard error, and an exit code that says what kind."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

BAD_INPUT, INTERNAL, INTERRUPTED, BROKEN_PIPE = 2, 70, 130, 141
"""The user's error; a fault of ours; ended by Ctrl-C; by a reader of the output that left, as a shell sees it."""
DEBUG = "FORMATS_DEBUG"


def ended(main: Callable[[], int | None]) -> NoReturn:
    """Run the command line and leave with its exit code.

    An error of the user's (`numeric_formats.faults` says which) is one line and exit code 2; a fault of ours is one
    line that calls it so, and 70; Ctrl-C is 130, and a reader that left, as `head` does, 141 without a word. With
    FORMATS_DEBUG=1 the traceback stands above the line, whatever it is. SIGTERM, by which `timeout` and schedulers of
    clusters end a job, is as Ctrl-C: what was measured is written.
    """
    try:
        with _terminated_politely():
            code = main()
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit) as error:
        # typer leaves by itself where the reader of the output has.
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        code = BROKEN_PIPE
        # What is still to be written goes nowhere, or the interpreter would complain as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get(DEBUG, "") not in ("", "0"):
            traceback.print_exc()
        code, line = _told(error)
        if line:
            typer.echo(line, err=True)
    gc.freeze()  # what is still there need not be looked through as the interpreter ends
    sys.exit(code or 0)


@contextmanager
def _terminated_politely() -> Iterator[None]:
    """Inside, SIGTERM raises KeyboardInterrupt, unless somebody else deals with it."""
    usual = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not usual or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _told(error: BaseException) -> tuple[int, str]:
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "interrupted"
    if isinstance(error, typer.TyperException):  # an option or argument that cannot be read
        # Without a message where help was printed instead.
        message = " ".join(error.format_message().split()).rstrip(".")
        context = getattr(error, "ctx", None)
        return BAD_INPUT, message and f"error: {message}" + (f"; see {context.command_path} --help" if context else "")
    try:
        from numeric_formats.faults import told
        from numeric_formats.messages import printable
    except ImportError as refusal:  # of a system that none of this runs on
        return BAD_INPUT, f"error: {refusal}"
    if (line := told(error)) is not None:
        return BAD_INPUT, printable(f"error: {line}")
    what = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(":")
    return INTERNAL, printable(
        f"internal error: {what} (a fault of formats, not of what it was given; {DEBUG}=1 shows where)"
    )
