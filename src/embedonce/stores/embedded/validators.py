"""URL validators in SQLite: table `validators`, keys and text as `embedonce.stores.rows` makes them."""

from __future__ import annotations

import sqlite3

from embedonce.core.fingerprint import Namespace
from embedonce.ports import Clock, Validator
from embedonce.stores.embedded.database import Database, Sweep
from embedonce.stores.rows import validator_key, validator_of, validator_text

_SELECT = "SELECT v, e FROM validators WHERE k = ? AND e > ?"
_UPSERT = "INSERT OR REPLACE INTO validators (k, v, e) VALUES (?, ?, ?)"


class EmbeddedValidators:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._sweep = Sweep("validators", clock)

    def get(self, namespace: Namespace, url: bytes) -> Validator | None:
        rows = self._database.read(_SELECT, (validator_key(namespace, url), self._clock.now()))
        return validator_of(rows[0]["v"], rows[0]["e"]) if rows else None

    def put(self, namespace: Namespace, url: bytes, validator: Validator) -> None:
        row = (validator_key(namespace, url), validator_text(validator), validator.expires)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(_UPSERT, row)
            self._sweep.run(connection)

        self._database.write(work)
