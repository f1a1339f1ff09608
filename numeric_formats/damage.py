"""Reading a user's file by a library, which may raise anything where the file is damaged."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from numeric_formats.messages import first_line, printable


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
