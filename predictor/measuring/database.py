"""The file of a store: one SQLite database that processes share, set aside where it cannot be trusted.

Nothing that goes wrong with it ends a ranking: a damaged file, or one of another version, is renamed and a new one
begun; where none can be written, nothing more is kept. Either is said in one line on standard error.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from numeric_formats.folders import CACHE_VARIABLE
from numeric_formats.messages import one_line

SCHEMA = 1
APPLICATION = 0x666D7473
"""SQLite's application_id of a store."""
WAIT = 30.0
"""Seconds to wait for another process that writes."""
SET_ASIDE = "set-aside"
LOGS = ("-wal", "-shm")
"""Endings of the files that SQLite puts beside it."""
T = TypeVar("T")

TABLES = {
    "contexts": "CREATE TABLE contexts (id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, fields TEXT NOT NULL)",
    "names": "CREATE TABLE names (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)",
    # layers: the names of parameters.
    "measurements": """CREATE TABLE measurements (
        context INTEGER NOT NULL, batch INTEGER NOT NULL, format INTEGER NOT NULL, effect TEXT NOT NULL,
        layers INTEGER NOT NULL, sums BLOB NOT NULL, seconds REAL NOT NULL, checksum INTEGER NOT NULL,
        PRIMARY KEY (context, batch, format, effect)) WITHOUT ROWID""",
    "records": """CREATE TABLE records (
        context INTEGER NOT NULL, batch INTEGER NOT NULL, what TEXT NOT NULL, content BLOB NOT NULL,
        checksum INTEGER NOT NULL, PRIMARY KEY (context, batch, what))""",
}


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr, flush=True)


class _UnusableError(Exception):
    """The file is damaged, or not a store of this schema."""


class Database:
    """The file at a path, opened, and made where there is none."""

    def __init__(self, path: Path):
        self.path = path
        self._writable = True
        self._file: sqlite3.Connection | None = None
        self._inode: int | None = None
        self._open()

    def close(self) -> None:
        """Close the file; it then takes and gives nothing."""
        if self._file is not None:
            # The last process to close writes the log back, which a full disk refuses.
            with contextlib.suppress(sqlite3.Error):
                self._file.close()
        self._file = None

    def carry_out(self, action: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """What the action makes of the file, or `otherwise` where there is none or something is wrong with it."""
        if self._file is None:
            return otherwise
        try:
            return action(self._file)
        # A full disk, a file that may not be written, another process that does not end.
        except sqlite3.OperationalError as error:
            self._give_up(error)
        except sqlite3.DatabaseError as error:
            self._set_aside(f"is damaged ({one_line(error)})")
            self._open()
        return otherwise

    def write(self, action: Callable[[sqlite3.Connection], None]) -> None:
        """Carry out an action in one transaction, as long as the file can be written."""

        def within(file: sqlite3.Connection) -> None:
            with transaction(file):
                action(file)

        if self._writable:
            self.carry_out(within, None)

    def files(self) -> list[Path]:
        """The file and its logs, there or not."""
        return [Path(f"{self.path}{ending}") for ending in ("", *LOGS)]

    def files_set_aside(self) -> list[Path]:
        """Those that could not be trusted, with their logs."""
        return sorted(self.path.parent.glob(f"{self.path.name}.{SET_ASIDE}-*")) if self.path.parent.is_dir() else []

    def _open(self) -> None:
        try:
            try:
                self._connect()
            except _UnusableError as error:
                self._set_aside(str(error))
                self._connect()  # a second file that cannot be used is given up
        except (sqlite3.Error, OSError, _UnusableError) as error:
            self._give_up(error)

    def _connect(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = sqlite3.connect(self.path, timeout=WAIT, isolation_level=None)
        try:
            self._inode = self.path.stat().st_ino
            self._prepare(file)
        except BaseException as error:
            file.close()
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
                raise _UnusableError(f"is damaged ({one_line(error)})") from error
            raise
        self._file = file

    def _prepare(self, file: sqlite3.Connection) -> None:
        """Check that the file is a store of this schema, and make it one where it is empty."""
        (version,), (application,) = (
            file.execute("PRAGMA user_version").fetchone(),
            file.execute("PRAGMA application_id").fetchone(),
        )
        tables = _tables(file)
        if tables and (application, version) != (APPLICATION, SCHEMA):
            what = (
                f"has schema {version}, not {SCHEMA}"
                if application == APPLICATION
                else "is not a store of measurements"
            )
            raise _UnusableError(what)
        if tables and tables != TABLES.keys():
            raise _UnusableError("is damaged (a table is missing)")
        if not tables:
            _write_ahead(file)
            with transaction(file):
                # Another process may have been first.
                if not _tables(file):
                    for table in TABLES.values():
                        file.execute(table)
                    file.execute(f"PRAGMA application_id = {APPLICATION}")
                    file.execute(f"PRAGMA user_version = {SCHEMA}")
        # What was committed survives the end of a process however it comes.
        file.execute("PRAGMA synchronous = NORMAL")

    def _set_aside(self, why: str) -> None:
        """Rename the file, unless another process has done so."""
        self.close()
        try:
            if self.path.stat().st_ino != self._inode:
                return
        except FileNotFoundError:
            return
        target = self._free_name()
        _warn(f"the store {self.path} {why}; it is set aside as {target.name} and a new one is begun")
        os.replace(self.path, target)
        for ending in LOGS:
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self.path}{ending}", f"{target}{ending}")

    def _free_name(self) -> Path:
        """A name with the time that nothing has yet."""
        stamp = time.strftime("%Y%m%dT%H%M%S")
        target, number = self.path.with_name(f"{self.path.name}.{SET_ASIDE}-{stamp}"), 1
        while target.exists():
            number += 1
            target = self.path.with_name(f"{self.path.name}.{SET_ASIDE}-{stamp}-{number}")
        return target

    def _give_up(self, error: Exception) -> None:
        """Go on without keeping anything more."""
        _warn(f"measurements are not kept in {self.path}: {one_line(error)}; {CACHE_VARIABLE} names another folder")
        self._writable = False


def _tables(file: sqlite3.Connection) -> set[str]:
    """Names of the tables."""
    return {name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _write_ahead(file: sqlite3.Connection) -> None:
    """Readers and one writer at once. Two processes that begin one store together get in each other's way here, without
    a wait."""
    for attempt in range(50):
        try:
            file.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or attempt == 49:
                raise
            time.sleep(0.1)


@contextlib.contextmanager
def transaction(file: sqlite3.Connection) -> Iterator[None]:
    """All or nothing."""
    file.execute("BEGIN IMMEDIATE")
    try:
        yield
        file.execute("COMMIT")
    except BaseException:
        # A full disk has rolled back already.
        with contextlib.suppress(sqlite3.OperationalError):
            file.execute("ROLLBACK")
        raise
