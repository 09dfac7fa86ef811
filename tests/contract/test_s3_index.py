"""The sink in S3 Vectors. moto keeps vectors and can list them; it neither searches them nor checks sizes and
metadata."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from embedonce.core.errors import InvalidRequest, StoreUnavailable
from embedonce.core.rule import Sink
from embedonce.ports import SinkEntry
from embedonce.stores.aws import s3_index as module
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.aws.s3_index import S3VectorsSink
from support.aws import Call, PatchedClients, refused

SINK = Sink("vector-bucket", "docs")
VALUES = (0.1, -1.1754943508222875e-38, 3.4028234663852886e38, 1 / 3)


@pytest.fixture
def index(clients: AwsClients) -> AwsClients:
    clients.s3vectors().create_vector_bucket(vectorBucketName=SINK.bucket)
    clients.s3vectors().create_index(
        vectorBucketName=SINK.bucket,
        indexName=SINK.index,
        dataType="float32",
        dimension=4,
        distanceMetric="cosine",
    )
    return clients


def entry(n: int, values: tuple[float, ...] = VALUES, **metadata: str | float) -> SinkEntry:
    return SinkEntry(f"p-{n:08d}", struct.pack(f"<{len(values)}f", *values), metadata)


def found(clients: AwsClients) -> dict[str, Any]:
    said = clients.s3vectors().list_vectors(
        vectorBucketName=SINK.bucket, indexName=SINK.index, returnData=True, returnMetadata=True
    )
    return {each["key"]: each for each in said["vectors"]}


def test_vectors_are_put_replaced_and_deleted(index: AwsClients) -> None:
    store = S3VectorsSink(index)
    store.put_many(SINK, [])
    store.put_many(SINK, [entry(n, source="b/ä", index=n, start=0.5) for n in range(3)])
    store.put_many(SINK, [entry(1, (1.0, 0.0, 0.0, 0.0), index=9)])
    assert set(found(index)) == {"p-00000000", "p-00000001", "p-00000002"}
    values = found(index)["p-00000002"]["data"]["float32"]
    assert struct.pack("<4f", *values) == entry(2).data
    assert found(index)["p-00000002"]["metadata"] == {"source": "b/ä", "index": 2, "start": 0.5}
    assert found(index)["p-00000001"]["metadata"] == {"index": 9}
    store.delete_many(SINK, ["p-00000000", "p-00000002", "never"])
    store.delete_many(SINK, [])
    assert set(found(index)) == {"p-00000001"}


def test_floats_are_sent_as_short_as_they_can_be(index: AwsClients) -> None:
    seen: list[Any] = []

    def put_vectors(real: Call, **arguments: Any) -> Any:
        seen.extend(arguments["vectors"])
        return real(**arguments)

    S3VectorsSink(PatchedClients(index, put_vectors=put_vectors)).put_many(SINK, [entry(1)])
    assert [type(value) for value in seen[0]["data"]["float32"]] == [float] * 4
    assert repr(seen[0]["data"]["float32"][0]) == "0.1"


def sizes(clients: AwsClients, count: int, **metadata: str) -> list[int]:
    seen: list[int] = []

    def put_vectors(real: Call, **arguments: Any) -> Any:
        seen.append(len(arguments["vectors"]))
        return {}

    def delete_vectors(real: Call, **arguments: Any) -> Any:
        seen.append(-len(arguments["keys"]))
        return {}

    store = S3VectorsSink(PatchedClients(clients, put_vectors=put_vectors, delete_vectors=delete_vectors))
    store.put_many(SINK, [entry(n, **metadata) for n in range(count)])
    store.delete_many(SINK, [str(n) for n in range(count)])
    return seen


def test_calls_are_of_a_bounded_size(clients: AwsClients, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sizes(clients, 601) == [250, 250, 101, -500, -101]
    monkeypatch.setattr(module, "BYTES_PER_PUT", 5000)
    assert sizes(clients, 3, text="x" * 2000) == [1, 1, 1, -3]
    monkeypatch.setattr(module, "BYTES_PER_PUT", 10)
    assert sizes(clients, 2) == [1, 1, -2]


def test_what_is_estimated_is_no_less_than_what_is_sent(
    index: AwsClients,
) -> None:
    sent: list[int] = []
    index.s3vectors().meta.events.register(
        "before-send.s3vectors.PutVectors", lambda request, **_: sent.append(len(request.body)) or None
    )
    for metadata in ({}, {"source": "ä" * 500}, {"title": "plain " * 50, "start": 1.5}):
        entries = [entry(n, **metadata) for n in range(40)]  # type: ignore[arg-type]
        store = S3VectorsSink(index)
        store.put_many(SINK, entries)
        estimated = sum(store._vector(each)[1] for each in entries)
        assert sent[-1] <= estimated + 200


def test_an_index_that_does_not_exist_or_fit(index: AwsClients) -> None:
    store = S3VectorsSink(index)
    text = r"^the vector index {} does not exist, or does not take such vectors$"
    with pytest.raises(InvalidRequest, match=text.format("vector-bucket/never")):
        store.put_many(Sink(SINK.bucket, "never"), [entry(1)])
    with pytest.raises(InvalidRequest, match=text.format("never/docs")):
        store.put_many(Sink("never", "docs"), [entry(1)])
    with pytest.raises(InvalidRequest, match=text.format("vector-bucket/docs")):
        store.put_many(SINK, [entry(1, (1.0, 2.0))])
    store.delete_many(Sink(SINK.bucket, "never"), ["x"])
    assert found(index) == {}


@pytest.mark.parametrize(
    "code", ["TooManyRequestsException", "ServiceUnavailableException", "AccessDeniedException"]
)
def test_what_may_be_better_later(index: AwsClients, code: str) -> None:
    def call(real: Call, **arguments: Any) -> Any:
        raise refused(code)

    store = S3VectorsSink(PatchedClients(index, put_vectors=call, delete_vectors=call))
    with pytest.raises(StoreUnavailable, match=f"^s3vectors: {code}$"):
        store.put_many(SINK, [entry(1)])
    with pytest.raises(StoreUnavailable, match=f"^s3vectors: {code}$"):
        store.delete_many(SINK, ["x"])


def test_nothing_is_dropped_of_what_does_not_fit(index: AwsClients) -> None:
    with pytest.raises(ValueError, match="metadata"):
        S3VectorsSink(index).put_many(SINK, [entry(1), entry(2, text="x" * 2040)])
    with pytest.raises(ValueError, match="metadata"):
        S3VectorsSink(index, unfilterable={"text"}).put_many(SINK, [entry(2, text="x" * 40_960)])
    with pytest.raises(ValueError, match="numbers"):
        S3VectorsSink(index).put_many(SINK, [entry(1, (1.0, float("nan"), 0.0, 0.0))])
    assert found(index) == {}
    S3VectorsSink(index, unfilterable={"text"}).put_many(SINK, [entry(2, text="x" * 40_000)])
    assert set(found(index)) == {"p-00000002"}
