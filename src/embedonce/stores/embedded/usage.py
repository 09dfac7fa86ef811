"""What keys used and spent, in SQLite: table `usage`, one row per owner, day and counter that is not 0."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from embedonce.core.days import day_of
from embedonce.ports import Clock
from embedonce.stores.embedded.database import SWEEP_ROWS, SWEEP_SECONDS, Database

KEPT_DAYS = 400

_ADD = (
    "INSERT INTO usage (owner, day, name, n) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (owner, day, name) DO UPDATE SET n = n + excluded.n"
)
_EMPTY = "DELETE FROM usage WHERE owner = ? AND day = ? AND n = 0"
_SELECT = "SELECT day, name, n FROM usage WHERE owner = ? AND day BETWEEN ? AND ? ORDER BY day, name"
_SWEEP = (
    "DELETE FROM usage WHERE (owner, day, name) IN "
    "(SELECT owner, day, name FROM usage WHERE day < ? ORDER BY day LIMIT ?)"
)


class EmbeddedUsage:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._sweep_due = 0.0

    def add(self, owner: str, day: str, counts: Mapping[str, int]) -> None:
        rows = [(owner, day, name, amount) for name, amount in counts.items() if amount]

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(_ADD, rows)
            # Reservations end at 0, each five minutes' in a row of their own.
            connection.execute(_EMPTY, (owner, day))
            self._sweep(connection)

        if rows:
            self._database.write(work)

    def read(self, owner: str, first: str, last: str) -> dict[str, dict[str, int]]:
        days: dict[str, dict[str, int]] = {}
        for row in self._database.read(_SELECT, (owner, first, last)):
            days.setdefault(row["day"], {})[row["name"]] = row["n"]
        return days

    def _sweep(self, connection: sqlite3.Connection) -> None:
        """As `database.Sweep`, by the day."""
        now = self._clock.now()
        if now >= self._sweep_due:
            oldest = day_of(now - KEPT_DAYS * 86_400)
            deleted = connection.execute(_SWEEP, (oldest, SWEEP_ROWS)).rowcount
            self._sweep_due = now + (SWEEP_SECONDS if deleted < SWEEP_ROWS else 1.0)
