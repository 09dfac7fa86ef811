"""Access keys in DynamoDB.

Table: partition key `pk` (S), sort key `sk` (S). No TTL and no index.
    pk `key#<secret_hash>`  sk `key`       the record: `id`, `name`, `namespace` (S), `scopes` (L of S),
                                           `isolated` (BOOL), `created` (N), `revoked` (N, absent while live),
                                           `budget`, `rpm`, `tpm` (N, each absent where there is no limit)
    pk `keys`               sk `<key id>`  `secret_hash` (S): lists the keys and finds them by id
    pk `deployment`         sk `deployment`  what an operator changes while everything runs: `ver` (N),
                                           `paused` (BOOL), `daily` (N, absent: as configured),
                                           `generations` (M of N), `purged` (N), `w` (B, 16 random bytes of
                                           the write: see `embedonce.stores.aws.flights`)

Both items are written in one transaction, which makes ids and secrets unique.

A key is found by its id in two reads: only the record says whether it is still live.

Actions: GetItem, all that a function needs which serves keys or works for them; to manage keys also Query,
BatchGetItem, PutItem and UpdateItem (TransactWriteItems asks for the actions it contains).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from embedonce.core.errors import StoreUnavailable
from embedonce.ports import AccessKey, Clock, Deployment, KeyLimits
from embedonce.stores.aws.calls import KEYS_PER_READ, Item, batch_get, calling, code_of
from embedonce.stores.aws.clients import AwsClients

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient


LIMITS = ("budget", "rpm", "tpm")
DEPLOYMENT: Item = {"pk": {"S": "deployment"}, "sk": {"S": "deployment"}}


class DynamoAccess:
    def __init__(self, clients: AwsClients, table: str, clock: Clock) -> None:
        self._clients = clients
        self._table = table
        self._clock = clock

    def find(self, secret_hash: str) -> AccessKey | None:
        item = self._item(_record_key(secret_hash))
        return _key(item) if item else None

    def find_by_id(self, key_id: str) -> AccessKey | None:
        # DynamoDB refuses an empty key; no key has an empty id.
        index = self._item(_index_key(key_id)) if key_id else None
        return self.find(index["secret_hash"]["S"]) if index else None

    def add(self, key: AccessKey) -> None:
        index: Item = _index_key(key.id) | {"secret_hash": {"S": key.secret_hash}}
        with calling("dynamodb"):
            try:
                self._clients.dynamodb().transact_write_items(
                    TransactItems=[self._new(_record(key)), self._new(index)]
                )
            except ClientError as error:
                reasons: list[Any] = error.response.get("CancellationReasons", [])
                if any(reason.get("Code") == "ConditionalCheckFailed" for reason in reasons):
                    raise ValueError("a key with this id or secret exists") from None
                raise

    def list(self) -> list[AccessKey]:
        hashes = self._hashes()
        items: list[Item] = []
        for at in range(0, len(hashes), KEYS_PER_READ):
            keys = [_record_key(each) for each in hashes[at : at + KEYS_PER_READ]]
            read = batch_get(self._client(), self._table, keys, consistent=True, clock=self._clock)
            if read.unread:
                raise StoreUnavailable("dynamodb: UnprocessedKeys")
            items += read.items
        return sorted((_key(item) for item in items), key=lambda key: (key.created, key.id))

    def revoke(self, key_id: str, when: int) -> bool:
        update = "SET revoked = if_not_exists(revoked, :when)"
        return self._update(key_id, update, {":when": {"N": str(when)}})

    def limit(self, key_id: str, limits: KeyLimits) -> bool:
        given = _limits(limits)
        parts = []
        if given:
            parts.append("SET " + ", ".join(f"{name} = :{name}" for name in given))
        if gone := [name for name in LIMITS if name not in given]:
            parts.append("REMOVE " + ", ".join(gone))
        return self._update(key_id, " ".join(parts), {f":{name}": value for name, value in given.items()})

    def deployment(self) -> Deployment:
        item = self._item(DEPLOYMENT)
        return _deployment(item) if item else Deployment()

    def set_deployment(self, deployment: Deployment) -> bool:
        write = os.urandom(16)
        condition: Any = {"ConditionExpression": "attribute_not_exists(pk)"}
        if deployment.version:
            values = {":over": {"N": str(deployment.version)}}
            condition = {"ConditionExpression": "ver = :over", "ExpressionAttributeValues": values}
        with calling("dynamodb"):
            try:
                self._clients.dynamodb().put_item(
                    TableName=self._table,
                    Item=_deployment_item(deployment, write),
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                    **condition,
                )
            except ClientError as error:
                if code_of(error) != "ConditionalCheckFailedException":
                    raise
                standing: Any = error.response.get("Item", {})
                # Ours already, where botocore sent it again because the answer was lost.
                return bool(standing.get("w", {}).get("B") == write)
        return True

    def _update(self, key_id: str, update: str, values: Item) -> bool:
        """False: no such key."""
        index = self._item(_index_key(key_id)) if key_id else None
        if not index:
            return False
        # DynamoDB refuses empty ones.
        given: Any = {"ExpressionAttributeValues": values} if values else {}
        with calling("dynamodb"):
            try:
                self._clients.dynamodb().update_item(
                    TableName=self._table,
                    Key=_record_key(index["secret_hash"]["S"]),
                    UpdateExpression=update,
                    ConditionExpression="attribute_exists(pk)",
                    **given,
                )
            except ClientError as error:
                if code_of(error) == "ConditionalCheckFailedException":
                    return False
                raise
        return True

    def _client(self) -> DynamoDBClient:
        with calling("dynamodb"):
            return self._clients.dynamodb()

    def _item(self, key: Item) -> Item:
        with calling("dynamodb"):
            read = self._clients.dynamodb().get_item(TableName=self._table, Key=key, ConsistentRead=True)
        return read.get("Item", {})

    def _new(self, item: Item) -> Any:
        return {
            "Put": {
                "TableName": self._table,
                "Item": item,
                "ConditionExpression": "attribute_not_exists(pk)",
            }
        }

    def _hashes(self) -> Sequence[str]:
        hashes = []
        with calling("dynamodb"):
            pages = self._clients.dynamodb().get_paginator("query")
            for page in pages.paginate(
                TableName=self._table,
                KeyConditionExpression="pk = :keys",
                ExpressionAttributeValues={":keys": {"S": "keys"}},
                ConsistentRead=True,
            ):
                hashes += [item["secret_hash"]["S"] for item in page["Items"]]
        return hashes


def _record_key(secret_hash: str) -> Item:
    return {"pk": {"S": f"key#{secret_hash}"}, "sk": {"S": "key"}}


def _index_key(key_id: str) -> Item:
    return {"pk": {"S": "keys"}, "sk": {"S": key_id}}


def _record(key: AccessKey) -> Item:
    record = _record_key(key.secret_hash) | {
        "id": {"S": key.id},
        "name": {"S": key.name},
        "namespace": {"S": key.namespace},
        "scopes": {"L": [{"S": scope} for scope in sorted(key.scopes)]},
        "isolated": {"BOOL": key.isolated},
        "created": {"N": str(key.created)},
    }
    if key.revoked is not None:
        record["revoked"] = {"N": str(key.revoked)}
    return record | _limits(key.limits)


def _limits(limits: KeyLimits) -> Item:
    amounts = (limits.budget, limits.requests_per_minute, limits.tokens_per_minute)
    return {
        name: {"N": str(amount)} for name, amount in zip(LIMITS, amounts, strict=True) if amount is not None
    }


def _deployment(item: Item) -> Deployment:
    return Deployment(
        paused=item["paused"]["BOOL"],
        daily=_number(item, "daily"),
        generations={name: int(number["N"]) for name, number in item["generations"]["M"].items()},
        purged=int(item["purged"]["N"]),
        version=int(item["ver"]["N"]),
    )


def _deployment_item(deployment: Deployment, write: bytes) -> Item:
    item = DEPLOYMENT | {
        "ver": {"N": str(deployment.version + 1)},
        "paused": {"BOOL": deployment.paused},
        "generations": {"M": {name: {"N": str(n)} for name, n in deployment.generations.items()}},
        "purged": {"N": str(deployment.purged)},
        "w": {"B": write},
    }
    if deployment.daily is not None:
        item["daily"] = {"N": str(deployment.daily)}
    return item


def _number(item: Item, name: str) -> int | None:
    return int(item[name]["N"]) if name in item else None


def _key(item: Item) -> AccessKey:
    return AccessKey(
        id=item["id"]["S"],
        secret_hash=item["pk"]["S"].removeprefix("key#"),
        name=item["name"]["S"],
        namespace=item["namespace"]["S"],
        scopes=frozenset(scope["S"] for scope in item["scopes"]["L"]),
        isolated=item["isolated"]["BOOL"],
        created=int(item["created"]["N"]),
        revoked=_number(item, "revoked"),
        limits=KeyLimits(*(_number(item, name) for name in LIMITS)),
    )
