"""Writing files so that no reader ever sees half of one, and folders that one process at a time writes to."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO


class Held(FileExistsError):
    """Another process writes to the folder."""


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Let `write` fill a temporary file beside `path`, then move it into place.

    On any failure (a full disk, Ctrl-C) the old file stays as it was and the temporary one is removed; an OSError
    without a file name gets this one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes the file private; give it the mode that a plain open would have given.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            # "No space left on device" alone does not say where.
            error.filename = str(path)
        raise


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep a folder, made where it is missing, to this process inside; Held where another one has it.

    The lock is the kernel's and ends with the process, however that ends. Where the file system has no locks, nothing
    is held.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Held(
                f"{folder} is being written by another process; wait for its end or give another output"
            ) from None
        except OSError:
            pass
        yield
    finally:
        os.close(handle)
