"""Flights in SQLite: table `flights`, a row as `embedonce.core.flightrow` writes it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

from embedonce.core import flightrow
from embedonce.core.errors import StoreUnavailable
from embedonce.core.flight import Flight, Landed
from embedonce.ports import Clock, Swap
from embedonce.stores.embedded.database import Database, Sweep, placeholders
from embedonce.stores.rows import chunks, flight_of, vanished

MAX_PARAMETERS = 500
SCANNED_ROWS = 500

_SELECT = "SELECT fp, ver, state, vec FROM flights WHERE fp IN "
_SCAN = "SELECT fp, ver, state, vec FROM flights WHERE fp > ? AND vec IS NOT NULL ORDER BY fp LIMIT ?"
_UPSERT = "INSERT OR REPLACE INTO flights (fp, ver, state, vec, e) VALUES (?, ?, ?, ?, ?)"


class EmbeddedFlights:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._sweep = Sweep("flights", clock)

    def get_many(self, fingerprints: Sequence[bytes]) -> dict[bytes, Flight]:
        rows: list[sqlite3.Row] = []
        for some in chunks(fingerprints, MAX_PARAMETERS):
            rows += self._database.read(_SELECT + f"({placeholders(len(some))})", some)
        return {row["fp"]: _flight(row) for row in rows}

    def swap_many(self, swaps: Sequence[Swap]) -> list[Flight | StoreUnavailable | None]:
        if not swaps:
            return []

        def work(connection: sqlite3.Connection) -> list[Flight | StoreUnavailable | None]:
            standing: dict[bytes, Flight] = {}
            for some in chunks((swap.flight.fingerprint for swap in swaps), MAX_PARAMETERS):
                rows = connection.execute(_SELECT + f"({placeholders(len(some))})", some)
                standing |= {row["fp"]: _flight(row) for row in rows}
            outcomes: list[Flight | StoreUnavailable | None] = []
            for swap in swaps:
                flight = swap.flight
                before = standing.get(flight.fingerprint)
                if before is None and swap.over != 0:
                    outcomes.append(vanished(flight))
                elif before is not None and before.version != swap.over:
                    outcomes.append(before)
                else:
                    state, vector = flightrow.encode(flight)
                    row = (flight.fingerprint, flight.version, state, vector, flight.expires)
                    connection.execute(_UPSERT, row)
                    standing[flight.fingerprint] = flight
                    outcomes.append(None)
            self._sweep.run(connection)
            return outcomes

        return self._database.write(work)

    def landed(self) -> Iterator[Flight]:
        last = b""
        while rows := self._database.read(_SCAN, (last, SCANNED_ROWS)):
            last = rows[-1]["fp"]
            flights = (_flight(row) for row in rows)
            yield from (flight for flight in flights if isinstance(flight.state, Landed))

    def delete_many(self, flights: Sequence[Flight]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            rows = [(flight.fingerprint, flight.version) for flight in flights]
            connection.executemany("DELETE FROM flights WHERE fp = ? AND ver = ?", rows)

        if flights:
            self._database.write(work)


def _flight(row: sqlite3.Row) -> Flight:
    return flight_of(row["fp"], row["ver"], row["state"], row["vec"])
