"""The file of a store: one SQLite database that processes share, set aside where it cannot be trusted.

Nothing that goes wrong with it ends a ranking: a damaged file, or one of another version, is renamed and a new one
begun; one that cannot be written is read; where none can be, nothing is kept. Each is said in one line on standard
error.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

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
OF_THE_PLACE = {
    *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY),
    *(sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN),
    *(sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOLFS, sqlite3.SQLITE_AUTH),
}
"""SQLite's codes for what is wrong with a disk, a folder or another process, and not with the file's content."""


def _warn(line: str) -> None:
    # Whoever reads it may have left.
    with contextlib.suppress(OSError, ValueError):
        print(f"warning: {line}", file=sys.stderr, flush=True)


class _UnusableError(Exception):
    """The file is damaged, or not a store of this schema."""


def _is_of_the_place(error: Exception) -> bool:
    """Whether the file itself may be whole: a full disk, a file that may not be written, another process that does not
    end."""
    if isinstance(error, sqlite3.Error):
        return _code(error) in OF_THE_PLACE or isinstance(error, sqlite3.ProgrammingError)
    return isinstance(error, OSError | MemoryError)


def _code(error: sqlite3.Error) -> int:
    """SQLite's code, without what is beyond its kind; that of any error where it is not SQLite's own."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF


class Database:
    """The file at a path, opened, and made where there is none.

    Attributes:
        path: where it is.
        writable: whether it takes anything.
    """

    def __init__(self, path: Path):
        self.path = path
        self.writable = True
        self._file: sqlite3.Connection | None = None
        self._inode: int | None = None
        self._set_aside_before = False
        self._open()

    def close(self) -> None:
        """Close the file; it then takes and gives nothing."""
        if self._file is not None:
            # The last process to close writes the log back, which a full disk refuses.
            with contextlib.suppress(sqlite3.Error):
                self._file.close()
        self._file = None

    def carry_out(self, action: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """What the action makes of the file, or `otherwise` where there is none or something is wrong with it: whatever
        an action raises that is not of the disk means that the file is damaged."""
        if self._file is None:
            return otherwise
        try:
            return action(self._file)
        except Exception as error:
            if _is_of_the_place(error):
                self._give_up(one_line(error))
            else:
                self._replace(f"is damaged ({one_line(error)})")
        return otherwise

    def write(self, action: Callable[[sqlite3.Connection], None]) -> None:
        """Carry out an action in one transaction, as long as the file can be written."""

        def within(file: sqlite3.Connection) -> None:
            with transaction(file):
                action(file)

        if self.writable:
            self.carry_out(within, None)

    def files(self) -> list[Path]:
        """The file and its logs, there or not."""
        return [Path(f"{self.path}{ending}") for ending in ("", *LOGS)]

    def files_set_aside(self) -> list[Path]:
        """Those that could not be trusted, with their logs."""
        return sorted(self.path.parent.glob(f"{self.path.name}.{SET_ASIDE}-*")) if self.path.parent.is_dir() else []

    def _open(self) -> None:
        try:
            self._connect()
        except _UnusableError as error:
            self._replace(str(error))
        except Exception as error:
            self._give_up(one_line(error))

    def _replace(self, why: str) -> None:
        """Set the file aside and begin a new one; a second file that cannot be used is given up."""
        try:
            if self._set_aside_before:
                raise _UnusableError("so was the one before it")
            self._set_aside(why)
            self._connect()
        except Exception as error:
            self.close()
            self._give_up(f"it {why}: {one_line(error)}")

    def _connect(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._prepared(f"{_uri(self.path)}?mode=rwc")
        except (sqlite3.Error, OSError) as error:
            if not self.path.is_file() or self.path.stat().st_size == 0 or not _is_read_only(error):
                raise
            self._connect_reading(error)

    def _connect_reading(self, error: Exception) -> None:
        """To a store that cannot be written: with the files that SQLite puts beside one, where they are there or can be
        made, else without, as nobody can change it."""
        for how in ("mode=ro", "mode=ro&immutable=1"):
            try:
                self._prepared(f"{_uri(self.path)}?{how}")
            except sqlite3.Error as another:
                error = another
                continue
            self.writable = False
            _warn(
                f"the store {self.path} cannot be written: what it has is used, and nothing more is kept; "
                f"{CACHE_VARIABLE} names another folder"
            )
            return
        raise error

    def _prepared(self, uri: str) -> None:
        """Connect, and look at what is there."""
        file = sqlite3.connect(uri, timeout=WAIT, isolation_level=None, uri=True)
        try:
            self._inode = self.path.stat().st_ino
            self._prepare(file)
        except BaseException as error:
            file.close()
            if not isinstance(error, Exception) or isinstance(error, _UnusableError) or _is_of_the_place(error):
                raise
            raise _UnusableError(f"is damaged ({one_line(error)})") from error
        self._file = file

    def _prepare(self, file: sqlite3.Connection) -> None:
        """Check that the file is a store of this schema, and make it one where it is empty."""
        (version,), (application,) = (
            file.execute("PRAGMA user_version").fetchone(),
            file.execute("PRAGMA application_id").fetchone(),
        )
        found = _contents(file)
        if found and (application, version) != (APPLICATION, SCHEMA):
            what = (
                f"has schema {version}, not {SCHEMA}"
                if application == APPLICATION
                else "is not a store of measurements"
            )
            raise _UnusableError(what)
        if found and found != {name: _plain(text) for name, text in TABLES.items()}:
            wrong = next(
                (f"table {name}" for name, text in TABLES.items() if found.get(name) != _plain(text)), "a table"
            )
            raise _UnusableError(f"is damaged ({wrong} is not what it should be)")
        if not found:
            _write_ahead(file)
            with transaction(file):
                # Another process may have been first.
                if not _contents(file):
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
        os.replace(self.path, target)
        self._set_aside_before = True
        for ending in LOGS:
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self.path}{ending}", f"{target}{ending}")
        _warn(f"the store {self.path} {why}; it is set aside as {target.name} and a new one is begun")

    def _free_name(self) -> Path:
        """A name with the time that nothing has yet."""
        stamp = time.strftime("%Y%m%dT%H%M%S")
        target, number = self.path.with_name(f"{self.path.name}.{SET_ASIDE}-{stamp}"), 1
        while target.exists():
            number += 1
            target = self.path.with_name(f"{self.path.name}.{SET_ASIDE}-{stamp}-{number}")
        return target

    def _give_up(self, why: str) -> None:
        """Go on without keeping anything more."""
        _warn(f"measurements are not kept in {self.path}: {why}; {CACHE_VARIABLE} names another folder")
        self.writable = False


def _uri(path: Path) -> str:
    return f"file:{quote(os.fsencode(os.path.abspath(path)))}"


def _is_read_only(error: Exception) -> bool:
    """Whether the place may be one that can be read."""
    if isinstance(error, sqlite3.Error):
        wanted = sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR
        return _code(error) in wanted
    return isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)


def _contents(file: sqlite3.Connection) -> dict[str, str]:
    """What is in the file, but for indices and what SQLite puts there itself, and the text that made it."""
    rows = file.execute("SELECT name, sql FROM sqlite_master WHERE type != 'index'")
    return {name: _plain(text) for name, text in rows if not name.startswith("sqlite_")}


def _plain(text: str) -> str:
    """SQL on one line."""
    return " ".join(text.split())


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
        with contextlib.suppress(sqlite3.Error):
            file.execute("ROLLBACK")
        raise
