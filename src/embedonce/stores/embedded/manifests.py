"""Manifests and heads in SQLite: tables `manifests` and `heads`, rows as `embedonce.core.manifestrow` writes
them. Heads never expire."""

from __future__ import annotations

import sqlite3

from embedonce.core import manifestrow
from embedonce.core.manifest import Head, Manifest
from embedonce.ports import Clock
from embedonce.stores.embedded.database import Database, Sweep
from embedonce.stores.manifestrows import head_of, manifest_of
from embedonce.stores.rows import in_the_way

_MANIFEST = "SELECT ver, row FROM manifests WHERE k = ?"
_PUT_MANIFEST = "INSERT OR REPLACE INTO manifests (k, ver, row, due, e) VALUES (?, ?, ?, ?, ?)"
_DUE = "SELECT k FROM manifests WHERE due < ? AND e > ? ORDER BY due LIMIT ?"
_HEAD = "SELECT ver, row FROM heads WHERE k = ?"
_PUT_HEAD = "INSERT OR REPLACE INTO heads (k, ver, row) VALUES (?, ?, ?)"


class EmbeddedManifests:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._sweep = Sweep("manifests", clock)

    def get(self, manifest_id: str) -> Manifest | None:
        rows = self._database.read(_MANIFEST, (manifest_id,))
        return manifest_of(manifest_id, rows[0]["ver"], rows[0]["row"]) if rows else None

    def swap(self, manifest: Manifest, over: int) -> Manifest | None:
        m = manifest
        row = (m.id, m.version, manifestrow.encode(m), m.due, m.expires)

        def work(connection: sqlite3.Connection) -> Manifest | None:
            before = connection.execute(_MANIFEST, (m.id,)).fetchone()
            if (before["ver"] if before else 0) != over:
                return in_the_way(manifest_of(m.id, before["ver"], before["row"]) if before else None, m)
            connection.execute(_PUT_MANIFEST, row)
            self._sweep.run(connection)
            return None

        return self._database.write(work)

    def head(self, place: str) -> Head | None:
        rows = self._database.read(_HEAD, (place,))
        return head_of(place, rows[0]["ver"], rows[0]["row"]) if rows else None

    def swap_head(self, head: Head, over: int) -> Head | None:
        row = (head.place, head.version, manifestrow.encode_head(head))

        def work(connection: sqlite3.Connection) -> Head | None:
            before = connection.execute(_HEAD, (head.place,)).fetchone()
            if (before["ver"] if before else 0) != over:
                return in_the_way(head_of(head.place, before["ver"], before["row"]) if before else None, head)
            connection.execute(_PUT_HEAD, row)
            return None

        return self._database.write(work)

    def due(self, before: float, limit: int) -> list[str]:
        rows = self._database.read(_DUE, (before, self._clock.now(), limit))
        return [row["k"] for row in rows]
