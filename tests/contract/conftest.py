"""Every adapter of a port, behind the same handles: the store, its clock, and ways to hurt it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from embedonce.core.source import Source
from embedonce.core.ticket import TicketRef
from embedonce.ports import AccessStore
from embedonce.stores.aws.access import DynamoAccess
from embedonce.stores.aws.blobs import S3Blobs
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.aws.flights import DynamoFlights
from embedonce.stores.aws.manifests import DynamoManifests
from embedonce.stores.aws.queue import SqsQueue
from embedonce.stores.aws.quotas import DynamoQuotas
from embedonce.stores.aws.results import S3Results
from embedonce.stores.aws.s3_vectors import S3Vectors, object_key
from embedonce.stores.aws.sources import S3Sources
from embedonce.stores.aws.tickets import DynamoTickets
from embedonce.stores.aws.usage import DynamoUsage
from embedonce.stores.aws.vectors import DynamoVectors
from embedonce.stores.embedded.access import EmbeddedAccess
from embedonce.stores.embedded.blobs import DirectoryBlobs
from embedonce.stores.embedded.database import Database
from embedonce.stores.embedded.flights import EmbeddedFlights
from embedonce.stores.embedded.manifests import EmbeddedManifests
from embedonce.stores.embedded.queue import EmbeddedQueue
from embedonce.stores.embedded.quotas import EmbeddedQuotas
from embedonce.stores.embedded.results import DirectoryResults
from embedonce.stores.embedded.sources import DirectorySources, version_of
from embedonce.stores.embedded.tickets import EmbeddedTickets
from embedonce.stores.embedded.usage import EmbeddedUsage
from embedonce.stores.embedded.vectors import EmbeddedVectors
from embedonce.stores.memory import MemoryVectors
from embedonce.stores.messages import TICKETS
from embedonce.stores.tiered import LayeredVectors, TieredVectors
from support import aws
from support.adapters import (
    Access,
    Blobs,
    Flights,
    Manifests,
    Queues,
    Quotas,
    Results,
    Sources,
    Tickets,
    Usage,
    Vectors,
    execute,
)
from support.aws import Call, PatchedClients, refused
from support.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "embedonce.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    database = Database(path)
    yield database
    database.close()


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsClients]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        clients = AwsClients()
        aws.create(clients)
        yield clients
        clients.close()


@pytest.fixture(params=["embedded", "layered", "tiered", "dynamodb", "s3"])
def vectors(request: pytest.FixtureRequest, clock: FakeClock) -> Iterator[Vectors]:
    if request.param in ("dynamodb", "s3"):
        yield _aws_vectors(request.param, request.getfixturevalue("clients"), clock)
        return
    path: Path = request.getfixturevalue("path")
    database: Database = request.getfixturevalue("database")
    embedded = EmbeddedVectors(database, clock)

    def damage(fingerprint: bytes) -> None:
        execute(path, "UPDATE vectors SET v = x'00' WHERE fp = ?", fingerprint)
        if request.param == "layered":
            clock.advance(60)  # memory still knows it

    def down() -> None:
        execute(path, "DROP TABLE vectors")

    if request.param == "embedded":
        yield Vectors(damage, down, embedded)
    elif request.param == "layered":
        memory = MemoryVectors(max_bytes=1_000_000, max_age=60, clock=clock)
        yield Vectors(damage, down, LayeredVectors(memory, embedded))
    else:
        tiered = TieredVectors(embedded, EmbeddedVectors(database, clock), large_from=1000)
        yield Vectors(damage, down, tiered)
        tiered.close()


def _aws_vectors(kind: str, clients: AwsClients, clock: FakeClock) -> Vectors:
    def damage_item(fingerprint: bytes) -> None:
        clients.dynamodb().update_item(
            TableName=aws.VECTORS,
            Key={"fp": {"B": fingerprint}},
            UpdateExpression="SET v = :v REMOVE u",
            ExpressionAttributeValues={":v": {"B": b"\0"}},
        )

    def damage_object(fingerprint: bytes) -> None:
        s3 = clients.s3()
        name = object_key(fingerprint)
        metadata = s3.head_object(Bucket=aws.BUCKET, Key=name)["Metadata"]
        s3.put_object(Bucket=aws.BUCKET, Key=name, Body=b"\0", Metadata=metadata)

    def down() -> None:
        aws.drop(clients)

    if kind == "dynamodb":
        return Vectors(damage_item, down, DynamoVectors(clients, aws.VECTORS, clock))
    return Vectors(damage_object, down, S3Vectors(clients, aws.BUCKET, clock))


@pytest.fixture(params=["embedded", "dynamodb"])
def flights(request: pytest.FixtureRequest, clock: FakeClock) -> Flights:
    if request.param == "embedded":
        path: Path = request.getfixturevalue("path")
        return Flights(
            lambda fingerprint: execute(path, "UPDATE flights SET state = '[1]' WHERE fp = ?", fingerprint),
            lambda: execute(path, "DROP TABLE flights"),
            EmbeddedFlights(request.getfixturevalue("database"), clock),
        )
    clients: AwsClients = request.getfixturevalue("clients")

    def damage(fingerprint: bytes) -> None:
        clients.dynamodb().update_item(
            TableName=aws.FLIGHTS,
            Key={"fp": {"B": fingerprint}},
            UpdateExpression="SET #state = :state",
            ExpressionAttributeNames={"#state": "state"},
            ExpressionAttributeValues={":state": {"S": "[1]"}},
        )

    return Flights(damage, lambda: aws.drop(clients), DynamoFlights(clients, aws.FLIGHTS, clock))


@pytest.fixture(params=["embedded", "dynamodb"])
def access(request: pytest.FixtureRequest, clock: FakeClock) -> Access:
    if request.param == "embedded":
        path: Path = request.getfixturevalue("path")
        tables = ("access_keys", "deployment")
        store: AccessStore = EmbeddedAccess(request.getfixturevalue("database"))
        return Access(lambda: [execute(path, f"DROP TABLE {t}") for t in tables] and None, store)
    clients: AwsClients = request.getfixturevalue("clients")
    return Access(lambda: aws.drop(clients), DynamoAccess(clients, aws.ACCESS, clock))


@pytest.fixture(params=["embedded", "dynamodb"])
def tickets(request: pytest.FixtureRequest, clock: FakeClock) -> Tickets:
    if request.param == "embedded":
        path: Path = request.getfixturevalue("path")
        return Tickets(
            lambda ref: execute(path, "UPDATE tickets SET row = '{}' WHERE k = ?", ref.key),
            lambda: execute(path, "DROP TABLE tickets"),
            EmbeddedTickets(request.getfixturevalue("database"), clock),
        )
    clients: AwsClients = request.getfixturevalue("clients")

    def damage(ref: TicketRef) -> None:
        clients.dynamodb().update_item(
            TableName=aws.JOBS,
            Key={"k": {"S": f"ticket/{ref.key}"}},
            UpdateExpression="SET #row = :row",
            ExpressionAttributeNames={"#row": "row"},
            ExpressionAttributeValues={":row": {"S": "{}"}},
        )

    return Tickets(damage, lambda: aws.drop(clients), DynamoTickets(clients, aws.JOBS))


@pytest.fixture(params=["embedded", "sqs"])
def queues(request: pytest.FixtureRequest, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Queues:
    if request.param == "embedded":
        path: Path = request.getfixturevalue("path")
        database: Database = request.getfixturevalue("database")
        insert = (
            "INSERT INTO messages (queue, body, ready, receives, dead, e) VALUES ('poll', ?, 0, 0, 0, 9e9)"
        )
        return Queues(
            lambda body: execute(path, insert, body),
            lambda: execute(path, "DROP TABLE messages"),
            EmbeddedQueue(database, clock, "poll", TICKETS, visibility=60, max_receives=5),
        )
    clients: AwsClients = request.getfixturevalue("clients")
    # moto's SQS on the test's clock.
    monkeypatch.setattr("moto.sqs.models.unix_time", clock.now)
    monkeypatch.setattr("moto.sqs.models.unix_time_millis", lambda: clock.now() * 1000)
    url = aws.queue_url(clients, "poll")
    return Queues(
        lambda body: clients.sqs().send_message(QueueUrl=url, MessageBody=body),
        lambda: aws.drop(clients),
        SqsQueue(clients, url, TICKETS),
    )


@pytest.fixture(params=["folder", "s3"])
def blobs(request: pytest.FixtureRequest, clock: FakeClock, tmp_path: Path) -> Blobs:
    if request.param == "folder":
        folder = tmp_path / "blobs"

        def down() -> None:
            if folder.exists():
                folder.rename(tmp_path / "elsewhere")
            folder.touch()

        return Blobs(down, DirectoryBlobs(folder, clock))
    clients: AwsClients = request.getfixturevalue("clients")
    return Blobs(lambda: aws.drop(clients), S3Blobs(clients, aws.BLOBS))


@pytest.fixture(params=["embedded", "dynamodb"])
def quotas(request: pytest.FixtureRequest, clock: FakeClock) -> Quotas:
    if request.param == "embedded":
        path: Path = request.getfixturevalue("path")
        store = EmbeddedQuotas(request.getfixturevalue("database"), clock)
        return Quotas(lambda: execute(path, "DROP TABLE quotas"), store)
    clients: AwsClients = request.getfixturevalue("clients")
    return Quotas(lambda: aws.drop(clients), DynamoQuotas(clients, aws.JOBS, clock))


@pytest.fixture(params=["embedded", "dynamodb"])
def usage_store(request: pytest.FixtureRequest, clock: FakeClock) -> Usage:
    if request.param == "embedded":
        path: Path = request.getfixturevalue("path")
        store = EmbeddedUsage(request.getfixturevalue("database"), clock)
        return Usage(lambda: execute(path, "DROP TABLE usage"), store)
    clients: AwsClients = request.getfixturevalue("clients")
    return Usage(lambda: aws.drop(clients), DynamoUsage(clients, aws.USAGE, clock))


@pytest.fixture(params=["embedded", "dynamodb"])
def manifests(request: pytest.FixtureRequest, clock: FakeClock) -> Manifests:
    if request.param == "embedded":
        path: Path = request.getfixturevalue("path")
        return Manifests(
            lambda name: execute(path, "UPDATE manifests SET row = '{}' WHERE k = ?", name),
            lambda place: execute(path, "UPDATE heads SET row = '[]' WHERE k = ?", place),
            lambda: [execute(path, f"DROP TABLE {table}") for table in ("manifests", "heads")] and None,
            EmbeddedManifests(request.getfixturevalue("database"), clock),
        )
    clients: AwsClients = request.getfixturevalue("clients")

    def damage(key: str) -> None:
        clients.dynamodb().update_item(
            TableName=aws.JOBS,
            Key={"k": {"S": key}},
            UpdateExpression="SET #row = :row",
            ExpressionAttributeNames={"#row": "row"},
            ExpressionAttributeValues={":row": {"S": "{}"}},
        )

    return Manifests(
        lambda name: damage(f"manifest/{name}"),
        lambda place: damage(f"head/{place}"),
        lambda: aws.drop(clients),
        DynamoManifests(clients, aws.JOBS),
    )


SPOOL = 5_000_000


@pytest.fixture(params=["folder", "s3", "s3-versioned"])
def sources(request: pytest.FixtureRequest, tmp_path: Path) -> Sources:
    if request.param == "folder":
        return _folder_sources(tmp_path / "inbox")
    kept = request.param == "s3-versioned"
    return _s3_sources(request.getfixturevalue("clients"), aws.VERSIONED if kept else aws.SOURCES, kept)


def _folder_sources(root: Path) -> Sources:
    root.mkdir()

    def put(key: str, data: bytes) -> Source:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name("new").write_bytes(data)
        path.with_name("new").rename(path)
        about = os.stat(path)
        return Source("inbox", key, version_of(about), "", about.st_size, f"{about.st_mtime_ns:x}")

    def delete(source: Source) -> None:
        (root / source.key).unlink()

    def down() -> None:
        root.rename(root.with_name("elsewhere"))

    return Sources(put, delete, down, False, DirectorySources({"inbox": root}))


def _s3_sources(clients: AwsClients, bucket: str, kept: bool) -> Sources:
    broken: list[bool] = []

    def call(real: Call, **arguments: Any) -> Any:
        if broken:
            raise refused("SlowDown")
        return real(**arguments)

    def put(key: str, data: bytes) -> Source:
        said = clients.s3().put_object(Bucket=bucket, Key=key, Body=data)
        etag = said["ETag"].strip('"')
        return Source(bucket, key, said.get("VersionId", ""), etag, len(data), "0055AED6DCD90281E5")

    def delete(source: Source) -> None:
        if kept:
            clients.s3().delete_object(Bucket=bucket, Key=source.key, VersionId=source.version)
        else:
            clients.s3().delete_object(Bucket=bucket, Key=source.key)

    patched = PatchedClients(clients, head_object=call, get_object=call)
    store = S3Sources(patched, bucket, "in/", spool_bytes=SPOOL)
    return Sources(put, delete, lambda: broken.append(True), kept, store)


@pytest.fixture(params=["folder", "s3"])
def results(request: pytest.FixtureRequest, clock: FakeClock, tmp_path: Path) -> Results:
    if request.param == "folder":
        root = tmp_path / "results"

        def down() -> None:
            if root.exists():
                root.rename(tmp_path / "elsewhere")
            root.touch()

        def begun(path: Path) -> bool:
            return re.fullmatch("~[0-9a-f]{32}", path.name) is not None

        def files() -> dict[str, bytes]:
            every = (each for each in root.rglob("*") if each.is_file() and not begun(each))
            return {each.relative_to(root).as_posix(): each.read_bytes() for each in every}

        return Results(files, down, DirectoryResults(root, clock))
    clients: AwsClients = request.getfixturevalue("clients")

    def objects() -> dict[str, bytes]:
        s3 = clients.s3()
        keys = [each["Key"] for each in s3.list_objects_v2(Bucket=aws.RESULTS).get("Contents", [])]
        assert all(key.startswith("out/") for key in keys)
        return {k[4:]: s3.get_object(Bucket=aws.RESULTS, Key=k)["Body"].read() for k in keys}

    return Results(objects, lambda: aws.drop(clients), S3Results(clients, aws.RESULTS, "out/"))
