"""URL validators in DynamoDB, in the table of the flights: short-lived rows by 32 bytes, like those.

Attributes: `fp` (B, `rows.validator_key`), `val` (S), `e` (N, the table's TTL). A row of the one kind is
never asked for as the other: their keys are SHA-256 of different things.

Actions: GetItem, PutItem.
"""

from __future__ import annotations

from embedonce.core.fingerprint import Namespace
from embedonce.ports import Clock, Validator
from embedonce.stores.aws.calls import Item, calling
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.rows import validator_key, validator_of, validator_text


class DynamoValidators:
    def __init__(self, clients: AwsClients, flights_table: str, clock: Clock) -> None:
        self._clients = clients
        self._table = flights_table
        self._clock = clock

    def get(self, namespace: Namespace, url: bytes) -> Validator | None:
        with calling("dynamodb"):
            key = {"fp": {"B": validator_key(namespace, url)}}
            item = self._clients.dynamodb().get_item(TableName=self._table, Key=key).get("Item", {})
        if "val" not in item or "e" not in item:
            return None
        validator = validator_of(item["val"].get("S", ""), int(item["e"].get("N", 0)))
        return validator if validator is not None and validator.expires > self._clock.now() else None

    def put(self, namespace: Namespace, url: bytes, validator: Validator) -> None:
        item: Item = {
            "fp": {"B": validator_key(namespace, url)},
            "val": {"S": validator_text(validator)},
            "e": {"N": str(validator.expires)},
        }
        with calling("dynamodb"):
            self._clients.dynamodb().put_item(TableName=self._table, Item=item)
