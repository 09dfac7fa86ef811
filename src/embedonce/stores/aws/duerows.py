"""Rows of the jobs table that have a version, and perhaps a time when they are due.

Table: partition key `k` (S, a prefix for each kind and a name), no sort key; TTL attribute `e`. Quotas are in
it too. Attributes: `ver` (N), `row` (S), `e` (N, when it expires, rounded up; absent: never), `w` (B, 16
random bytes of the write: see `embedonce.stores.aws.flights`); and only while something is due `ds` (S, the
shard by the hash of an id) and `dt` (N, when, to the millisecond).

Index `due`: partition key `ds`, sort key `dt`, keys only. Items without both are not in it. In shards, as one
partition takes 1,000 writes a second, and every change of a row is two. Each kind has shards of its own, so
that none meets another's rows there.

Actions: GetItem, PutItem; Query on the index.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from embedonce.core.errors import StoreUnavailable
from embedonce.stores.aws.calls import Item, calling, in_parallel, put_unless
from embedonce.stores.aws.clients import AwsClients

INDEX = "due"


@dataclass(frozen=True, slots=True)
class Row:
    """`version` 0 and no text: there is none, or none of this form."""

    version: int
    text: str


class DueRows:
    """Those whose keys begin with `prefix`."""

    def __init__(self, clients: AwsClients, table: str, prefix: str) -> None:
        self._clients = clients
        self._table = table
        self._prefix = prefix

    def get(self, name: str) -> Row:
        with calling("dynamodb"):
            read = self._clients.dynamodb().get_item(
                TableName=self._table, Key={"k": {"S": self._prefix + name}}, ConsistentRead=True
            )
        return _row(read.get("Item", {}))

    def swap(
        self,
        name: str,
        row: Row,
        over: int,
        *,
        expires: float | None = None,
        due: tuple[str, float] | None = None,
    ) -> Row | None:
        """None: it was written; else what stands in the way.

        :param due: shard and time
        """
        item: Item = {
            "k": {"S": self._prefix + name},
            "ver": {"N": str(row.version)},
            "row": {"S": row.text},
            "w": {"B": os.urandom(16)},
        }
        if expires is not None:
            item["e"] = {"N": str(math.ceil(expires))}
        if due is not None:
            item |= {"ds": {"S": due[0]}, "dt": _time(due[1])}
        with calling("dynamodb"):
            client = self._clients.dynamodb()
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
        return _row(standing)

    def due(self, shards: Sequence[str], before: float, limit: int) -> list[str]:
        """Names, the longest overdue first. A shard that cannot be read is left out: what is due there is
        still due the next time.

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

        outcomes = in_parallel(self._clients.pool, read, shards)
        items = [item for each in outcomes if not isinstance(each, StoreUnavailable) for item in each]
        items.sort(key=lambda item: float(item["dt"]["N"]))
        return [item["k"]["S"].removeprefix(self._prefix) for item in items[:limit]]


def shard_of(name: str, shards: Sequence[str]) -> str:
    return shards[hashlib.sha256(name.encode()).digest()[0] % len(shards)]


def _time(seconds: float) -> Item:
    return {"N": f"{seconds:.3f}"}


def _row(item: Item) -> Row:
    if "ver" not in item or "row" not in item:
        return Row(0, "")
    return Row(int(item["ver"]["N"]), item["row"].get("S", ""))
