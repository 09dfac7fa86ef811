"""Vectors in SQLite: table `vectors`, one column per name of `StoredVector.metadata()`, the vector as `v`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from embedonce.core.plan import VectorKey
from embedonce.core.record import StoredVector
from embedonce.ports import Clock
from embedonce.stores.embedded.database import Database, Sweep, placeholders
from embedonce.stores.rows import NAMES, NUMBERS, chunks

MAX_PARAMETERS = 500
"""Keys in one SELECT: below the limit of any SQLite build, above any request's share."""
SCANNED_ROWS = 500

_SELECT = f"SELECT fp, v, {', '.join(NAMES)} FROM vectors WHERE fp IN "  # noqa: S608
_SCAN = (
    f"SELECT fp, {{}} AS v, {', '.join(NAMES)} FROM vectors "  # noqa: S608
    "WHERE fp > ? AND length(v) = 4 * d ORDER BY fp LIMIT ?"
)
_UPSERT = (
    f"INSERT OR REPLACE INTO vectors (fp, v, {', '.join(NAMES)}) "  # noqa: S608
    f"VALUES ({placeholders(2 + len(NAMES))})"
)


class EmbeddedVectors:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._sweep = Sweep("vectors", clock)

    def get_many(self, keys: Sequence[VectorKey]) -> dict[bytes, StoredVector]:
        rows: list[sqlite3.Row] = []
        for some in chunks((key.fingerprint for key in keys), MAX_PARAMETERS):
            rows += self._database.read(_SELECT + f"({placeholders(len(some))})", some)
        return _live(rows, self._clock.now())

    def put_many(
        self, entries: Sequence[tuple[VectorKey, StoredVector]], *, overwrite: bool = False
    ) -> list[StoredVector | None]:
        if not entries:
            return []

        def work(connection: sqlite3.Connection) -> list[StoredVector | None]:
            now = self._clock.now()
            standing: dict[bytes, StoredVector] = {}
            for some in chunks((key.fingerprint for key, _ in entries), MAX_PARAMETERS):
                rows = connection.execute(_SELECT + f"({placeholders(len(some))})", some)
                standing |= _live(rows, now)
            for key, record in entries:
                if record.live(now) and (overwrite or key.fingerprint not in standing):
                    connection.execute(_UPSERT, _row(key.fingerprint, record))
                    standing[key.fingerprint] = record
            self._sweep.run(connection)
            return [standing.get(key.fingerprint) for key, _ in entries]

        return self._database.write(work)

    def delete_many(self, keys: Sequence[VectorKey]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            for some in chunks((key.fingerprint for key in keys), MAX_PARAMETERS):
                statement = f"DELETE FROM vectors WHERE fp IN ({placeholders(len(some))})"  # noqa: S608
                connection.execute(statement, some)

        if keys:
            self._database.write(work)

    def scan(self, *, vectors: bool) -> Iterator[tuple[VectorKey, StoredVector]]:
        last = b""
        while rows := self._database.read(_SCAN.format("v" if vectors else "NULL"), (last, SCANNED_ROWS)):
            last = rows[-1]["fp"]
            now = self._clock.now()
            for row in rows:
                record = _record(row, now)
                if record is not None:
                    yield VectorKey(row["fp"], row["d"]), record


def _row(fingerprint: bytes, record: StoredVector) -> tuple[object, ...]:
    metadata = record.metadata()
    values = (int(metadata[name]) if name in NUMBERS else metadata[name] for name in NAMES)
    return (fingerprint, record.data, *values)


def _live(rows: Iterable[sqlite3.Row], now: float) -> dict[bytes, StoredVector]:
    read = ((row["fp"], _record(row, now)) for row in rows)
    return {fingerprint: record for fingerprint, record in read if record is not None}


def _record(row: sqlite3.Row, now: float) -> StoredVector | None:
    """A row that cannot be read back is as good as absent: it may be replaced."""
    try:
        record = StoredVector.from_metadata({name: row[name] for name in NAMES}, row["v"])
    except (ValueError, TypeError):
        return None
    return record if record.live(now) else None
