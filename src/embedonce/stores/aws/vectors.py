"""Vectors in DynamoDB.

Table: partition key `fp` (B, the 32 bytes of the fingerprint), no sort key; TTL attribute `e`.
Attributes: `v` (B, little-endian float32) and one per name of `StoredVector.metadata()`: `d t p c e` as
numbers, `f m l u k n` as text.

Actions: BatchGetItem, PutItem, GetItem; DeleteItem only for a purge, Scan only for operators.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from embedonce.core.errors import StoreUnavailable
from embedonce.core.plan import VectorKey
from embedonce.core.record import StoredVector
from embedonce.ports import Clock
from embedonce.stores.aws.calls import (
    KEYS_PER_READ,
    READ_ATTEMPTS,
    Item,
    batch_get,
    calling,
    in_parallel,
    put_unless,
    refused_again,
)
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.rows import NAMES, NUMBERS, chunks, settle

PUT_ATTEMPTS = 3


class DynamoVectors:
    def __init__(self, clients: AwsClients, table: str, clock: Clock) -> None:
        self._clients = clients
        self._table = table
        self._clock = clock

    def get_many(self, keys: Sequence[VectorKey]) -> dict[bytes, StoredVector]:
        works = chunks((key.fingerprint for key in keys), KEYS_PER_READ)
        found: dict[bytes, StoredVector] = {}
        for items in in_parallel(self._clients.pool, self._read, works):
            if not isinstance(items, StoreUnavailable):
                for item in items:
                    record = self._live(item)
                    if record is not None:
                        found[item["fp"]["B"]] = record
        return found

    def put_many(
        self, entries: Sequence[tuple[VectorKey, StoredVector]], *, overwrite: bool = False
    ) -> list[StoredVector | None]:
        put = self._replace if overwrite else self._put
        return settle(
            entries,
            lambda chosen: in_parallel(self._clients.pool, put, chosen),
            overwrite=overwrite,
            now=self._clock.now(),
        )

    def delete_many(self, keys: Sequence[VectorKey]) -> None:
        """:raises StoreUnavailable: also when only some could not be deleted"""
        works = list({key.fingerprint for key in keys})
        for outcome in in_parallel(self._clients.pool, self._delete, works):
            if isinstance(outcome, StoreUnavailable):
                raise outcome

    def scan(self, *, vectors: bool) -> Iterator[tuple[VectorKey, StoredVector]]:
        """A page of 1 MB at a time; DynamoDB bills the whole items, with and without vectors."""
        names = ["fp", *NAMES, *(["v"] if vectors else [])]
        asked: Any = {
            "TableName": self._table,
            "ProjectionExpression": ", ".join(f"#{name}" for name in names),
            "ExpressionAttributeNames": {f"#{name}": name for name in names},
        }
        more: Any = {}
        while True:
            page = self._page(asked | more)
            for item in page["Items"]:
                record = self._live(item, vectors=vectors)
                if record is not None:
                    yield VectorKey(item["fp"]["B"], int(item["d"]["N"])), record
            if "LastEvaluatedKey" not in page:
                return
            more = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def _page(self, asked: Any) -> Any:
        return refused_again(lambda: self._clients.dynamodb().scan(**asked), self._clock, READ_ATTEMPTS)

    def _read(self, fingerprints: tuple[bytes, ...]) -> list[Item]:
        with calling("dynamodb"):
            client = self._clients.dynamodb()
        keys = [{"fp": {"B": fingerprint}} for fingerprint in fingerprints]
        return batch_get(client, self._table, keys, consistent=False, clock=self._clock).items

    def _replace(self, entry: tuple[VectorKey, StoredVector]) -> StoredVector:
        key, record = entry
        with calling("dynamodb"):
            self._clients.dynamodb().put_item(TableName=self._table, Item=_item(key.fingerprint, record))
        return record

    def _put(self, entry: tuple[VectorKey, StoredVector]) -> StoredVector:
        key, record = entry
        item = _item(key.fingerprint, record)
        with calling("dynamodb"):
            client = self._clients.dynamodb()
        condition = "attribute_not_exists(fp) OR e <= :now"
        names: dict[str, str] = {}
        values: Item = {}
        for _ in range(PUT_ATTEMPTS):
            standing = put_unless(
                client,
                self._table,
                item,
                key="fp",
                condition=condition,
                values={":now": {"N": str(math.floor(self._clock.now()))}} | values,
                names=names,
            )
            if standing is None:
                return record
            winner = self._live(standing)
            if winner is not None:
                return winner
            # Damaged, or gone: once more, but only over exactly what was just seen.
            same, names, values = _same_as(standing)
            condition = f"attribute_not_exists(fp) OR e <= :now OR ({same})"
        raise StoreUnavailable("dynamodb: ConditionalCheckFailedException")

    def _delete(self, fingerprint: bytes) -> None:
        with calling("dynamodb"):
            self._clients.dynamodb().delete_item(TableName=self._table, Key={"fp": {"B": fingerprint}})

    def _live(self, item: Item, *, vectors: bool = True) -> StoredVector | None:
        try:
            metadata = {name: item[name]["N" if name in NUMBERS else "S"] for name in NAMES}
            record = StoredVector.from_metadata(metadata, item["v"]["B"] if vectors else None)
        except (ValueError, TypeError, KeyError):
            return None
        return record if record.live(self._clock.now()) else None


def _item(fingerprint: bytes, record: StoredVector) -> Item:
    item: Item = {"fp": {"B": fingerprint}, "v": {"B": record.data}}
    for name, value in record.metadata().items():
        item[name] = {"N" if name in NUMBERS else "S": value}
    return item


def _same_as(standing: Item) -> tuple[str, dict[str, str], Item]:
    """A condition that holds while the item has the very attributes that were read."""
    present = [name for name in ("v", *NAMES) if name in standing]
    clauses = [f"#{name} = :{name}" for name in present]
    clauses += [f"attribute_not_exists(#{name})" for name in ("v", *NAMES) if name not in standing]
    return (
        " AND ".join(clauses),
        {f"#{name}": name for name in ("v", *NAMES)},
        {f":{name}": standing[name] for name in present},
    )
