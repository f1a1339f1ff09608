"""Every exact measurement, kept in one SQLite file that processes share.

A measurement is found again only where everything agrees that decides its bits: the context (network, weights, loss,
points, torch, device, threads), the mini-batch, the format and the effect. What is kept are the sums of each layer,
from which every scope's angle follows.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from numeric_formats.folders import CACHE_VARIABLE, cache_folder
from numeric_formats.messages import one_line
from predictor.effects import Effect
from predictor.measuring.context import Context

FILE = "measurements.sqlite"
SCHEMA = 1
APPLICATION = 0x666D7473
"""SQLite's application_id of a store."""
WAIT = 30.0
"""Seconds to wait for another process that writes."""
SET_ASIDE = "set-aside"
T = TypeVar("T")

TABLES = {
    "contexts": "CREATE TABLE contexts (id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, fields TEXT NOT NULL)",
    "names": "CREATE TABLE names (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)",
    "measurements": """CREATE TABLE measurements (context INTEGER NOT NULL, batch INTEGER NOT NULL, format INTEGER NOT NULL, effect TEXT NOT NULL,
    layers INTEGER NOT NULL, sums BLOB NOT NULL, seconds REAL NOT NULL, checksum INTEGER NOT NULL,
    PRIMARY KEY (context, batch, format, effect)) WITHOUT ROWID""",
    "records": """CREATE TABLE records (context INTEGER NOT NULL, batch INTEGER NOT NULL, what TEXT NOT NULL, content BLOB NOT NULL,
    checksum INTEGER NOT NULL, PRIMARY KEY (context, batch, what))""",
}


@dataclass(frozen=True)
class Stored:
    """One kept measurement: the layers' names, their sums <d,g>, |d|^2, |g|^2, (layers, 3) float64, and the seconds
    that it took."""

    layers: tuple[str, ...]
    sums: NDArray[np.float64]
    seconds: float


@dataclass(frozen=True)
class Info:
    """What a store holds. bytes: its files and those set aside. contexts: fields of each, with its number of
    measurements."""

    path: str
    bytes: int
    measurements: int
    formats: int
    minibatches: int
    set_aside: int
    contexts: list[dict[str, Any]]


def default_path() -> Path:
    """The store's file, in the user's cache."""
    return cache_folder() / FILE


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr, flush=True)


class _UnusableError(Exception):
    """The file is damaged, or not a store of this schema."""


