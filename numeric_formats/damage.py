"""Reading a user's file by a library, which may raise anything where the file is damaged."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from os import SEEK_END
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from numeric_formats.messages import first_line, printable

if TYPE_CHECKING:
    import zipfile


@contextmanager
def reading(where: object, kind: str) -> Iterator[None]:
    """Turn whatever is raised inside into a ValueError of one line that names the file.

    An OSError about a file of the disk (it is not there, not to be read) stays what it is. What libraries warn of is
    not said: a file is read, or it is refused.

    Args:
        where: The file, and what of it.
        kind: What it is read as.

    Raises:
        ValueError: It cannot be read so.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # libraries raise anything for damaged content
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise ValueError(f"{where} cannot be read as {kind}: {printable(first_line(error))}") from error


END, MANY = 22, 0xFFFF
"""Bytes of what ends a zip archive, without its comment; stands there for more entries than it can count."""


@contextmanager
def archive_of(file: Path | BinaryIO) -> Iterator[zipfile.ZipFile]:
    """A zip archive, opened; to be used inside `reading`.

    Raises:
        ValueError: Its directory counts other entries than are found: zipfile itself passes over all that follow a
            damaged one.
    """
    import zipfile  # short commands read no archives

    with zipfile.ZipFile(file) as archive:
        assert archive.fp is not None  # it was just opened
        archive.fp.seek(-END - len(archive.comment), SEEK_END)
        entries = int.from_bytes(archive.fp.read(END)[10:12], "little")
        if entries not in (len(archive.infolist()), MANY):
            raise ValueError(f"its directory is damaged: {len(archive.infolist())} of {entries} entries are found")
        yield archive
