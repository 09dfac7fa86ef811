"""Quotas in DynamoDB, in the table of the tickets.

Attributes: `k` (S, `quota/<name>`), `n` (N, the sum), `e` (N, when it is forgotten, rounded up; the table's
TTL), `w` (B, 16 random bytes of the last write: see `embedonce.stores.aws.flights`).

Actions: UpdateItem, GetItem.
"""

from __future__ import annotations

import math
import os
from typing import cast

from botocore.exceptions import ClientError

from embedonce.core.errors import StoreUnavailable
from embedonce.ports import Clock
from embedonce.stores.aws.calls import Item, calling, code_of, sent_once
from embedonce.stores.aws.clients import AwsClients

PREFIX = "quota/"
ATTEMPTS = 3


class DynamoQuotas:
    def __init__(self, clients: AwsClients, table: str, clock: Clock) -> None:
        self._clients = clients
        self._table = table
        self._clock = clock

    def take(self, name: str, amount: int, *, limit: int, expires: float) -> bool:
        if amount > limit:
            return False
        write = os.urandom(16)
        values: Item = {
            ":amount": {"N": str(amount)},
            ":expires": {"N": str(math.ceil(expires))},
            ":write": {"B": write},
        }
        # `w <> :write`: sent twice, because its answer was lost, it is counted once.
        room: Item = {":room": {"N": str(limit - amount)}, ":now": {"N": f"{self._clock.now():.3f}"}}
        for _ in range(ATTEMPTS):
            standing = self._update(
                name,
                "ADD n :amount SET e = if_not_exists(e, :expires), w = :write",
                "attribute_not_exists(n) OR (n <= :room AND e > :now AND w <> :write)",
                values | room,
            )
            if standing is None or standing.get("w", {}).get("B") == write:
                return True
            if "e" not in standing or float(standing["e"]["N"]) > self._clock.now():
                return False
            # Expired, and not removed by the TTL yet: it begins anew, for one of those who find it so.
            standing = self._update(
                name,
                "SET n = :amount, e = :expires, w = :write",
                "e = :seen",
                values | {":seen": standing["e"]},
            )
            if standing is None or standing.get("w", {}).get("B") == write:
                return True
        raise StoreUnavailable("dynamodb: a quota that keeps expiring")

    def give(self, name: str, amount: int) -> None:
        # `w` stays: by it the last `take` knows that it was counted.
        def update() -> None:
            try:
                self._clients.dynamodb_once().update_item(
                    TableName=self._table,
                    Key=_key(name),
                    UpdateExpression="ADD n :back",
                    ConditionExpression="n >= :amount AND e > :now",
                    ExpressionAttributeValues={
                        ":back": {"N": str(-amount)},
                        ":amount": {"N": str(amount)},
                        ":now": {"N": f"{self._clock.now():.3f}"},
                    },
                )
            except ClientError as error:
                if code_of(error) != "ConditionalCheckFailedException":
                    raise

        if amount > 0:
            sent_once(update, self._clock)

    def total(self, name: str) -> int:
        with calling("dynamodb"):
            read = self._clients.dynamodb().get_item(
                TableName=self._table, Key=_key(name), ConsistentRead=True
            )
        item: Item = read.get("Item", {})
        if "n" not in item or float(item["e"]["N"]) <= self._clock.now():
            return 0
        return int(item["n"]["N"])

    def _update(self, name: str, update: str, condition: str, values: Item) -> Item | None:
        """None: written; else the item that stood in the way (empty: there is none any more)."""
        with calling("dynamodb"):
            try:
                self._clients.dynamodb().update_item(
                    TableName=self._table,
                    Key=_key(name),
                    UpdateExpression=update,
                    ConditionExpression=condition,
                    ExpressionAttributeValues=values,
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except ClientError as error:
                if code_of(error) != "ConditionalCheckFailedException":
                    raise
                return cast("Item", error.response.get("Item", {}))
        return None


def _key(name: str) -> Item:
    return {"k": {"S": PREFIX + name}}
