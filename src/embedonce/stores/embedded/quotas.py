"""Quotas in SQLite: table `quotas`, a sum and its expiry by name."""

from __future__ import annotations

import sqlite3

from embedonce.ports import Clock
from embedonce.stores.embedded.database import Database, Sweep

_SELECT = "SELECT n, e FROM quotas WHERE name = ? AND e > ?"
_GIVE = "UPDATE quotas SET n = n - ? WHERE name = ? AND n >= ? AND e > ?"
_UPSERT = "INSERT OR REPLACE INTO quotas (name, n, e) VALUES (?, ?, ?)"


class EmbeddedQuotas:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._sweep = Sweep("quotas", clock)

    def take(self, name: str, amount: int, *, limit: int, expires: float) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            standing = connection.execute(_SELECT, (name, self._clock.now())).fetchone()
            total = (standing["n"] if standing else 0) + amount
            if total > limit:
                return False
            connection.execute(_UPSERT, (name, total, standing["e"] if standing else expires))
            self._sweep.run(connection)
            return True

        return self._database.write(work)

    def give(self, name: str, amount: int) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute(_GIVE, (amount, name, amount, self._clock.now()))

        if amount > 0:
            self._database.write(work)

    def total(self, name: str) -> int:
        rows = self._database.read(_SELECT, (name, self._clock.now()))
        return int(rows[0]["n"]) if rows else 0
