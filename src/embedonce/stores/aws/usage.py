"""What keys used and spent, in DynamoDB.

Table: partition key `owner` (S), sort key `day` (S, YYYYMMDD, UTC); TTL attribute `e`.
Attributes: one per counter, `n_<name>` (N), and `e` (N, the end of the day and 400 days).

An update costs by the size of its item, and each five minutes of reservations have a counter of their own
that is 0 in the end: from `EMPTY` of those on they are removed.

Actions: UpdateItem, Query.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from embedonce.core.errors import StoreUnavailable
from embedonce.ports import Clock
from embedonce.stores.aws.calls import Item, calling, sent_once
from embedonce.stores.aws.clients import AwsClients

PREFIX = "n_"
KEPT_DAYS = 400
EMPTY = 32
"""How many counters of a day that are 0 are worth a write of their own."""


class DynamoUsage:
    def __init__(self, clients: AwsClients, table: str, clock: Clock) -> None:
        self._clients = clients
        self._table = table
        self._clock = clock

    def add(self, owner: str, day: str, counts: Mapping[str, int]) -> None:
        counted = [(name, amount) for name, amount in counts.items() if amount]
        if not counted:
            return
        names = {f"#n{i}": PREFIX + name for i, (name, _) in enumerate(counted)}
        values: Item = {f":n{i}": {"N": str(amount)} for i, (_, amount) in enumerate(counted)}
        adds = ", ".join(f"#n{i} :n{i}" for i in range(len(counted)))
        answer: Any = sent_once(
            lambda: self._clients.dynamodb_once().update_item(
                TableName=self._table,
                Key=_key(owner, day),
                UpdateExpression=f"SET e = :e ADD {adds}",
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=values | {":e": {"N": str(_expires(day))}},
                ReturnValues="ALL_NEW",
            ),
            self._clock,
        )
        empty = [name for name, amount in _counters(answer["Attributes"]).items() if not amount]
        if len(empty) >= EMPTY:
            self._remove(owner, day, empty[: 2 * EMPTY])

    def read(self, owner: str, first: str, last: str) -> dict[str, dict[str, int]]:
        days: dict[str, dict[str, int]] = {}
        more: Any = {}
        while True:
            with calling("dynamodb"):
                page: Any = self._clients.dynamodb().query(
                    TableName=self._table,
                    KeyConditionExpression="#owner = :owner AND #day BETWEEN :first AND :last",
                    ExpressionAttributeNames={"#owner": "owner", "#day": "day"},
                    ExpressionAttributeValues={
                        ":owner": {"S": owner},
                        ":first": {"S": first},
                        ":last": {"S": last},
                    },
                    ConsistentRead=True,
                    **more,
                )
            for item in page["Items"]:
                counts = {name: amount for name, amount in _counters(item).items() if amount}
                if counts:
                    days[item["day"]["S"]] = counts
            if "LastEvaluatedKey" not in page:
                return days
            more = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def _remove(self, owner: str, day: str, empty: list[str]) -> None:
        """Those that are still 0, or none; what is added to one later begins at 0 again."""
        names = {f"#n{i}": PREFIX + name for i, name in enumerate(empty)}
        with suppress(StoreUnavailable), calling("dynamodb"):
            self._clients.dynamodb().update_item(
                TableName=self._table,
                Key=_key(owner, day),
                UpdateExpression=f"REMOVE {', '.join(names)}",
                ConditionExpression=" AND ".join(f"{name} = :zero" for name in names),
                ExpressionAttributeNames=names,
                ExpressionAttributeValues={":zero": {"N": "0"}},
            )


def _key(owner: str, day: str) -> Item:
    return {"owner": {"S": owner}, "day": {"S": day}}


def _expires(day: str) -> int:
    begin = datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC)
    return int((begin + timedelta(days=1 + KEPT_DAYS)).timestamp())


def _counters(item: Item) -> dict[str, int]:
    return {
        name.removeprefix(PREFIX): int(value["N"]) for name, value in item.items() if name.startswith(PREFIX)
    }
