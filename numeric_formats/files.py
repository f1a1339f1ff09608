"""Writing files so that no reader ever sees half of one, settings that go on as they began, and folders that one
process at a time writes to."""

import contextlib
import fcntl
import json
import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

PART = ".part"
"""Ending of the name of a file that is being written: `.NAME.XXXXXXXX.part` becomes NAME."""
DIGEST = "_digest"
"""Ending of the names of settings whose values say nothing to a reader."""

TENSORS = (".npz", ".npy", ".safetensors")
"""How files of dumped tensors end."""


class Held(FileExistsError):
    """Another process writes to the folder."""


def write_atomically(path: Path, content: bytes | str | Callable[[BinaryIO], Any]) -> None:
    """Write a temporary file beside `path`, then move it into place. content: bytes, text, or a function that fills it.

    On any failure (a full disk, Ctrl-C) the old file stays as it was and the temporary one is removed; an OSError
    without a file name gets this one. What a killed process was writing here under this name is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_parts(path.parent, path.name)
    handle, temporary = _new_part(path)
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
            # Before it is closed: as long as it is locked, nobody takes it for what a killed process left.
            os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            # "No space left on device" alone does not say where.
            error.filename = str(path)
        raise


def _new_part(path: Path) -> tuple[int, str]:
    """A new file beside `path`, open and locked, and its name."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
        # Where the file system has no locks, `remove_parts` removes nothing either.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, name
        os.close(handle)  # another process came between


def remove_parts(folder: Path, name: str | None = None) -> None:
    """Remove from a folder what killed processes were writing there. name: of the file that it was to become; any by
    default.

    What a running process writes is locked, and stays. A folder or file that this process may not read or write does
    too.
    """
    wanted = re.compile(rf"\.{'.+' if name is None else re.escape(name)}\.[a-z0-9_]{{8}}{re.escape(PART)}", re.DOTALL)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for left in [entry.path for entry in entries if wanted.fullmatch(entry.name)]:
            with contextlib.suppress(OSError):
                handle = os.open(left, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(left)
                finally:
                    os.close(handle)


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
        before = saved.get(key)
        if before == value or key in leaving_out:
            continue
        if key.endswith(DIGEST):
            what = (
                f"another {key.removesuffix(DIGEST).replace('_', ' ')} (SHA-256 {_short(before)}, not {_short(value)})"
            )
        else:
            what = f"{key} {before!r}, not {value!r}"
        raise ValueError(f"{path} was made with {what}; {remedy}")


def _short(digest: Any) -> str:
    return digest[:12] if isinstance(digest, str) else repr(digest)


@contextlib.contextmanager
def hold(folder: Path, *inside: str) -> Iterator[None]:
    """Keep a folder, made where it is missing, to this process inside; Held where another one has it.

    The lock is the kernel's and ends with the process, however that ends. Where the file system has no locks, nothing
    is held. What killed processes were writing in it is removed. inside: folders in it that are written to as well.
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
        for place in (folder, *(folder / name for name in inside)):
            remove_parts(place)
        yield
    finally:
        os.close(handle)