class Store:
    """The measurements of all runs. Use as a context manager, or close it.

    Nothing that goes wrong with the file ends a ranking: a damaged one, or one of another version, is renamed and a new
    one begun; where none can be written, measurements are not kept. Either is said in one line on standard error.
    """

    def __init__(self, path: Path):
        self.path = path
        self._file: sqlite3.Connection | None = None
        self._inode: int | None = None
        self._writable = True

    @classmethod
    def open(cls, path: Path | None = None) -> Store:
        """The store in this file, by default the user's (`default_path`); made where there is none."""
        store = cls(default_path() if path is None else path)
        store._open()
        return store

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the store then keeps and finds nothing."""
        if self._file is not None:
            # The last process to close writes the log back, which a full disk refuses.
            with contextlib.suppress(sqlite3.Error):
                self._file.close()
        self._file = None

    # Opening, and what can be wrong with the file.

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
            with _transaction(file):
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
        for ending in ("-wal", "-shm"):
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

    def _guarded(self, action: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """What the action makes of the file, or `otherwise` where there is none or something is wrong with it."""
        if self._file is None:
            return otherwise
        try:
            return action(self._file)
        except (
            sqlite3.OperationalError
        ) as error:  # a full disk, a file that may not be written, another process that does not end
            self._give_up(error)
        except sqlite3.DatabaseError as error:
            self._set_aside(f"is damaged ({one_line(error)})")
            self._open()
        return otherwise

    # Reading and writing.

    def get(
        self, context: Context, batch: str, formats: Sequence[str], effects: Sequence[Effect]
    ) -> dict[tuple[str, Effect], Stored]:
        """What is kept of these formats (digests) and effects on one mini-batch (its digest), by format and effect."""
        wanted, chosen = set(formats), {effect.value for effect in effects}

        def read(file: sqlite3.Connection) -> dict[tuple[str, Effect], Stored]:
            rows = file.execute(
                "SELECT f.text, m.effect, l.text, m.sums, m.seconds, m.checksum FROM measurements m JOIN names f ON f.id = m.format "
                "JOIN names l ON l.id = m.layers WHERE m.context = (SELECT id FROM contexts WHERE digest = ?) "
                "AND m.batch = (SELECT id FROM names WHERE text = ?)",
                (context.digest, batch),
            )
            found = {}
            for format, effect, layers, sums, seconds, checksum in rows:
                if format in wanted and effect in chosen:
                    if checksum != _checksum(context.digest, batch, format, effect, layers, sums, seconds):
                        raise sqlite3.DatabaseError("a measurement is not what was written")
                    names = tuple(json.loads(layers))
                    found[format, Effect(effect)] = Stored(
                        names, np.frombuffer(sums, np.float64).reshape(len(names), 3).copy(), seconds
                    )
            return found

        return self._guarded(read, {})

    def put(self, context: Context, batch: str, entries: Iterable[tuple[str, Effect, Stored]]) -> None:
        """Keep measurements (format's digest, effect, what was measured) of one mini-batch in one transaction; what is
        there already stays."""
        if self._writable:
            self._guarded(lambda file: self._put(file, context, batch, list(entries)), None)

    def _put(
        self, file: sqlite3.Connection, context: Context, batch: str, entries: list[tuple[str, Effect, Stored]]
    ) -> None:
        with _transaction(file):
            number = self._context(file, context)
            for format, effect, stored in entries:
                layers = json.dumps(stored.layers)
                sums = np.ascontiguousarray(stored.sums, np.float64).tobytes()
                checksum = _checksum(context.digest, batch, format, effect.value, layers, sums, stored.seconds)
                ids = [self._name(file, text) for text in (batch, format, layers)]
                file.execute(
                    "INSERT OR IGNORE INTO measurements (context, batch, format, effect, layers, sums, seconds, checksum) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (number, ids[0], ids[1], effect.value, ids[2], sums, stored.seconds, checksum),
                )

    def get_record(self, context: Context, batch: str, what: str) -> bytes | None:
        """What else was kept of one mini-batch under this name, such as its noise; None where nothing was."""

        def read(file: sqlite3.Connection) -> bytes | None:
            row = file.execute(
                "SELECT content, checksum FROM records WHERE context = (SELECT id FROM contexts WHERE digest = ?) "
                "AND batch = (SELECT id FROM names WHERE text = ?) AND what = ?",
                (context.digest, batch, what),
            ).fetchone()
            if row is None:
                return None
            if row[1] != zlib.crc32(row[0]):
                raise sqlite3.DatabaseError("a record is not what was written")
            return bytes(row[0])

        return self._guarded(read, None)

    def put_record(self, context: Context, batch: str, what: str, content: bytes) -> None:
        """Keep something of one mini-batch under a name; what is there already stays."""

        def write(file: sqlite3.Connection) -> None:
            with _transaction(file):
                number = self._context(file, context)
                file.execute(
                    "INSERT OR IGNORE INTO records (context, batch, what, content, checksum) VALUES (?, ?, ?, ?, ?)",
                    (number, self._name(file, batch), what, content, zlib.crc32(content)),
                )

        if self._writable:
            self._guarded(write, None)

    @staticmethod
    def _context(file: sqlite3.Connection, context: Context) -> int:
        """The number that stands for a context in rows."""
        file.execute(
            "INSERT OR IGNORE INTO contexts (digest, fields) VALUES (?, ?)",
            (context.digest, json.dumps(asdict(context))),
        )
        (number,) = file.execute("SELECT id FROM contexts WHERE digest = ?", (context.digest,)).fetchone()
        return int(number)

    @staticmethod
    def _name(file: sqlite3.Connection, text: str) -> int:
        """The number that stands for a long text in rows."""
        file.execute("INSERT OR IGNORE INTO names (text) VALUES (?)", (text,))
        (number,) = file.execute("SELECT id FROM names WHERE text = ?", (text,)).fetchone()
        return int(number)

    # What there is, and away with it.

    def info(self) -> Info:
        """What the store holds."""

        nothing: tuple[tuple[int, int, int], list[dict[str, Any]]] = (0, 0, 0), []

        def read(file: sqlite3.Connection) -> tuple[tuple[int, int, int], list[dict[str, Any]]]:
            counts = file.execute(
                "SELECT count(*), count(DISTINCT format), count(DISTINCT batch) FROM measurements"
            ).fetchone()
            rows = file.execute(
                "SELECT fields, (SELECT count(*) FROM measurements WHERE context = contexts.id) FROM contexts ORDER BY id"
            )
            return counts, [json.loads(text) | {"measurements": number} for text, number in rows]

        counts, contexts = self._guarded(read, nothing)
        aside = self._set_aside_files()
        files = [*aside, *(Path(f"{self.path}{ending}") for ending in ("", "-wal", "-shm"))]
        size = sum(file.stat().st_size for file in files if file.is_file())
        return Info(
            str(self.path), size, *counts, sum(not file.name.endswith(("-wal", "-shm")) for file in aside), contexts
        )

    def clear(self) -> int:
        """Forget all measurements and delete what was set aside; how many measurements there were."""

        def forget(file: sqlite3.Connection) -> int:
            with _transaction(file):
                (number,) = file.execute("SELECT count(*) FROM measurements").fetchone()
                for table in TABLES:
                    file.execute(f"DELETE FROM {table}")
            # Gives the room back; where another process reads or writes just now, it is used again later.
            with contextlib.suppress(sqlite3.OperationalError):
                file.execute("VACUUM")
                file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return int(number)

        for file in self._set_aside_files():
            file.unlink()
        return self._guarded(forget, 0)

    def _set_aside_files(self) -> list[Path]:
        return sorted(self.path.parent.glob(f"{self.path.name}.{SET_ASIDE}-*")) if self.path.parent.is_dir() else []


def _checksum(context: str, batch: str, format: str, effect: str, layers: str, sums: bytes, seconds: float) -> int:
    """SQLite finds a broken page, not a changed byte; this does."""
    return zlib.crc32(sums, zlib.crc32("\n".join((context, batch, format, effect, layers, repr(seconds))).encode()))


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
def _transaction(file: sqlite3.Connection) -> Iterator[None]:
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
