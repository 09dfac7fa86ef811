"""Tickets in DynamoDB: rows of the jobs table (`embedonce.stores.aws.duerows`).

Keys `ticket/<owner>/<id>`, rows as `embedonce.core.ticketrow` writes them, shards `0` to `7` by the id.

Actions: GetItem, PutItem; Query on the index.
"""

from __future__ import annotations

from embedonce.core import ticketrow
from embedonce.core.ticket import Ticket, TicketRef
from embedonce.stores.aws import duerows
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.aws.duerows import DueRows, Row
from embedonce.stores.rows import in_the_way, ticket_of

PREFIX = "ticket/"
INDEX = duerows.INDEX
SHARDS = tuple("01234567")


class DynamoTickets:
    def __init__(self, clients: AwsClients, table: str) -> None:
        self._rows = DueRows(clients, table, PREFIX)

    def get(self, ref: TicketRef) -> Ticket | None:
        row = self._rows.get(ref.key)
        return ticket_of(ref, row.version, row.text)

    def swap(self, ticket: Ticket, over: int) -> Ticket | None:
        standing = self._rows.swap(
            ticket.ref.key,
            Row(ticket.version, ticketrow.encode(ticket)),
            over,
            expires=ticket.expires,
            due=None if ticket.due is None else (shard_of(ticket.ref), ticket.due),
        )
        if standing is None:
            return None
        return in_the_way(ticket_of(ticket.ref, standing.version, standing.text), ticket)

    def due(self, before: float, limit: int) -> list[TicketRef]:
        """A shard that cannot be read is left out.

        :raises StoreUnavailable: none can be read
        """
        return [TicketRef.of(name) for name in self._rows.due(SHARDS, before, limit)]


def shard_of(ref: TicketRef) -> str:
    return duerows.shard_of(ref.id, SHARDS)
