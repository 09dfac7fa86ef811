"""One SQLite file for the embedded stores: many threads, many processes, nothing lost at power failure.

Opening, migrating and retrying live here; the tables of each port are in its own module's statements, the
schema below. A `Database` may not be carried over a fork.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from embedonce.core.errors import StoreUnavailable
from embedonce.ports import Clock

Result = TypeVar("Result")

BUSY_SECONDS = 1.0
BUSY_ATTEMPTS = 2
QUEUE_SECONDS = 2.0
"""A writer waits about 2 s for writers of other processes, after about 2 s for those of its own; then the use
cases fail open, and the breaker in front keeps the next ones from waiting too."""
MAX_IDLE_CONNECTIONS = 8
SWEEP_SECONDS = 300.0
SWEEP_ROWS = 200

MIGRATIONS = (
    """
    CREATE TABLE vectors (
        fp BLOB PRIMARY KEY, v BLOB NOT NULL, f TEXT NOT NULL, m TEXT NOT NULL, l TEXT NOT NULL,
        u TEXT NOT NULL, k TEXT NOT NULL, d INTEGER NOT NULL, t INTEGER NOT NULL, n TEXT NOT NULL,
        p INTEGER NOT NULL, c INTEGER NOT NULL, e INTEGER NOT NULL
    );
    CREATE INDEX vectors_by_expiry ON vectors (e);
    CREATE TABLE flights (
        fp BLOB PRIMARY KEY, ver INTEGER NOT NULL, state TEXT NOT NULL, vec BLOB, e REAL NOT NULL
    );
    CREATE INDEX flights_by_expiry ON flights (e);
    CREATE TABLE access_keys (
        id TEXT PRIMARY KEY, secret_hash TEXT NOT NULL UNIQUE, name TEXT NOT NULL, namespace TEXT NOT NULL,
        scopes TEXT NOT NULL, isolated INTEGER NOT NULL, created INTEGER NOT NULL, revoked INTEGER
    );
    """,
    """
    CREATE TABLE validators (k BLOB PRIMARY KEY, v TEXT NOT NULL, e INTEGER NOT NULL);
    CREATE INDEX validators_by_expiry ON validators (e);
    """,
    """
    CREATE TABLE tickets (
        k TEXT PRIMARY KEY, ver INTEGER NOT NULL, row TEXT NOT NULL, due REAL, e REAL NOT NULL
    );
    CREATE INDEX tickets_by_due ON tickets (due) WHERE due IS NOT NULL;
    CREATE INDEX tickets_by_expiry ON tickets (e);
    CREATE TABLE messages (
        id INTEGER PRIMARY KEY, queue TEXT NOT NULL, body TEXT NOT NULL, ready REAL NOT NULL,
        receives INTEGER NOT NULL, receipt TEXT, dead INTEGER NOT NULL, e REAL NOT NULL
    );
    CREATE INDEX messages_by_time ON messages (queue, dead, ready);
    CREATE UNIQUE INDEX messages_by_receipt ON messages (receipt) WHERE receipt IS NOT NULL;
    CREATE INDEX messages_by_expiry ON messages (e);
    CREATE TABLE quotas (name TEXT PRIMARY KEY, n INTEGER NOT NULL, e REAL NOT NULL);
    CREATE INDEX quotas_by_expiry ON quotas (e);
    """,
    """
    CREATE TABLE manifests (
        k TEXT PRIMARY KEY, ver INTEGER NOT NULL, row TEXT NOT NULL, due REAL, e REAL NOT NULL
    );
    CREATE INDEX manifests_by_due ON manifests (due) WHERE due IS NOT NULL;
    CREATE INDEX manifests_by_expiry ON manifests (e);
    CREATE TABLE heads (k TEXT PRIMARY KEY, ver INTEGER NOT NULL, row TEXT NOT NULL);
    """,
    """
    CREATE TABLE usage (
        owner TEXT NOT NULL, day TEXT NOT NULL, name TEXT NOT NULL, n INTEGER NOT NULL,
        PRIMARY KEY (owner, day, name)
    ) WITHOUT ROWID;
    CREATE INDEX usage_by_day ON usage (day);
    ALTER TABLE access_keys ADD COLUMN budget INTEGER;
    ALTER TABLE access_keys ADD COLUMN rpm INTEGER;
    ALTER TABLE access_keys ADD COLUMN tpm INTEGER;
    CREATE TABLE deployment (
        id INTEGER PRIMARY KEY CHECK (id = 1), ver INTEGER NOT NULL, paused INTEGER NOT NULL, daily INTEGER,
        generations TEXT NOT NULL, purged INTEGER NOT NULL
    );
    """,
)
"""The n-th script leads to `user_version` n + 1. Scripts that were released are never changed."""


class IncompatibleDatabase(Exception):
    """The file was written by a newer version of embedonce. Raised at start-up only."""


class Database:
    """Connections are pooled, not kept by thread, so that threads may come and go.

    :raises StoreUnavailable: the file cannot be opened or is no database
    :raises IncompatibleDatabase: see there
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        # Threads of this process queue here: SQLite's own waiting polls, and is not fair.
        self._writing = threading.Lock()
        _create_private(path)
        try:
            self._retrying(self._migrate)
        except BaseException:
            self.close()
            raise

    def read(self, statement: str, parameters: tuple[object, ...] = ()) -> list[sqlite3.Row]:
        """All rows of one SELECT, which sees what any process committed before."""
        return self._retrying(lambda connection: connection.execute(statement, parameters).fetchall())

    def write(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """`work` in one transaction that holds the write lock from its start; it may run more than once."""

        def transaction(connection: sqlite3.Connection) -> Result:
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
            return result

        if not self._writing.acquire(timeout=QUEUE_SECONDS):
            raise StoreUnavailable("sqlite: other writers do not get on")
        try:
            return self._retrying(transaction)
        finally:
            self._writing.release()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _retrying(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        with _translated():
            for attempt in range(1, BUSY_ATTEMPTS + 1):
                try:
                    with self._connection() as connection:
                        return work(connection)
                except sqlite3.OperationalError as error:
                    if attempt == BUSY_ATTEMPTS or not _is_busy(error):
                        raise
                # Busy without having waited (BUSY_SNAPSHOT, BUSY_RECOVERY, the switch to WAL): a real pause,
                # not the injected clock's, because another process has to get on.
                time.sleep(0.01 * attempt)
        raise AssertionError("unreachable")

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._closed:
                raise StoreUnavailable("sqlite: closed")
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = self._connect()
        try:
            yield connection
        finally:
            with self._lock:
                keep = not self._closed and len(self._idle) < MAX_IDLE_CONNECTIONS
                if keep:
                    self._idle.append(connection)
            if not keep:
                connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        if _version_of(connection) < len(MIGRATIONS):
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            try:
                for number in range(_version_of(connection), len(MIGRATIONS)):
                    for statement in MIGRATIONS[number].split(";"):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version = {number + 1}")
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
        if (found := _version_of(connection)) > len(MIGRATIONS):
            raise IncompatibleDatabase(
                f"{self._path} has schema {found}, this version of embedonce knows up to {len(MIGRATIONS)}"
            )


class Sweep:
    """Deletes expired rows of one table a bite at a time, inside transactions that write anyway: every few
    minutes, every second while there is more than one bite."""

    def __init__(self, table: str, clock: Clock) -> None:
        self._statement = (
            f"DELETE FROM {table} WHERE rowid IN "  # noqa: S608  # a table of ours
            f"(SELECT rowid FROM {table} WHERE e <= ? ORDER BY e LIMIT {SWEEP_ROWS})"
        )
        self._clock = clock
        self._due = 0.0

    def run(self, connection: sqlite3.Connection) -> None:
        now = self._clock.now()
        if now >= self._due:
            deleted = connection.execute(self._statement, (now,)).rowcount
            self._due = now + (SWEEP_SECONDS if deleted < SWEEP_ROWS else 1.0)


def placeholders(count: int) -> str:
    return ",".join("?" * count)


def _version_of(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        raise StoreUnavailable(f"sqlite: {name}") from None
    except OSError as error:
        raise StoreUnavailable(f"sqlite: {type(error).__name__}") from None


def _create_private(path: Path) -> None:
    """The file as 0600 before SQLite opens it (its -wal and -shm files take the same mode), its directory as
    0700 if it is made here: a directory that was there is the operator's."""
    with _translated():
        if not path.parent.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        with suppress(PermissionError):
            path.chmod(0o600)
