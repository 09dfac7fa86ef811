"""Tables, buckets and queues as template.yaml makes them, in moto; and clients that misbehave."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from embedonce.stores.aws.clients import AwsClients

VECTORS = "vectors"
FLIGHTS = "flights"
ACCESS = "access"
JOBS = "jobs"
USAGE = "usage"
BUCKET = "vectors-bucket"
BLOBS = "blobs-bucket"
SOURCES = "sources-bucket"
VERSIONED = "versioned-bucket"
RESULTS = "results-bucket"
BUCKETS = (BUCKET, BLOBS, SOURCES, VERSIONED, RESULTS)
QUEUES = {"work": 330, "poll": 60, "ingest": 330, "chunks": 330}
"""Visibility time-outs in seconds."""
MAX_RECEIVES = 5


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
    dynamodb.create_table(
        TableName=JOBS,
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        AttributeDefinitions=[
            {"AttributeName": "k", "AttributeType": "S"},
            {"AttributeName": "ds", "AttributeType": "S"},
            {"AttributeName": "dt", "AttributeType": "N"},
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "due",
                "KeySchema": [
                    {"AttributeName": "ds", "KeyType": "HASH"},
                    {"AttributeName": "dt", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    dynamodb.create_table(
        TableName=USAGE,
        KeySchema=[
            {"AttributeName": "owner", "KeyType": "HASH"},
            {"AttributeName": "day", "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[
            {"AttributeName": "owner", "AttributeType": "S"},
            {"AttributeName": "day", "AttributeType": "S"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    for bucket in BUCKETS:
        clients.s3().create_bucket(Bucket=bucket)
    clients.s3().put_bucket_versioning(Bucket=VERSIONED, VersioningConfiguration={"Status": "Enabled"})
    for name in QUEUES:
        _create_queue(clients.sqs(), name)


def _create_queue(sqs: Any, name: str) -> None:
    dead = sqs.create_queue(QueueName=f"{name}-dead", Attributes={"MessageRetentionPeriod": "1209600"})
    said = sqs.get_queue_attributes(QueueUrl=dead["QueueUrl"], AttributeNames=["QueueArn"])["Attributes"]
    redrive = {"deadLetterTargetArn": said["QueueArn"], "maxReceiveCount": MAX_RECEIVES}
    sqs.create_queue(
        QueueName=name,
        Attributes={"VisibilityTimeout": str(QUEUES[name]), "RedrivePolicy": json.dumps(redrive)},
    )


def queue_url(clients: AwsClients, name: str) -> str:
    return str(clients.sqs().get_queue_url(QueueName=name)["QueueUrl"])


def drop(clients: AwsClients) -> None:
    """Every later call fails."""
    dynamodb: Any = clients.dynamodb()
    for table in (VECTORS, FLIGHTS, ACCESS, JOBS, USAGE):
        dynamodb.delete_table(TableName=table)
    s3: Any = clients.s3()
    for bucket in BUCKETS:
        said = s3.list_object_versions(Bucket=bucket)
        for each in [*said.get("Versions", []), *said.get("DeleteMarkers", [])]:
            s3.delete_object(Bucket=bucket, Key=each["Key"], VersionId=each["VersionId"])
        s3.delete_bucket(Bucket=bucket)
    for name in QUEUES:
        clients.sqs().delete_queue(QueueUrl=queue_url(clients, name))


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

    def dynamodb_once(self) -> Any:
        return Patched(self._clients.dynamodb_once(), self._calls)

    def s3(self) -> Any:
        return Patched(self._clients.s3(), self._calls)

    def blobs(self) -> Any:
        return Patched(self._clients.blobs(), self._calls)

    def transfers(self) -> Any:
        return Patched(self._clients.transfers(), self._calls)

    def s3vectors(self) -> Any:
        return Patched(self._clients.s3vectors(), self._calls)

    def sqs(self) -> Any:
        return Patched(self._clients.sqs(), self._calls)


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
