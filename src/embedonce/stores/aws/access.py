"""Access keys in DynamoDB.

Table: partition key `pk` (S), sort key `sk` (S). No TTL and no index.
    pk `key#<secret_hash>`  sk `key`       the record: `id`, `name`, `namespace` (S), `scopes` (L of S),
                                           `isolated` (BOOL), `created` (N), `revoked` (N, absent while live)
    pk `keys`               sk `<key id>`  `secret_hash` (S): lists the keys and finds them by id

Both items are written in one transaction, which makes ids and secrets unique.

A key is found by its id in two reads: only the record says whether it is still live.

Actions: GetItem, all that a function needs which serves keys or works for them; to manage keys also Query,
BatchGetItem, PutItem and UpdateItem (TransactWriteItems asks for the actions it contains).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from embedonce.core.errors import StoreUnavailable
from embedonce.ports import AccessKey, Clock
from embedonce.stores.aws.calls import KEYS_PER_READ, Item, batch_get, calling, code_of
from embedonce.stores.aws.clients import AwsClients

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient


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
        index = self._item(_index_key(key_id))
        if not index:
            return False
        with calling("dynamodb"):
            try:
                self._clients.dynamodb().update_item(
                    TableName=self._table,
                    Key=_record_key(index["secret_hash"]["S"]),
                    UpdateExpression="SET revoked = if_not_exists(revoked, :when)",
                    ConditionExpression="attribute_exists(pk)",
                    ExpressionAttributeValues={":when": {"N": str(when)}},
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
    return record


def _key(item: Item) -> AccessKey:
    return AccessKey(
        id=item["id"]["S"],
        secret_hash=item["pk"]["S"].removeprefix("key#"),
        name=item["name"]["S"],
        namespace=item["namespace"]["S"],
        scopes=frozenset(scope["S"] for scope in item["scopes"]["L"]),
        isolated=item["isolated"]["BOOL"],
        created=int(item["created"]["N"]),
        revoked=int(item["revoked"]["N"]) if "revoked" in item else None,
    )
