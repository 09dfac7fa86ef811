"""The stored forms, byte for byte: what other programs read (docs/storage-format.md) and old rows are in."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from embedonce.core.content import Modality
from embedonce.core.flight import Failed, Flight, Landed, Leading
from embedonce.core.plan import VectorKey
from embedonce.core.record import StoredVector
from embedonce.ports import AccessKey, Swap
from embedonce.stores.aws.access import DynamoAccess
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.aws.flights import DynamoFlights
from embedonce.stores.aws.s3_vectors import S3Vectors
from embedonce.stores.aws.vectors import DynamoVectors
from embedonce.stores.embedded.access import EmbeddedAccess
from embedonce.stores.embedded.database import Database
from embedonce.stores.embedded.flights import EmbeddedFlights
from embedonce.stores.embedded.vectors import EmbeddedVectors
from support import aws
from support.clock import FakeClock

FINGERPRINT = bytes(range(32))
DATA = bytes.fromhex("9a99193fcdcc4cbf00000000")  # 0.6, -0.8, 0.0
RECORD = StoredVector(
    data=DATA,
    model="gemini-embedding-2",
    lineage="google/gémini 2%/1",
    upstream="openrouter",
    modality=Modality.TEXT,
    tokens=20,
    cost=4_000_000,
    created=1_800_000_000,
    expires=1_802_592_000,
    estimated=True,
)
KEY = VectorKey(FINGERPRINT, 3)
FLIGHTS = {
    '{"s":"leading","owner":"a1","until":1800000030.5,"attempts":2,"since":1800000000.0,"failures":1,'
    '"expires":1800003600.25}': Leading("a1", 1_800_000_030.5),
    '{"s":"landed","record":{"f":"1","m":"gemini-embedding-2","l":"google/gémini 2%/1","u":"openrouter",'
    '"k":"text","d":"3","t":"20","n":"1","p":"4000000","c":"1800000000","e":"1802592000"},"attempts":2,'
    '"since":1800000000.0,"failures":1,"expires":1800003600.25}': Landed(RECORD),
    '{"s":"failed","code":"upstream_rejected","message":"no","permanent":true,"batch":"0aff","retry_at":0.0,'
    '"attempts":2,"since":1800000000.0,"failures":1,"expires":1800003600.25}': Failed(
        "upstream_rejected", "no", True, b"\x0a\xff", 0.0
    ),
}
ACCESS = AccessKey("k1", "ab" * 32, "näme", "team", frozenset({"embed", "admin"}), False, 1_800_000_000)


def flight(state: Any) -> Flight:
    return Flight(FINGERPRINT, 1_800_000_000_001, state, 1_800_003_600.25, 2, 1_800_000_000.0, 1)


def rows(path: Path, statement: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(path)
    found = connection.execute(statement).fetchall()
    connection.close()
    return found


def test_dynamodb_vector(clients: AwsClients, clock: FakeClock) -> None:
    DynamoVectors(clients, aws.VECTORS, clock).put_many([(KEY, RECORD)])
    assert clients.dynamodb().scan(TableName=aws.VECTORS)["Items"] == [
        {
            "fp": {"B": FINGERPRINT},
            "v": {"B": DATA},
            "f": {"S": "1"},
            "m": {"S": "gemini-embedding-2"},
            "l": {"S": "google/gémini 2%/1"},
            "u": {"S": "openrouter"},
            "k": {"S": "text"},
            "d": {"N": "3"},
            "t": {"N": "20"},
            "n": {"S": "1"},
            "p": {"N": "4000000"},
            "c": {"N": "1800000000"},
            "e": {"N": "1802592000"},
        }
    ]


def test_s3_vector(clients: AwsClients, clock: FakeClock) -> None:
    S3Vectors(clients, aws.BUCKET, clock).put_many([(KEY, RECORD)])
    name = "vectors/v1/00/000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
    stored = clients.s3().get_object(Bucket=aws.BUCKET, Key=name)
    assert stored["Body"].read() == DATA
    assert stored["Metadata"] == {
        "f": "1",
        "m": "gemini-embedding-2",
        "l": "google/g%C3%A9mini%202%25/1",
        "u": "openrouter",
        "k": "text",
        "d": "3",
        "t": "20",
        "n": "1",
        "p": "4000000",
        "c": "1800000000",
        "e": "1802592000",
    }


def test_sqlite_vector(database: Database, path: Path, clock: FakeClock) -> None:
    EmbeddedVectors(database, clock).put_many([(KEY, RECORD)])
    assert rows(path, "SELECT fp, v, f, m, l, u, k, d, t, n, p, c, e FROM vectors") == [
        (
            FINGERPRINT,
            DATA,
            "1",
            "gemini-embedding-2",
            "google/gémini 2%/1",
            "openrouter",
            "text",
            3,
            20,
            "1",
            4_000_000,
            1_800_000_000,
            1_802_592_000,
        )
    ]


@pytest.mark.parametrize(("text", "state"), FLIGHTS.items(), ids=["leading", "landed", "failed"])
def test_dynamodb_flight(text: str, state: Any, clients: AwsClients, clock: FakeClock) -> None:
    DynamoFlights(clients, aws.FLIGHTS, clock).swap_many([Swap(flight(state), 0)])
    [item] = clients.dynamodb().scan(TableName=aws.FLIGHTS)["Items"]
    assert len(item.pop("w")["B"]) == 16
    assert item == {
        "fp": {"B": FINGERPRINT},
        "ver": {"N": "1800000000001"},
        "state": {"S": text},
        "e": {"N": "1800003601"},
    } | ({"vec": {"B": DATA}} if isinstance(state, Landed) else {})


@pytest.mark.parametrize(("text", "state"), FLIGHTS.items(), ids=["leading", "landed", "failed"])
def test_sqlite_flight(text: str, state: Any, database: Database, path: Path, clock: FakeClock) -> None:
    EmbeddedFlights(database, clock).swap_many([Swap(flight(state), 0)])
    vector = DATA if isinstance(state, Landed) else None
    assert rows(path, "SELECT fp, ver, state, vec, e FROM flights") == [
        (FINGERPRINT, 1_800_000_000_001, text, vector, 1_800_003_600.25)
    ]


def test_dynamodb_access_key(clients: AwsClients, clock: FakeClock) -> None:
    store = DynamoAccess(clients, aws.ACCESS, clock)
    store.add(ACCESS)
    store.revoke("k1", 1_800_000_009)
    items = clients.dynamodb().scan(TableName=aws.ACCESS)["Items"]
    assert sorted(items, key=lambda item: item["pk"]["S"]) == [
        {
            "pk": {"S": f"key#{'ab' * 32}"},
            "sk": {"S": "key"},
            "id": {"S": "k1"},
            "name": {"S": "näme"},
            "namespace": {"S": "team"},
            "scopes": {"L": [{"S": "admin"}, {"S": "embed"}]},
            "isolated": {"BOOL": False},
            "created": {"N": "1800000000"},
            "revoked": {"N": "1800000009"},
        },
        {"pk": {"S": "keys"}, "sk": {"S": "k1"}, "secret_hash": {"S": "ab" * 32}},
    ]


def test_sqlite_access_key(database: Database, path: Path) -> None:
    EmbeddedAccess(database).add(ACCESS)
    columns = "id, secret_hash, name, namespace, scopes, isolated, created, revoked"
    assert rows(path, f"SELECT {columns} FROM access_keys") == [
        ("k1", "ab" * 32, "näme", "team", "admin embed", 0, 1_800_000_000, None)
    ]
