"""Writing files so that no reader ever sees half of one, settings that go on as they began, and folders that one
process at a time writes to."""

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO


class Held(FileExistsError):
    """Another process writes to the folder."""


def write_atomically(path: Path, content: bytes | str | Callable[[BinaryIO], Any]) -> None:
    """Write a temporary file beside `path`, then move it into place. content: bytes, text, or a function that fills it.

    On any failure (a full disk, Ctrl-C) the old file stays as it was and the temporary one is removed; an OSError
    without a file name gets this one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
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


def write_json(path: Path, content: Any) -> None:
    """Write plain values as JSON, a line each."""
    write_atomically(path, json.dumps(content, indent=1) + "\n")


def read_json(path: Path, remedy: str) -> Any:
    """What a JSON file holds. ValueError that ends in the remedy where it is damaged, OSError where there is none."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read ({error}); {remedy}") from None


def check_same(
    path: Path,
    saved: Mapping[str, Any],
    ours: Mapping[str, Any],
    remedy: str = "give what it was made with or another output",
    leaving_out: Collection[str] = (),
) -> None:
    """ValueError with the first setting in which what goes on differs from what a file was made with.

    saved: as the file holds them; settings that it alone has make no difference. leaving_out: names of settings that
    make none either.
    """
    if not isinstance(saved, Mapping):  # a file of something else
        raise ValueError(f"{path} holds no settings; {remedy}")
    for key, value in json.loads(json.dumps(ours)).items():
        if saved.get(key) != value and key not in leaving_out:
            raise ValueError(f"{path} was made with {key} {saved.get(key)!r}, not {value!r}; {remedy}")


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
