"""What S3 does on bad days: conflicts, objects that change in between, parts that fail."""

from __future__ import annotations

from typing import Any

import pytest

from embedonce.core.errors import StoreUnavailable
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.aws.s3_vectors import PUT_ATTEMPTS, S3Vectors, object_key
from support import aws
from support.aws import Call, PatchedClients, in_turn, refused
from support.clock import FakeClock
from support.stored import fingerprint, key, record

KEYS = [key(n) for n in range(10)]
ENTRIES = [(key(n), record(n)) for n in range(10)]


def test_s3_conflicts_are_tried_again(clients: AwsClients, clock: FakeClock) -> None:
    conflict = refused("ConditionalRequestConflict")
    store = S3Vectors(PatchedClients(clients, put_object=in_turn(conflict, conflict)), aws.BUCKET, clock)
    assert store.put_many([(key(1), record(1))]) == [record(1)]
    assert len(clock.sleeps) == 2
    for_ever = PatchedClients(clients, put_object=in_turn(*[conflict] * PUT_ATTEMPTS))
    with pytest.raises(StoreUnavailable, match=r"^s3: ConditionalRequestConflict$"):
        S3Vectors(for_ever, aws.BUCKET, clock).put_many([(key(2), record(2))])


def test_s3_expired_is_replaced_by_one_writer(clients: AwsClients, clock: FakeClock) -> None:
    store = S3Vectors(clients, aws.BUCKET, clock)
    store.put_many([(key(1), record(1, ttl=5))])
    clock.advance(5)
    calls: list[dict[str, Any]] = []

    def put_object(real: Call, **arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:  # between the look at the expired object and its replacement
            assert store.put_many([(key(1), record(8))]) == [record(8)]
        return real(**arguments)

    late = S3Vectors(PatchedClients(clients, put_object=put_object), aws.BUCKET, clock)
    assert late.put_many([(key(1), record(1))]) == [record(8)]
    assert [call.get("IfNoneMatch") for call in calls] == ["*", None]
    assert calls[1]["IfMatch"]


def test_s3_an_object_that_vanishes_in_between_is_made_anew(clients: AwsClients, clock: FakeClock) -> None:
    store = S3Vectors(clients, aws.BUCKET, clock)
    store.put_many([(key(1), record(1, ttl=5))])
    clock.advance(5)
    calls: list[dict[str, Any]] = []

    def put_object(real: Call, **arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            store.delete_many([key(1)])
        return real(**arguments)

    late = S3Vectors(PatchedClients(clients, put_object=put_object), aws.BUCKET, clock)
    assert late.put_many([(key(1), record(2))]) == [record(2)]
    assert [call.get("IfNoneMatch") for call in calls] == ["*", None, "*"]


def test_s3_one_failing_object_is_a_partial_answer(clients: AwsClients, clock: FakeClock) -> None:
    def failing(real: Call, **arguments: Any) -> Any:
        if arguments["Key"] == object_key(fingerprint(3)):
            raise refused("AccessDenied")
        return real(**arguments)

    store = S3Vectors(PatchedClients(clients, get_object=failing, put_object=failing), aws.BUCKET, clock)
    assert store.put_many(ENTRIES) == [None if n == 3 else record(n) for n in range(10)]
    assert set(store.get_many(KEYS)) == {fingerprint(n) for n in range(10) if n != 3}
    with pytest.raises(StoreUnavailable, match=r"^s3: AccessDenied$"):
        store.get_many([key(3)])
