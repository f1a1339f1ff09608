"""Every exact measurement, kept in one SQLite file that processes share.

A measurement is found again only where everything agrees that decides its bits: the context (network, weights, loss,
points, torch, device, threads), the mini-batch, the format and the effect. What is kept are the sums of each parameter,
from which every scope's angle follows.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from numeric_formats.folders import cache_folder
from predictor.effects import Effect
from predictor.measuring.database import LOGS, TABLES, Database, transaction

if TYPE_CHECKING:
    from predictor.measuring.validity import Context

FILE = "measurements.sqlite"
T = TypeVar("T")
OF_CONTEXT = (
    """context = (SELECT id FROM contexts WHERE digest = ?) AND batch = (SELECT id FROM names WHERE text = ?)"""
)
MEASUREMENTS_OF = f"""SELECT f.text, m.effect, p.text, m.sums, m.seconds, m.checksum FROM measurements m
    JOIN names f ON f.id = m.format JOIN names p ON p.id = m.layers WHERE {OF_CONTEXT}"""
RECORD_OF = f"SELECT content, checksum FROM records WHERE {OF_CONTEXT} AND what = ?"


@dataclass(frozen=True)
class Stored:
    """One kept measurement.

    Attributes:
        parameters: names of the parameters.
        sums: their <d,g>, |d|^2, |g|^2, (parameters, 3) float64.
        sketch: of d and g, (2, BUCKETS) float32.
        loss: less that of full precision.
        seconds: what it took.
    """

    parameters: tuple[str, ...]
    sums: NDArray[np.float64]
    sketch: NDArray[np.float32]
    loss: float
    seconds: float

    def to_bytes(self) -> bytes:
        """All numbers but the seconds."""
        loss = np.array([self.loss], np.float64)
        return b"".join(np.ascontiguousarray(array).tobytes() for array in (loss, self.sums, self.sketch))

    @classmethod
    def from_bytes(cls, content: bytes, parameters: tuple[str, ...], seconds: float) -> Stored:
        """What `to_bytes` gave; ValueError for other bytes."""
        from formats.kernel import BUCKETS  # numba takes longer to load than `cache info` runs

        count = 1 + 3 * len(parameters)
        numbers = np.frombuffer(content, np.float64, count)
        sketch = np.frombuffer(content, np.float32, offset=count * 8).reshape(2, BUCKETS)
        return cls(parameters, numbers[1:].reshape(-1, 3).copy(), sketch.copy(), float(numbers[0]), seconds)


@dataclass(frozen=True)
class Info:
    """What a store holds.

    Attributes:
        path: its file.
        bytes: of its files and those set aside.
        measurements: how many.
        formats: of how many formats.
        minibatches: of how many mini-batches.
        set_aside: files that could not be trusted.
        contexts: fields of each, with its number of measurements.
    """

    path: str
    bytes: int
    measurements: int
    formats: int
    minibatches: int
    set_aside: int
    contexts: list[dict[str, Any]]


def default_path() -> Path:
    """The user's store: a file in the cache folder."""
    return cache_folder() / FILE


