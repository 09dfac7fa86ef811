"""Access keys in SQLite: table `access_keys`, scopes as one text of words."""

from __future__ import annotations

import sqlite3

from embedonce.ports import AccessKey
from embedonce.stores.embedded.database import Database

_SELECT = "SELECT id, secret_hash, name, namespace, scopes, isolated, created, revoked FROM access_keys"
_INSERT = (
    "INSERT INTO access_keys (id, secret_hash, name, namespace, scopes, isolated, created, revoked) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
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
        def work(connection: sqlite3.Connection) -> bool:
            statement = "UPDATE access_keys SET revoked = coalesce(revoked, ?) WHERE id = ?"
            return connection.execute(statement, (when, key_id)).rowcount == 1

        return self._database.write(work)


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
    )
