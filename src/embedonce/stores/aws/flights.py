"""Flights in DynamoDB.

Table: partition key `fp` (B, the 32 bytes of the fingerprint), no sort key; TTL attribute `e`.
Attributes: `ver` (N), `state` (S) and `vec` (B, only where it landed) as `embedonce.core.flightrow` writes
them, `e` (N, `expires` rounded up), `w` (B, 16 random bytes of the write).

`w` tells a writer its own row: where an answer is lost, botocore sends the write again, and that second
one fails against the first.

Actions: BatchGetItem, PutItem, GetItem.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from embedonce.core import flightrow
from embedonce.core.errors import StoreUnavailable
from embedonce.core.flight import Flight
from embedonce.ports import Clock, Swap
from embedonce.stores.aws.calls import KEYS_PER_READ, Item, batch_get, calling, in_parallel, put_unless
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
