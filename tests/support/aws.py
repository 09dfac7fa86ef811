"""The tables and the bucket as template.yaml makes them, in moto; and clients that misbehave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from embedonce.stores.aws.clients import AwsClients

VECTORS = "vectors"
FLIGHTS = "flights"
ACCESS = "access"
BUCKET = "vectors-bucket"


def create(clients: AwsClients) -> None:
    dynamodb: Any = clients.dynamodb()
    for table in (VECTORS, FLIGHTS):
        dynamodb.create_table(
            TableName=table,
            KeySchema=[{"AttributeName": "fp", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "fp", "AttributeType": "B"}],
            BillingMode="PAY_PER_REQUEST",
        )
    dynamodb.create_table(
        TableName=ACCESS,
        KeySchema=[
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "sk", "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "S"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    clients.s3().create_bucket(Bucket=BUCKET)


def drop(clients: AwsClients) -> None:
    """Every later call fails."""
    dynamodb: Any = clients.dynamodb()
    for table in (VECTORS, FLIGHTS, ACCESS):
        dynamodb.delete_table(TableName=table)
    s3: Any = clients.s3()
    for each in s3.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        s3.delete_object(Bucket=BUCKET, Key=each["Key"])
    s3.delete_bucket(Bucket=BUCKET)


Call = Callable[..., Any]


class Patched:
    """A client some of whose calls are given to a stand-in: `call(real, **arguments)`."""

    def __init__(self, real: Any, calls: dict[str, Call]) -> None:
        self._real = real
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        if name not in self._calls:
            return real
        return lambda **arguments: self._calls[name](real, **arguments)


class PatchedClients(AwsClients):
    def __init__(self, clients: AwsClients, **calls: Call) -> None:
        self._clients = clients
        self._calls = calls
        self.pool = clients.pool

    def dynamodb(self) -> Any:
        return Patched(self._clients.dynamodb(), self._calls)

    def s3(self) -> Any:
        return Patched(self._clients.s3(), self._calls)


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "secret data"}}, "Operation")


def in_turn(*outcomes: ClientError | None) -> Call:
    """Raises the outcomes one after the other; None, and all calls after the last, go through."""
    left = list(outcomes)

    def call(real: Call, **arguments: Any) -> Any:
        outcome = left.pop(0) if left else None
        if outcome is not None:
            raise outcome
        return real(**arguments)

    return call
