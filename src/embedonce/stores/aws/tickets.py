"""Tickets in DynamoDB.

Table: partition key `k` (S, `ticket/<owner>/<id>`), no sort key; TTL attribute `e`. Quotas are in it too.
Attributes: `ver` (N), `row` (S) as `embedonce.core.ticketrow` writes it, `e` (N, `expires` rounded up), `w`
(B, 16 random bytes of the write: see `embedonce.stores.aws.flights`); and only while something is due `ds`
(S, the shard, `0` to `7` by the id's hash) and `dt` (N, when, to the millisecond).

Index `due`: partition key `ds`, sort key `dt`, keys only. Items without both are not in it. In shards, as one
partition takes 1,000 writes a second, and every change of a ticket is two.

Actions: GetItem, PutItem; Query on the index.
"""

from __future__ import annotations

import hashlib
import math
import os

from embedonce.core import ticketrow
from embedonce.core.errors import StoreUnavailable
from embedonce.core.ticket import Ticket, TicketRef
from embedonce.stores.aws.calls import Item, calling, in_parallel, put_unless
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.rows import ticket_in_the_way, ticket_of

PREFIX = "ticket/"
INDEX = "due"
SHARDS = tuple("01234567")


class DynamoTickets:
    def __init__(self, clients: AwsClients, table: str) -> None:
        self._clients = clients
        self._table = table

    def get(self, ref: TicketRef) -> Ticket | None:
        with calling("dynamodb"):
            read = self._clients.dynamodb().get_item(
                TableName=self._table, Key={"k": {"S": PREFIX + ref.key}}, ConsistentRead=True
            )
        return _ticket(ref, read.get("Item", {}))

    def swap(self, ticket: Ticket, over: int) -> Ticket | None:
        with calling("dynamodb"):
            client = self._clients.dynamodb()
        item = _item(ticket)
        standing = put_unless(
            client,
            self._table,
            item,
            key="k",
            condition="ver = :over" if over else "attribute_not_exists(ver)",
            values={":over": {"N": str(over)}} if over else {},
        )
        if standing is None or standing.get("w") == item["w"]:
            return None
        return ticket_in_the_way(_ticket(ticket.ref, standing), ticket)

    def due(self, before: float, limit: int) -> list[TicketRef]:
        """A shard that cannot be read is left out: what is due there is still due the next time.

        :raises StoreUnavailable: none can be read
        """

        def read(shard: str) -> list[Item]:
            with calling("dynamodb"):
                return list(
                    self._clients.dynamodb().query(
                        TableName=self._table,
                        IndexName=INDEX,
                        KeyConditionExpression="ds = :shard AND dt < :before",
                        ExpressionAttributeValues={":shard": {"S": shard}, ":before": _time(before)},
                        Limit=limit,
                    )["Items"]
                )

        outcomes = in_parallel(self._clients.pool, read, SHARDS)
        items = [item for each in outcomes if not isinstance(each, StoreUnavailable) for item in each]
        items.sort(key=lambda item: float(item["dt"]["N"]))
        return [TicketRef.of(item["k"]["S"].removeprefix(PREFIX)) for item in items[:limit]]


def shard_of(ref: TicketRef) -> str:
    return SHARDS[hashlib.sha256(ref.id.encode()).digest()[0] % len(SHARDS)]


def _time(seconds: float) -> Item:
    return {"N": f"{seconds:.3f}"}


def _item(ticket: Ticket) -> Item:
    item: Item = {
        "k": {"S": PREFIX + ticket.ref.key},
        "ver": {"N": str(ticket.version)},
        "row": {"S": ticketrow.encode(ticket)},
        "e": {"N": str(math.ceil(ticket.expires))},
        "w": {"B": os.urandom(16)},
    }
    if ticket.due is not None:
        item |= {"ds": {"S": shard_of(ticket.ref)}, "dt": _time(ticket.due)}
    return item


def _ticket(ref: TicketRef, item: Item) -> Ticket | None:
    if "ver" not in item or "row" not in item:
        return None
    return ticket_of(ref, int(item["ver"]["N"]), item["row"].get("S", ""))
