"""Access keys in SQLite: table `access_keys`, scopes as one text of words; table `deployment`, of one row."""

from __future__ import annotations

import json
import sqlite3

from embedonce.ports import AccessKey, Deployment, KeyLimits
from embedonce.stores.embedded.database import Database, placeholders

_COLUMNS = (
    *("id", "secret_hash", "name", "namespace", "scopes", "isolated", "created", "revoked"),
    *("budget", "rpm", "tpm"),
)
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM access_keys"  # noqa: S608
_INSERT = (
    f"INSERT INTO access_keys ({', '.join(_COLUMNS)}) "  # noqa: S608
    f"VALUES ({placeholders(len(_COLUMNS))})"
)
_LIMIT = "UPDATE access_keys SET budget = ?, rpm = ?, tpm = ? WHERE id = ?"
_DEPLOYMENT = "SELECT ver, paused, daily, generations, purged FROM deployment"
_DEPLOY = (
    "INSERT OR REPLACE INTO deployment (id, ver, paused, daily, generations, purged) "
    "VALUES (1, ?, ?, ?, ?, ?)"
)


class EmbeddedAccess:
    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, secret_hash: str) -> AccessKey | None:
        rows = self._database.read(f"{_SELECT} WHERE secret_hash = ?", (secret_hash,))
        return _key(rows[0]) if rows else None

    def find_by_id(self, key_id: str) -> AccessKey | None:
        rows = self._database.read(f"{_SELECT} WHERE id = ?", (key_id,))
        return _key(rows[0]) if rows else None

    def add(self, key: AccessKey) -> None:
        row = (
            key.id,
            key.secret_hash,
            key.name,
            key.namespace,
            " ".join(sorted(key.scopes)),
            int(key.isolated),
            key.created,
            key.revoked,
            *_limits(key.limits),
        )

        def work(connection: sqlite3.Connection) -> None:
            try:
                connection.execute(_INSERT, row)
            except sqlite3.IntegrityError:
                raise ValueError("a key with this id or secret exists") from None

        self._database.write(work)

    def list(self) -> list[AccessKey]:
        return [_key(row) for row in self._database.read(f"{_SELECT} ORDER BY created, id")]

    def revoke(self, key_id: str, when: int) -> bool:
        return self._update(
            "UPDATE access_keys SET revoked = coalesce(revoked, ?) WHERE id = ?", (when, key_id)
        )

    def limit(self, key_id: str, limits: KeyLimits) -> bool:
        return self._update(_LIMIT, (*_limits(limits), key_id))

    def deployment(self) -> Deployment:
        rows = self._database.read(_DEPLOYMENT)
        return _deployment(rows[0]) if rows else Deployment()

    def set_deployment(self, deployment: Deployment) -> bool:
        d = deployment
        generations = json.dumps(dict(d.generations), sort_keys=True, separators=(",", ":"))
        row = (d.version + 1, int(d.paused), d.daily, generations, d.purged)

        def work(connection: sqlite3.Connection) -> bool:
            standing = connection.execute(_DEPLOYMENT).fetchone()
            if (standing["ver"] if standing else 0) != d.version:
                return False
            connection.execute(_DEPLOY, row)
            return True

        return self._database.write(work)

    def _update(self, statement: str, parameters: tuple[object, ...]) -> bool:
        """False: no such key."""
        return self._database.write(
            lambda connection: connection.execute(statement, parameters).rowcount == 1
        )


def _limits(limits: KeyLimits) -> tuple[int | None, int | None, int | None]:
    return (limits.budget, limits.requests_per_minute, limits.tokens_per_minute)


def _key(row: sqlite3.Row) -> AccessKey:
    return AccessKey(
        id=row["id"],
        secret_hash=row["secret_hash"],
        name=row["name"],
        namespace=row["namespace"],
        scopes=frozenset(row["scopes"].split()),
        isolated=bool(row["isolated"]),
        created=row["created"],
        revoked=row["revoked"],
        limits=KeyLimits(row["budget"], row["rpm"], row["tpm"]),
    )


def _deployment(row: sqlite3.Row) -> Deployment:
    return Deployment(
        paused=bool(row["paused"]),
        daily=row["daily"],
        generations=json.loads(row["generations"]),
        purged=row["purged"],
        version=row["ver"],
    )
