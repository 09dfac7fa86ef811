"""The database of local mode, only read: integrity, schema, queues, keys."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from embedonce.access.authenticate import DEVELOPMENT
from embedonce.bootstrap.stores import DATABASE_FILE, MAX_RECEIVES
from embedonce.config import Settings
from embedonce.core.task import IngestQueue
from embedonce.core.ticket import Stage
from embedonce.doctor.check import Check, ok, problem, skipped, unless, warning
from embedonce.local.devkey import FILE_NAME as KEY_FILE
from embedonce.ports import Clock
from embedonce.stores.embedded.database import MIGRATIONS
from embedonce.stores.embedded.queue import RETENTION_SECONDS

INTEGRITY_SECONDS = 20.0
STEPS = 20_000
STALE_SECONDS = 600.0
QUEUES_SINCE = 3
"""The version of the schema that has them."""

_WAITING = """
    SELECT
        coalesce(sum(dead OR (ready <= ?2 AND receives >= ?3)), 0),
        min(CASE WHEN dead OR (ready <= ?2 AND receives >= ?3) THEN e END),
        coalesce(sum(NOT dead AND ready <= ?2 AND receives < ?3), 0),
        min(CASE WHEN NOT dead AND ready <= ?2 AND receives < ?3 THEN ready END)
    FROM messages WHERE queue = ?1 AND e > ?2
"""


def database_checks(settings: Settings, payers: tuple[str, ...], clock: Clock) -> list[Check]:
    """:param payers: ids of the keys that rules name"""
    path = settings.data_dir / DATABASE_FILE
    has_key = settings.dev_key is not None or (path.parent / KEY_FILE).is_file()
    if not path.exists():
        made = "the development key" if has_key else "the development key is made at the first start"
        return [skipped("database", "there is none yet; the server makes it"), ok("API keys", made)]
    try:
        with closing(_opened(path)) as connection:
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            checks = [_schema(version), _integrity(connection, clock)]
            if QUEUES_SINCE <= version <= len(MIGRATIONS):
                checks += unless(
                    "queues", _queues(connection, clock), "no dead letters, nothing stands still"
                )
            if version <= len(MIGRATIONS):
                checks += _keys(connection, payers, has_key)
            return checks
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        if name in ("SQLITE_BUSY", "SQLITE_LOCKED"):
            return [warning("database", "somebody else holds it", "try again")]
        return [problem("database", f"cannot be read ({name})", _RESTORE)]


_RESTORE = (
    f"stop the server and put a copy of {DATABASE_FILE} (with -wal and -shm) back; without one move it away: "
    "vectors are bought again, API keys have to be made again"
)


def _opened(path: Path) -> sqlite3.Connection:
    """Not `mode=ro`, which leaves an empty -wal and -shm behind."""
    connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=rw", uri=True, timeout=1.0)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _schema(version: int) -> Check:
    newest = len(MIGRATIONS)
    if version > newest:
        said = f"schema {version} is of a newer embedonce; this one knows up to {newest}"
        return problem("schema", said, "install the newer version again, or use another EMBEDONCE_DATA_DIR")
    if version < newest:
        return ok("schema", f"{version}; the next start brings it to {newest}")
    return ok("schema", f"{version}, the newest")


def _integrity(connection: sqlite3.Connection, clock: Clock) -> Check:
    """What is wrong is not shown: SQLite quotes names and rows."""
    end = clock.monotonic() + INTEGRITY_SECONDS
    connection.set_progress_handler(lambda: clock.monotonic() > end, STEPS)
    try:
        said = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorname", "") != "SQLITE_INTERRUPT":
            raise
        remedy = f"run `sqlite3 {DATABASE_FILE} 'PRAGMA quick_check'` when there is time"
        return warning("database", f"not fully checked within {INTEGRITY_SECONDS:g} s", remedy)
    finally:
        connection.set_progress_handler(None, 0)
    if said != "ok":
        return problem("database", "is damaged (quick_check)", _RESTORE)
    return ok("database", "quick_check finds nothing")


def _queues(connection: sqlite3.Connection, clock: Clock) -> Iterator[Check]:
    now = clock.now()
    for name in (*Stage, *IngestQueue):
        row = connection.execute(_WAITING, (name.value, now, MAX_RECEIVES)).fetchone()
        dead, dead_until, ready, ready_since = row
        if dead:
            oldest = max(0.0, now - (dead_until - RETENTION_SECONDS))
            remedy = "look at the server's log for the reason; then"
            remedy += (
                f" `embedonce queues redrive {name.value}`"
                if isinstance(name, Stage)
                else " put the file there again (docs/operations.md)"
            )
            yield warning("queues", f"{name.value}: {dead} dead letters, the oldest {_age(oldest)}", remedy)
        if ready and now - ready_since > STALE_SECONDS:
            said = f"{name.value}: {ready} messages wait, the oldest {_age(now - ready_since)}"
            yield warning("queues", said, "start the server, or the loop that EMBEDONCE_LOOPS leaves out")


def _age(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} old"
    return f"{seconds:.0f} s old"


def _keys(connection: sqlite3.Connection, payers: tuple[str, ...], has_key: bool) -> list[Check]:
    query = "SELECT id FROM access_keys WHERE revoked IS NULL"
    live = {row[0] for row in connection.execute(query)}
    also = " and the development key" if has_key else "; the development key is made at the next start"
    checks = [ok("API keys", f"{len(live)} live{also}")]
    for payer in payers:
        if payer not in live | {DEVELOPMENT.key_id}:
            said = "a rule names a key that does not exist or is revoked: its files are not embedded"
            remedy = "set `key` in EMBEDONCE_INGEST_RULES to an id of `embedonce keys list`"
            checks.append(warning("API keys", said, remedy))
    return checks
