"""Tickets in SQLite: table `tickets`, a row as `embedonce.core.ticketrow` writes it."""

from __future__ import annotations

import sqlite3

from embedonce.core import ticketrow
from embedonce.core.ticket import Ticket, TicketRef
from embedonce.ports import Clock
from embedonce.stores.embedded.database import Database, Sweep
from embedonce.stores.rows import in_the_way, ticket_of

_SELECT = "SELECT ver, row FROM tickets WHERE k = ?"
_UPSERT = "INSERT OR REPLACE INTO tickets (k, ver, row, due, e) VALUES (?, ?, ?, ?, ?)"
_DUE = "SELECT k FROM tickets WHERE due < ? AND e > ? ORDER BY due LIMIT ?"


class EmbeddedTickets:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._sweep = Sweep("tickets", clock)

    def get(self, ref: TicketRef) -> Ticket | None:
        rows = self._database.read(_SELECT, (ref.key,))
        return ticket_of(ref, rows[0]["ver"], rows[0]["row"]) if rows else None

    def swap(self, ticket: Ticket, over: int) -> Ticket | None:
        ref = ticket.ref
        row = (ref.key, ticket.version, ticketrow.encode(ticket), ticket.due, ticket.expires)

        def work(connection: sqlite3.Connection) -> Ticket | None:
            before = connection.execute(_SELECT, (ref.key,)).fetchone()
            if (before["ver"] if before else 0) != over:
                standing = ticket_of(ref, before["ver"], before["row"]) if before else None
                return in_the_way(standing, ticket)
            connection.execute(_UPSERT, row)
            self._sweep.run(connection)
            return None

        return self._database.write(work)

    def due(self, before: float, limit: int) -> list[TicketRef]:
        rows = self._database.read(_DUE, (before, self._clock.now(), limit))
        return [TicketRef.of(row["k"]) for row in rows]