class Store:
    """The measurements of all runs. Use as a context manager, or close it.

    Nothing that goes wrong with the file ends a ranking; predictor/measuring/database.py says what becomes of it.
    """

    def __init__(self, database: Database):
        self._database = database

    @classmethod
    def open(cls, path: Path | None = None) -> Store:
        """The store in this file, by default the user's (`default_path`); made where there is none."""
        return cls(Database(default_path() if path is None else path))

    @property
    def path(self) -> Path:
        """Its file."""
        return self._database.path

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the store then keeps and finds nothing."""
        self._database.close()

    @property
    def keeps(self) -> bool:
        """Whether what is measured now will be found again."""
        return self._database.writable

    # Reading and writing.

    def get(
        self, context: Context, batch: str, formats: Sequence[str], effects: Sequence[Effect]
    ) -> dict[tuple[str, Effect], Stored]:
        """What is kept of these formats (digests) and effects on one mini-batch (its digest), by format and effect."""
        wanted, chosen = set(formats), {effect.value for effect in effects}

        def read(file: sqlite3.Connection) -> dict[tuple[str, Effect], Stored]:
            found = {}
            for row in file.execute(MEASUREMENTS_OF, (context.digest, batch)):
                format, effect, parameters, sums, seconds, checksum = row
                if format in wanted and effect in chosen:
                    if checksum != _checksum(context.digest, batch, format, effect, parameters, sums, seconds):
                        raise sqlite3.DatabaseError("a measurement is not what was written")
                    names = tuple(json.loads(parameters))
                    found[format, Effect(effect)] = Stored.from_bytes(sums, names, seconds)
            return found

        return self._database.carry_out(read, {})

    def put(self, context: Context, batch: str, entries: Iterable[tuple[str, Effect, Stored]]) -> None:
        """Keep measurements (format's digest, effect, what was measured) of one mini-batch in one transaction; what is
        there already stays."""
        # Here, so that what goes wrong inside is the file's.
        rows = [
            (format, effect.value, json.dumps(stored.parameters), stored.to_bytes(), stored.seconds)
            for format, effect, stored in entries
        ]

        def write(file: sqlite3.Connection) -> None:
            number = self._context(file, context)
            for format, effect, parameters, sums, seconds in rows:
                checksum = _checksum(context.digest, batch, format, effect, parameters, sums, seconds)
                ids = [self._name(file, text) for text in (batch, format, parameters)]
                row = (number, ids[0], ids[1], effect, ids[2], sums, seconds, checksum)
                file.execute("INSERT OR IGNORE INTO measurements VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

        self._database.write(write)

    def get_record(self, context: Context, batch: str, what: str, read: Callable[[bytes], T]) -> T | None:
        """What else was kept of one mini-batch under this name, such as its noise; None where nothing was. read: makes
        it of its bytes; where it cannot, the file is damaged."""

        def find(file: sqlite3.Connection) -> T | None:
            row = file.execute(RECORD_OF, (context.digest, batch, what)).fetchone()
            if row is None:
                return None
            if row[1] != zlib.crc32(row[0]):
                raise sqlite3.DatabaseError("a record is not what was written")
            return read(bytes(row[0]))

        return self._database.carry_out(find, None)

    def put_record(self, context: Context, batch: str, what: str, content: bytes) -> None:
        """Keep something of one mini-batch under a name; what is there already stays."""

        def write(file: sqlite3.Connection) -> None:
            row = (self._context(file, context), self._name(file, batch), what, content, zlib.crc32(content))
            file.execute("INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?, ?)", row)

        self._database.write(write)

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
                "SELECT fields, (SELECT count(*) FROM measurements WHERE context = contexts.id) "
                "FROM contexts ORDER BY id"
            )
            return counts, [json.loads(text) | {"measurements": number} for text, number in rows]

        counts, contexts = self._database.carry_out(read, nothing)
        aside = self._database.files_set_aside()
        size = sum(file.stat().st_size for file in (*aside, *self._database.files()) if file.is_file())
        without_logs = [file for file in aside if not file.name.endswith(LOGS)]
        return Info(str(self.path), size, *counts, len(without_logs), contexts)

    def clear(self) -> int:
        """Forget all measurements and delete what was set aside; how many measurements there were.

        Raises OSError where the file cannot be written.
        """

        def forget(file: sqlite3.Connection) -> int:
            with transaction(file):
                (number,) = file.execute("SELECT count(*) FROM measurements").fetchone()
                for table in TABLES:
                    file.execute(f"DELETE FROM {table}")
            # Gives the room back; where another process reads or writes just now, it is used again later.
            with contextlib.suppress(sqlite3.OperationalError):
                file.execute("VACUUM")
                file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return int(number)

        number = self._database.carry_out(forget, 0) if self._database.writable else 0
        if self.path.exists() and not self._database.writable:
            raise PermissionError(f"{self.path} cannot be written: nothing was forgotten")
        for aside in self._database.files_set_aside():
            aside.unlink()
        return number


def _checksum(context: str, batch: str, format: str, effect: str, layers: str, sums: bytes, seconds: float) -> int:
    """SQLite finds a broken page, not a changed byte; this does."""
    return zlib.crc32(sums, zlib.crc32("\n".join((context, batch, format, effect, layers, repr(seconds))).encode()))
