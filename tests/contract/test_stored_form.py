"""The stored forms, byte for byte: what other programs read (docs/storage-format.md) and old rows are in."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from embedonce.core.content import Modality
from embedonce.core.flight import Failed, Flight, Landed, Leading
from embedonce.core.manifest import Embedding, Ended, Head, Manifest, Outcome, Published, Totals
from embedonce.core.plan import VectorKey
from embedonce.core.record import StoredVector
from embedonce.core.rule import Output, Sink, Terms
from embedonce.core.segment import CutOptions, Format
from embedonce.core.source import Source
from embedonce.core.task import Step, Task
from embedonce.core.tasks import TaskType
from embedonce.core.ticket import Completed, Open, Passage, Stage, Ticket, TicketRef, Webhook
from embedonce.core.ticket import Failed as TicketFailed
from embedonce.ports import AccessKey, Deployment, KeyLimits, Swap
from embedonce.stores.aws.access import DynamoAccess
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.aws.flights import DynamoFlights
from embedonce.stores.aws.manifests import DynamoManifests
from embedonce.stores.aws.queue import SqsQueue
from embedonce.stores.aws.quotas import DynamoQuotas
from embedonce.stores.aws.s3_vectors import S3Vectors
from embedonce.stores.aws.tickets import DynamoTickets
from embedonce.stores.aws.usage import DynamoUsage
from embedonce.stores.aws.vectors import DynamoVectors
from embedonce.stores.embedded.access import EmbeddedAccess
from embedonce.stores.embedded.database import Database
from embedonce.stores.embedded.flights import EmbeddedFlights
from embedonce.stores.embedded.manifests import EmbeddedManifests
from embedonce.stores.embedded.queue import EmbeddedQueue
from embedonce.stores.embedded.quotas import EmbeddedQuotas
from embedonce.stores.embedded.tickets import EmbeddedTickets
from embedonce.stores.embedded.usage import EmbeddedUsage
from embedonce.stores.embedded.vectors import EmbeddedVectors
from embedonce.stores.messages import TASKS, TICKETS
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

REF = TicketRef("k1", "000102030405060708090a0b0c0d0e0f")
ROWS = {
    '{"state":["open",null],"created":1800000000.0,"deadline":1800000600.5,"expires":1800004200.5,'
    '"model":"google/gemini-embedding-2","job":"[\\"ä\\"]","stage":"work","due":1800000060.25,"hops":0,'
    '"nudges":1,"blobs":["0"],"webhook":["https://example.org/",0,false,0.0]}': Ticket(
        REF,
        3,
        Open(),
        1_800_000_000.0,
        1_800_000_600.5,
        1_800_004_200.5,
        "google/gemini-embedding-2",
        '["ä"]',
        due=1_800_000_060.25,
        nudges=1,
        webhook=Webhook("https://example.org/"),
        blobs=("0",),
    ),
    '{"state":["completed",1800000009.5,true,4000000,1800000001.0],"created":1800000000.0,'
    '"deadline":1800000600.5,"expires":1800003609.5,"model":"google/gemini-embedding-2","job":null,'
    '"stage":"poll","due":null,"hops":0,"nudges":0,"blobs":[],"passage":["'
    + "00" * 32
    + '","'
    + "ff" * 32
    + '",'
    "null,768,true]}": Ticket(
        REF,
        3,
        Completed(1_800_000_009.5, True, 4_000_000, 1_800_000_001.0),
        1_800_000_000.0,
        1_800_000_600.5,
        1_800_003_609.5,
        "google/gemini-embedding-2",
        None,
        Stage.POLL,
        passage=Passage(bytes(32), b"\xff" * 32, None, 768, True),
    ),
    '{"state":["failed",1800000009.5,"upstream_rejected","nö",1800000001.0],"created":1800000000.0,'
    '"deadline":1800000600.5,"expires":1800003609.5,"model":"m","job":null,"stage":"poll",'
    '"due":null,"hops":0,"nudges":0,"blobs":[]}': Ticket(
        REF,
        3,
        TicketFailed(1_800_000_009.5, "upstream_rejected", "nö", 1_800_000_001.0),
        1_800_000_000.0,
        1_800_000_600.5,
        1_800_003_609.5,
        "m",
        None,
        Stage.POLL,
    ),
}
TICKET_IDS = ["open", "completed", "failed"]

SOURCE = Source("bucket", "in/ä.pdf", "v1", "0af0", 17, "0055AED6DCD90281E5")
MANIFEST_ID = "70ec2a5b00db8e3f8b8b4f2b5e8b5c2d"
TERMS = Terms(
    "k1",
    "google/gemini-embedding-2",
    768,
    TaskType.RETRIEVAL_DOCUMENT,
    "Täglich",
    "team",
    Format.PDF,
    CutOptions(id_field="id"),
    Output.FLOAT,
    Sink("vectors", "docs"),
    10**12,
    10**13,
)
HEADS = {
    '{"format":1,"newest":"70ec2a5b00db8e3f8b8b4f2b5e8b5c2d","sequencer":"0055AED6DCD90281E5","publis'
    'hing":null,"published":null,"sink":null,"reach":0,"filled":null}': Head(
        "0123456789abcdef" * 2, 3, MANIFEST_ID, "0055AED6DCD90281E5"
    ),
    '{"format":1,"newest":"70ec2a5b00db8e3f8b8b4f2b5e8b5c2d","sequencer":"0055AED6DCD90281E5","publis'
    'hing":["70ec2a5b00db8e3f8b8b4f2b5e8b5c2d",1800000030.5],"published":{"manifest":"70ec2a5b00db8e3'
    'f8b8b4f2b5e8b5c2d","sha256":"abababababababababababababababababababababababababababababababab","'
    'terms":"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd","cutter":"pdf/1","name":"in/ä.pdf.embedding.jsonl"},"s'
    'ink":{"bucket":"vectors","index":"docs"},"reach":7,"filled":["70ec2a5b00db8e3f8b8b4f2b5e8b5c2d",'
    "3]}": Head(
        "0123456789abcdef" * 2,
        3,
        MANIFEST_ID,
        "0055AED6DCD90281E5",
        (MANIFEST_ID, 1_800_000_030.5),
        Published(MANIFEST_ID, "ab" * 32, "cd" * 16, "pdf/1", "in/ä.pdf.embedding.jsonl"),
        Sink("vectors", "docs"),
        7,
        (MANIFEST_ID, 3),
    ),
}
MANIFESTS = {
    '{"format":1,"source":{"bucket":"bucket","key":"in/ä.pdf","version":"v1","etag":"0af0","size":17,'
    '"sequencer":"0055AED6DCD90281E5"},"rule":"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd","terms":{"payer":"k1'
    '","model":"google/gemini-embedding-2","dimensions":768,"task_type":"RETRIEVAL_DOCUMENT","title":'
    '"Täglich","namespace":"team","format":"pdf","cut":{"segment_bytes":8000,"overlap_bytes":0,"field'
    '":"text","id_field":"id","pages":1,"audio_seconds":180.0,"video_seconds":120.0,"media_bytes":140'
    '00000},"output":"float","sink":{"bucket":"vectors","index":"docs"},"most":1000000000000,"daily":'
    '10000000000000},"state":["embedding",9,"gQA=","payer"],"created":1800000000.0,"due":1800000300.2'
    '5,"nudges":1,"totals":{"segments":9,"hits":1,"derived":2,"misses":3,"failed":1,"tokens":400,"cos'
    't":4000000,"saved":5000000},"sha256":"ababababababababababababababababababababababababababababab'
    'ababab","cutter":"pdf/1","error":null,"note":null}': Manifest(
        MANIFEST_ID,
        3,
        SOURCE,
        "cd" * 16,
        TERMS,
        Embedding(9, b"\x81\x00", "payer"),
        1_800_000_000.0,
        1_800_000_300.25,
        1,
        Totals(9, 1, 2, 3, 1, 400, 4_000_000, 5_000_000),
        "ab" * 32,
        "pdf/1",
    ),
    '{"format":1,"source":{"bucket":"bucket","key":"in/ä.pdf","version":"v1","etag":"0af0","size":17,'
    '"sequencer":"0055AED6DCD90281E5"},"rule":"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd","terms":{"payer":"k1'
    '","model":"m","dimensions":null,"task_type":null,"title":null,"namespace":"","format":null,"cut"'
    ':{"segment_bytes":8000,"overlap_bytes":0,"field":"text","id_field":null,"pages":1,"audio_seconds'
    '":180.0,"video_seconds":120.0,"media_bytes":14000000},"output":"base64","sink":null,"most":null,'
    '"daily":null},"state":["ended","failed",1800000009.5],"created":1800000000.0,"due":null,"nudges"'
    ':0,"totals":{"segments":0,"hits":0,"derived":0,"misses":0,"failed":0,"tokens":0,"cost":0,"saved"'
    ':0},"sha256":"","cutter":"","error":["invalid_request","nö"],"note":"n"}': Manifest(
        MANIFEST_ID,
        3,
        SOURCE,
        "cd" * 16,
        Terms("k1", "m"),
        Ended(Outcome.FAILED, 1_800_000_009.5),
        1_800_000_000.0,
        None,
        error=("invalid_request", "nö"),
        note="n",
    ),
}
MANIFEST_IDS = ["embedding", "failed"]
HEAD_IDS = ["new", "published"]


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


@pytest.mark.parametrize(("text", "ticket"), ROWS.items(), ids=TICKET_IDS)
def test_dynamodb_ticket(text: str, ticket: Ticket, clients: AwsClients) -> None:
    DynamoTickets(clients, aws.JOBS).swap(ticket, 0)
    [item] = clients.dynamodb().scan(TableName=aws.JOBS)["Items"]
    assert len(item.pop("w")["B"]) == 16
    assert item == {
        "k": {"S": "ticket/k1/000102030405060708090a0b0c0d0e0f"},
        "ver": {"N": "3"},
        "row": {"S": text},
        "e": {"N": "1800004201" if ticket.open else "1800003610"},
    } | ({"ds": {"S": "6"}, "dt": {"N": "1800000060.250"}} if ticket.due else {})


@pytest.mark.parametrize(("text", "ticket"), ROWS.items(), ids=TICKET_IDS)
def test_sqlite_ticket(text: str, ticket: Ticket, database: Database, path: Path, clock: FakeClock) -> None:
    EmbeddedTickets(database, clock).swap(ticket, 0)
    assert rows(path, "SELECT k, ver, row, due, e FROM tickets") == [
        ("k1/000102030405060708090a0b0c0d0e0f", 3, text, ticket.due, ticket.expires)
    ]


@pytest.mark.parametrize(("text", "manifest"), MANIFESTS.items(), ids=MANIFEST_IDS)
def test_dynamodb_manifest(text: str, manifest: Manifest, clients: AwsClients) -> None:
    DynamoManifests(clients, aws.JOBS).swap(manifest, 0)
    [item] = clients.dynamodb().scan(TableName=aws.JOBS)["Items"]
    assert len(item.pop("w")["B"]) == 16
    assert item == {
        "k": {"S": "manifest/70ec2a5b00db8e3f8b8b4f2b5e8b5c2d"},
        "ver": {"N": "3"},
        "row": {"S": text},
        "e": {"N": "1801209600" if manifest.open else "1800604810"},
    } | ({"ds": {"S": "m4"}, "dt": {"N": "1800000300.250"}} if manifest.due else {})


@pytest.mark.parametrize(("text", "manifest"), MANIFESTS.items(), ids=MANIFEST_IDS)
def test_sqlite_manifest(
    text: str, manifest: Manifest, database: Database, path: Path, clock: FakeClock
) -> None:
    EmbeddedManifests(database, clock).swap(manifest, 0)
    assert rows(path, "SELECT k, ver, row, due, e FROM manifests") == [
        (MANIFEST_ID, 3, text, manifest.due, manifest.expires)
    ]


@pytest.mark.parametrize(("text", "head"), HEADS.items(), ids=HEAD_IDS)
def test_dynamodb_head(text: str, head: Head, clients: AwsClients) -> None:
    DynamoManifests(clients, aws.JOBS).swap_head(head, 0)
    [item] = clients.dynamodb().scan(TableName=aws.JOBS)["Items"]
    assert len(item.pop("w")["B"]) == 16
    assert item == {
        "k": {"S": "head/0123456789abcdef0123456789abcdef"},
        "ver": {"N": "3"},
        "row": {"S": text},
    }


@pytest.mark.parametrize(("text", "head"), HEADS.items(), ids=HEAD_IDS)
def test_sqlite_head(text: str, head: Head, database: Database, path: Path, clock: FakeClock) -> None:
    EmbeddedManifests(database, clock).swap_head(head, 0)
    assert rows(path, "SELECT k, ver, row FROM heads") == [("0123456789abcdef0123456789abcdef", 3, text)]


def test_task_message(clients: AwsClients) -> None:
    url = aws.queue_url(clients, "work")
    SqsQueue(clients, url, TASKS).send(Task(MANIFEST_ID, Step.ASSEMBLE, hops=2))
    [message] = clients.sqs().receive_message(QueueUrl=url)["Messages"]
    assert message["Body"] == (
        '{"v":1,"task":{"manifest":"70ec2a5b00db8e3f8b8b4f2b5e8b5c2d","step":"assemble","chunk":0,"hops":2}}'
    )


def test_sqs_message(clients: AwsClients) -> None:
    url = aws.queue_url(clients, "work")
    SqsQueue(clients, url, TICKETS).send(REF)
    [message] = clients.sqs().receive_message(QueueUrl=url)["Messages"]
    assert message["Body"] == '{"v":1,"ticket":"k1/000102030405060708090a0b0c0d0e0f"}'


def test_sqlite_message(database: Database, path: Path, clock: FakeClock) -> None:
    EmbeddedQueue(database, clock, "work", TICKETS, visibility=330, max_receives=5).send(REF, delay=1.5)
    body = '{"v":1,"ticket":"k1/000102030405060708090a0b0c0d0e0f"}'
    assert rows(path, "SELECT queue, body, ready, receives, receipt, dead, e FROM messages") == [
        ("work", body, 1_800_000_001.5, 0, None, 0, 1_801_209_600.0)
    ]


def test_dynamodb_quota(clients: AwsClients, clock: FakeClock) -> None:
    DynamoQuotas(clients, aws.JOBS, clock).take("uploads/k1", 5, limit=9, expires=1_800_000_100.25)
    [item] = clients.dynamodb().scan(TableName=aws.JOBS)["Items"]
    assert len(item.pop("w")["B"]) == 16
    assert item == {"k": {"S": "quota/uploads/k1"}, "n": {"N": "5"}, "e": {"N": "1800000101"}}


def test_sqlite_quota(database: Database, path: Path, clock: FakeClock) -> None:
    EmbeddedQuotas(database, clock).take("uploads/k1", 5, limit=9, expires=1_800_000_100.25)
    assert rows(path, "SELECT name, n, e FROM quotas") == [("uploads/k1", 5, 1_800_000_100.25)]


LIMITED = KeyLimits(20_000_000_000_000, 60, 100_000)
DEPLOYMENT = Deployment(True, 25_000_000_000_000, {"b": 2, "all": 1}, 1_800_000_000)


def test_dynamodb_usage(clients: AwsClients, clock: FakeClock) -> None:
    store = DynamoUsage(clients, aws.USAGE, clock)
    store.add("k1", "20270115", {"requests": 3, "settled": 4_000_000, "r6000006": 5})
    store.add("k1", "20270115", {"r6000006": -5})
    assert clients.dynamodb().scan(TableName=aws.USAGE)["Items"] == [
        {
            "owner": {"S": "k1"},
            "day": {"S": "20270115"},
            "n_requests": {"N": "3"},
            "n_settled": {"N": "4000000"},
            "n_r6000006": {"N": "0"},
            "e": {"N": "1834617600"},
        }
    ]


def test_sqlite_usage(database: Database, path: Path, clock: FakeClock) -> None:
    store = EmbeddedUsage(database, clock)
    store.add("k1", "20270115", {"requests": 3, "settled": 4_000_000, "r6000006": 5})
    store.add("k1", "20270115", {"r6000006": -5})
    assert rows(path, "SELECT owner, day, name, n FROM usage ORDER BY name") == [
        ("k1", "20270115", "requests", 3),
        ("k1", "20270115", "settled", 4_000_000),
    ]


def test_dynamodb_limits_and_deployment(clients: AwsClients, clock: FakeClock) -> None:
    store = DynamoAccess(clients, aws.ACCESS, clock)
    store.add(replace(ACCESS, limits=LIMITED))
    store.set_deployment(DEPLOYMENT)
    items = {item["sk"]["S"]: item for item in clients.dynamodb().scan(TableName=aws.ACCESS)["Items"]}
    limits = {name: items["key"][name] for name in ("budget", "rpm", "tpm")}
    assert limits == {"budget": {"N": "20000000000000"}, "rpm": {"N": "60"}, "tpm": {"N": "100000"}}
    assert len(items["deployment"].pop("w")["B"]) == 16
    assert items["deployment"] == {
        "pk": {"S": "deployment"},
        "sk": {"S": "deployment"},
        "ver": {"N": "1"},
        "paused": {"BOOL": True},
        "daily": {"N": "25000000000000"},
        "generations": {"M": {"all": {"N": "1"}, "b": {"N": "2"}}},
        "purged": {"N": "1800000000"},
    }


def test_sqlite_limits_and_deployment(database: Database, path: Path) -> None:
    store = EmbeddedAccess(database)
    store.add(replace(ACCESS, limits=LIMITED))
    store.set_deployment(DEPLOYMENT)
    assert rows(path, "SELECT budget, rpm, tpm FROM access_keys") == [(20_000_000_000_000, 60, 100_000)]
    assert rows(path, "SELECT id, ver, paused, daily, generations, purged FROM deployment") == [
        (1, 1, 1, 25_000_000_000_000, '{"all":1,"b":2}', 1_800_000_000)
    ]
