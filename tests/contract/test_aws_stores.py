"""What AWS does on bad days: unprocessed keys, conflicts, lost answers, parts that fail, nobody there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from embedonce.core.errors import StoreUnavailable
from embedonce.ports import AccessKey, Swap
from embedonce.stores.aws.access import DynamoAccess
from embedonce.stores.aws.calls import READ_ATTEMPTS
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.aws.flights import DynamoFlights
from embedonce.stores.aws.s3_vectors import S3Vectors
from embedonce.stores.aws.vectors import DynamoVectors
from support import aws
from support.aws import Call, PatchedClients, in_turn, refused
from support.clock import FakeClock
from support.stored import fingerprint, key, leading, record


def leaving(unread: Callable[[int], int]) -> Call:
    """BatchGetItem that returns the last `unread(call number)` keys as unprocessed."""
    calls = iter(range(10_000))

    def batch_get_item(real: Call, *, RequestItems: dict[str, Any]) -> Any:
        [(table, wanted)] = RequestItems.items()
        count = max(0, len(wanted["Keys"]) - unread(next(calls)))
        done, left = wanted["Keys"][:count], wanted["Keys"][count:]
        answer: dict[str, Any] = {"Responses": {table: []}, "UnprocessedKeys": {}}
        if done:
            answer = real(RequestItems={table: wanted | {"Keys": done}})
        if left:
            answer["UnprocessedKeys"] = {table: wanted | {"Keys": left}}
        return answer

    return batch_get_item


KEYS = [key(n) for n in range(10)]
ENTRIES = [(key(n), record(n)) for n in range(10)]


def test_unprocessed_keys_are_asked_for_again(clients: AwsClients, clock: FakeClock) -> None:
    DynamoVectors(clients, aws.VECTORS, clock).put_many(ENTRIES)
    DynamoFlights(clients, aws.FLIGHTS, clock).swap_many([Swap(leading(n), 0) for n in range(10)])
    once = PatchedClients(
        clients, batch_get_item=leaving(lambda call: 10 if call == 0 else 4 if call == 1 else 0)
    )
    assert len(DynamoVectors(once, aws.VECTORS, clock).get_many(KEYS)) == 10
    assert len(clock.sleeps) == 2
    once = PatchedClients(clients, batch_get_item=leaving(lambda call: 3 if call == 0 else 0))
    assert len(DynamoFlights(once, aws.FLIGHTS, clock).get_many([fingerprint(n) for n in range(10)])) == 10


def test_keys_that_stay_unprocessed_are_left_out(clients: AwsClients, clock: FakeClock) -> None:
    DynamoVectors(clients, aws.VECTORS, clock).put_many(ENTRIES)
    some = PatchedClients(clients, batch_get_item=leaving(lambda call: 3))
    found = DynamoVectors(some, aws.VECTORS, clock).get_many(KEYS)
    assert set(found) == {fingerprint(n) for n in range(7)}
    assert len(clock.sleeps) == READ_ATTEMPTS - 1
    none = PatchedClients(clients, batch_get_item=leaving(lambda call: 100))
    with pytest.raises(StoreUnavailable, match=r"^dynamodb: UnprocessedKeys$"):
        DynamoVectors(none, aws.VECTORS, clock).get_many(KEYS)


def test_what_was_read_before_a_throttle_counts(clients: AwsClients, clock: FakeClock) -> None:
    DynamoVectors(clients, aws.VECTORS, clock).put_many(ENTRIES)
    partly = leaving(lambda call: 3)
    calls = iter(range(100))

    def batch_get_item(real: Call, **arguments: Any) -> Any:
        if next(calls):
            raise refused("ThrottlingException")
        return partly(real, **arguments)

    patched = PatchedClients(clients, batch_get_item=batch_get_item)
    assert len(DynamoVectors(patched, aws.VECTORS, clock).get_many(KEYS)) == 7


def test_a_flight_that_was_not_read_is_not_absent(clients: AwsClients, clock: FakeClock) -> None:
    some = PatchedClients(clients, batch_get_item=leaving(lambda call: 1))
    with pytest.raises(StoreUnavailable):
        DynamoFlights(some, aws.FLIGHTS, clock).get_many([fingerprint(1), fingerprint(2)])
    calls = in_turn(None, refused("InternalServerError"))
    with pytest.raises(StoreUnavailable, match="InternalServerError"):
        DynamoFlights(PatchedClients(clients, batch_get_item=calls), aws.FLIGHTS, clock).get_many(
            [fingerprint(n) for n in range(101)]
        )
    access = DynamoAccess(clients, aws.ACCESS, clock)
    for n in range(2):
        access.add(AccessKey(f"k{n}", f"{n}", "", "", frozenset(), False, n))
    with pytest.raises(StoreUnavailable):
        DynamoAccess(some, aws.ACCESS, clock).list()


def test_only_vectors_may_be_read_a_little_late(clients: AwsClients, clock: FakeClock) -> None:
    consistent: list[bool] = []

    def batch_get_item(real: Call, *, RequestItems: dict[str, Any]) -> Any:
        consistent.extend(each["ConsistentRead"] for each in RequestItems.values())
        return real(RequestItems=RequestItems)

    DynamoAccess(clients, aws.ACCESS, clock).add(AccessKey("k", "1", "", "", frozenset(), False, 1))
    patched = PatchedClients(clients, batch_get_item=batch_get_item)
    DynamoVectors(patched, aws.VECTORS, clock).get_many([key(1)])
    DynamoFlights(patched, aws.FLIGHTS, clock).get_many([fingerprint(1)])
    DynamoAccess(patched, aws.ACCESS, clock).list()
    assert consistent == [False, True, True]


def test_one_failing_call_of_several_is_a_partial_answer(clients: AwsClients, clock: FakeClock) -> None:
    def put_item(real: Call, **arguments: Any) -> Any:
        if arguments["Item"]["fp"]["B"] == fingerprint(3):
            raise refused("ProvisionedThroughputExceededException")
        return real(**arguments)

    def batch_get_item(real: Call, *, RequestItems: dict[str, Any]) -> Any:
        if {"fp": {"B": fingerprint(150)}} in RequestItems[aws.VECTORS]["Keys"]:
            raise refused("InternalServerError")
        return real(RequestItems=RequestItems)

    patched = PatchedClients(clients, put_item=put_item, batch_get_item=batch_get_item)
    store = DynamoVectors(patched, aws.VECTORS, clock)
    for overwrite in (False, True):
        expected = [None if n == 3 else record(n) for n in range(10)]
        assert store.put_many(ENTRIES, overwrite=overwrite) == expected
    others = [key(n) for n in range(200, 290)]
    found = store.get_many([*KEYS, *others, key(150)])
    assert set(found) == {fingerprint(n) for n in range(10) if n != 3}
    with pytest.raises(StoreUnavailable, match="Throughput"):
        store.put_many([ENTRIES[3]])
    flights = DynamoFlights(patched, aws.FLIGHTS, clock)
    failed, written = flights.swap_many([Swap(leading(3), 0), Swap(leading(4), 0)])
    assert isinstance(failed, StoreUnavailable)
    assert written is None
    with pytest.raises(StoreUnavailable):
        flights.swap_many([Swap(leading(3), 0)])


def test_a_write_that_was_sent_twice_is_known_as_ones_own(clients: AwsClients, clock: FakeClock) -> None:
    """botocore sends again where the answer was lost; the second one fails against the first."""

    def put_item(real: Call, **arguments: Any) -> Any:
        real(**arguments)
        return real(**arguments)

    patched = PatchedClients(clients, put_item=put_item)
    flights = DynamoFlights(patched, aws.FLIGHTS, clock)
    assert flights.swap_many([Swap(leading(1), 0)]) == [None]
    assert flights.swap_many([Swap(leading(1, version=2), 1)]) == [None]
    assert flights.swap_many([Swap(leading(1, version=2), 1)]) == [leading(1, version=2)]
    assert DynamoVectors(patched, aws.VECTORS, clock).put_many([(key(1), record(1))]) == [record(1)]


def test_a_winner_that_the_refusal_does_not_carry_is_read(clients: AwsClients, clock: FakeClock) -> None:
    def put_item(real: Call, **arguments: Any) -> Any:
        del arguments["ReturnValuesOnConditionCheckFailure"]
        return real(**arguments)

    DynamoVectors(clients, aws.VECTORS, clock).put_many([(key(1), record(1))])
    DynamoFlights(clients, aws.FLIGHTS, clock).swap_many([Swap(leading(1), 0)])
    patched = PatchedClients(clients, put_item=put_item)
    assert DynamoVectors(patched, aws.VECTORS, clock).put_many([(key(1), record(8))]) == [record(1)]
    flights = DynamoFlights(patched, aws.FLIGHTS, clock)
    assert flights.swap_many([Swap(leading(1, version=9), 0)]) == [leading(1)]
    gone = leading(2, version=9)
    assert flights.swap_many([Swap(gone, 8)]) == [replace(gone, version=0)]


def test_a_damaged_item_is_replaced_once(clients: AwsClients, clock: FakeClock) -> None:
    """Between seeing the damage and replacing it another writer was faster: that one is the winner."""
    dynamodb = clients.dynamodb()
    dynamodb.put_item(TableName=aws.VECTORS, Item={"fp": {"B": fingerprint(1)}, "v": {"B": b"xy"}})
    calls = iter(range(100))

    def put_item(real: Call, **arguments: Any) -> Any:
        if next(calls) == 1:
            other = DynamoVectors(clients, aws.VECTORS, clock)
            assert other.put_many([(key(1), record(8))]) == [record(8)]
        return real(**arguments)

    patched = PatchedClients(clients, put_item=put_item)
    assert DynamoVectors(patched, aws.VECTORS, clock).put_many([(key(1), record(1))]) == [record(8)]


def test_an_incomplete_delete_is_a_failure(clients: AwsClients, clock: FakeClock) -> None:
    def delete_objects(real: Call, **arguments: Any) -> Any:
        return {"Errors": [{"Key": "k", "Code": "InternalError", "Message": "m"}]}

    store = S3Vectors(PatchedClients(clients, delete_objects=delete_objects), aws.BUCKET, clock)
    with pytest.raises(StoreUnavailable, match=r"^s3: InternalError$"):
        store.delete_many([key(1)])
    dynamodb = PatchedClients(clients, delete_item=in_turn(refused("InternalServerError")))
    with pytest.raises(StoreUnavailable):
        DynamoVectors(dynamodb, aws.VECTORS, clock).delete_many([key(1), key(2)])


def test_nobody_there_and_no_region(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    clients = AwsClients()
    with pytest.raises(StoreUnavailable, match=r"^dynamodb: EndpointConnectionError$"):
        DynamoVectors(clients, aws.VECTORS, clock).get_many([key(1)])
    clients.close()
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    clients = AwsClients()
    with pytest.raises(StoreUnavailable, match=r"^dynamodb: NoRegionError$"):
        DynamoFlights(clients, aws.FLIGHTS, clock).get_many([fingerprint(1)])
    clients.close()
