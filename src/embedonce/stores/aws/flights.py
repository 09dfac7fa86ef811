"""Flights in DynamoDB.

Table: partition key `fp` (B, the 32 bytes of the fingerprint), no sort key; TTL attribute `e`.
Attributes: `ver` (N), `state` (S) and `vec` (B, only where it landed) as `embedonce.core.flightrow` writes
them, `e` (N, `expires` rounded up), `w` (B, 16 random bytes of the write).

`w` tells a writer its own row: where an answer is lost, botocore sends the write again, and that second
one fails against the first.

Actions: BatchGetItem, PutItem, GetItem; DeleteItem and Scan only for a purge.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

from botocore.exceptions import ClientError

from embedonce.core import flightrow
from embedonce.core.errors import StoreUnavailable
from embedonce.core.flight import Flight, Landed
from embedonce.ports import Clock, Swap
from embedonce.stores.aws.calls import (
    KEYS_PER_READ,
    READ_ATTEMPTS,
    Item,
    batch_get,
    calling,
    code_of,
    in_parallel,
    put_unless,
    refused_again,
)
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.rows import chunks, flight_of, vanished


class DynamoFlights:
    """Unlike vectors, flights are never half known: a call of which any part fails raises, because a row that
    was not read must not pass for one that is not there, nor an unanswered swap for a written one. (What was
    written nevertheless is a lease that expires by itself.)"""

    def __init__(self, clients: AwsClients, table: str, clock: Clock) -> None:
        self._clients = clients
        self._table = table
        self._clock = clock

    def get_many(self, fingerprints: Sequence[bytes]) -> dict[bytes, Flight]:
        found: dict[bytes, Flight] = {}
        works = chunks(fingerprints, KEYS_PER_READ)
        for items in in_parallel(self._clients.pool, self._read, works):
            if isinstance(items, StoreUnavailable):
                raise items
            for item in items:
                flight = _flight(item)
                found[flight.fingerprint] = flight
        return found

    def swap_many(self, swaps: Sequence[Swap]) -> list[Flight | StoreUnavailable | None]:
        return in_parallel(self._clients.pool, self._swap, swaps)

    def landed(self) -> Iterator[Flight]:
        """A page of 1 MB at a time; validators, which lie in the same table, are read and billed too."""
        asked: Any = {
            "TableName": self._table,
            "ConsistentRead": True,
            "FilterExpression": "attribute_exists(vec)",
        }
        while True:
            page = self._page(asked)
            flights = (_flight(item) for item in page["Items"])
            yield from (flight for flight in flights if isinstance(flight.state, Landed))
            if "LastEvaluatedKey" not in page:
                return
            asked["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def delete_many(self, flights: Sequence[Flight]) -> None:
        for some in range(0, len(flights), KEYS_PER_READ):
            works = flights[some : some + KEYS_PER_READ]
            for outcome in in_parallel(self._clients.pool, self._delete, works):
                if isinstance(outcome, StoreUnavailable):
                    raise outcome

    def _page(self, asked: Any) -> Any:
        return refused_again(lambda: self._clients.dynamodb().scan(**asked), self._clock, READ_ATTEMPTS)

    def _delete(self, flight: Flight) -> None:
        with calling("dynamodb"):
            try:
                self._clients.dynamodb().delete_item(
                    TableName=self._table,
                    Key={"fp": {"B": flight.fingerprint}},
                    ConditionExpression="ver = :ver",
                    ExpressionAttributeValues={":ver": {"N": str(flight.version)}},
                )
            except ClientError as error:
                if code_of(error) != "ConditionalCheckFailedException":
                    raise

    def _read(self, fingerprints: tuple[bytes, ...]) -> list[Item]:
        with calling("dynamodb"):
            client = self._clients.dynamodb()
        keys = [{"fp": {"B": fingerprint}} for fingerprint in fingerprints]
        read = batch_get(client, self._table, keys, consistent=True, clock=self._clock)
        if read.unread:
            raise StoreUnavailable("dynamodb: UnprocessedKeys")
        return read.items

    def _swap(self, swap: Swap) -> Flight | None:
        with calling("dynamodb"):
            client = self._clients.dynamodb()
        item = _item(swap.flight)
        standing = put_unless(
            client,
            self._table,
            item,
            key="fp",
            condition="ver = :over" if swap.over else "attribute_not_exists(ver)",
            values={":over": {"N": str(swap.over)}} if swap.over else {},
        )
        if standing is None or standing.get("w") == item["w"]:
            return None
        return _flight(standing) if standing else vanished(swap.flight)


def _item(flight: Flight) -> Item:
    state, vector = flightrow.encode(flight)
    item: Item = {
        "fp": {"B": flight.fingerprint},
        "ver": {"N": str(flight.version)},
        "state": {"S": state},
        "e": {"N": str(math.ceil(flight.expires))},
        "w": {"B": os.urandom(16)},
    }
    if vector is not None:
        item["vec"] = {"B": vector}
    return item


def _flight(item: Item) -> Flight:
    return flight_of(
        item["fp"]["B"],
        int(item.get("ver", {}).get("N", 0)),
        item.get("state", {}).get("S", ""),
        item.get("vec", {}).get("B"),
    )
