"""What every UsageStore does."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from embedonce.core import usage
from embedonce.core.errors import StoreUnavailable
from embedonce.stores.aws.calls import ONCE_ATTEMPTS
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.aws.quotas import DynamoQuotas
from embedonce.stores.aws.usage import EMPTY, DynamoUsage
from embedonce.stores.embedded.database import Database
from embedonce.stores.embedded.usage import EmbeddedUsage
from support import aws
from support.adapters import Usage
from support.aws import Call, PatchedClients, in_turn, refused
from support.clock import START, FakeClock

DAY = "20270115"
"""Of `START`."""
NEXT = "20270116"
ALWAYS = ("00010101", "99991231")


def test_what_was_added_is_read_by_day(usage_store: Usage) -> None:
    store = usage_store.store
    assert store.read("k1", *ALWAYS) == {}
    store.add("k1", NEXT, {usage.REQUESTS: 1})
    store.add("k1", DAY, {usage.REQUESTS: 2, usage.SETTLED: 40_000_000_000_000})
    store.add("k1", DAY, {usage.REQUESTS: 3, usage.UNKNOWN: 5, "tokens_text": 7})
    store.add("k2", DAY, {usage.REQUESTS: 100})
    store.add("upstream/ä b", DAY, {"le250": 1})
    first = {
        usage.REQUESTS: 5,
        usage.SETTLED: 40_000_000_000_000,
        usage.UNKNOWN: 5,
        "tokens_text": 7,
    }
    assert list(store.read("k1", *ALWAYS).items()) == [(DAY, first), (NEXT, {usage.REQUESTS: 1})]
    assert store.read("upstream/ä b", *ALWAYS) == {DAY: {"le250": 1}}


def test_a_range_of_days_is_inclusive(usage_store: Usage) -> None:
    for day in ("20261231", "20270101", "20270131", "20270201"):
        usage_store.store.add("k1", day, {usage.REQUESTS: 1})
    assert list(usage_store.store.read("k1", "20270101", "20270131")) == ["20270101", "20270131"]
    assert list(usage_store.store.read("k1", "20270201", "20270201")) == ["20270201"]
    assert usage_store.store.read("k1", "20270102", "20270130") == {}


def test_what_is_given_back_counts_down_and_is_gone_at_zero(usage_store: Usage) -> None:
    reserved = usage.reserved_until(usage.lapse_after(START))
    usage_store.store.add("k1", DAY, {reserved: 50, usage.SETTLED: 1})
    usage_store.store.add("k1", DAY, {reserved: -20})
    assert usage_store.store.read("k1", DAY, DAY) == {DAY: {reserved: 30, usage.SETTLED: 1}}
    usage_store.store.add("k1", DAY, {reserved: -30, usage.SETTLED: 0})
    assert usage_store.store.read("k1", DAY, DAY) == {DAY: {usage.SETTLED: 1}}
    usage_store.store.add("k1", DAY, {reserved: -5, usage.SETTLED: -1})
    assert usage_store.store.read("k1", DAY, DAY) == {DAY: {reserved: -5}}
    usage_store.store.add("k1", DAY, {reserved: 5})
    assert usage_store.store.read("k1", DAY, DAY) == {}, "a day without counters"


def test_nothing_to_add_is_no_call(usage_store: Usage) -> None:
    usage_store.down()
    usage_store.store.add("k1", DAY, {})
    usage_store.store.add("k1", DAY, {usage.REQUESTS: 0})


def test_one_call_takes_all_counters_there_are_and_names_that_are_keys(usage_store: Usage) -> None:
    counts = {f"name{n}": n + 1 for n in range(60)} | {"owner": 1, "day": 2, "e": 3, "n_e": 4, "a.b-c": 5}
    for _ in range(2):
        usage_store.store.add("k1", DAY, counts)
    assert usage_store.store.read("k1", DAY, DAY) == {DAY: {name: 2 * n for name, n in counts.items()}}


def test_a_store_that_is_down_says_so(usage_store: Usage) -> None:
    usage_store.down()
    with pytest.raises(StoreUnavailable):
        usage_store.store.add("k1", DAY, {usage.REQUESTS: 1})
    with pytest.raises(StoreUnavailable):
        usage_store.store.read("k1", DAY, DAY)


def test_rows_go_after_four_hundred_days(database: Database, clock: FakeClock) -> None:
    store = EmbeddedUsage(database, clock)
    store.add("k1", DAY, {usage.REQUESTS: 1})
    store.add("k1", NEXT, {usage.REQUESTS: 1})
    clock.advance(400 * 86_400)
    store.add("k2", "20280219", {usage.REQUESTS: 1})
    assert list(store.read("k1", *ALWAYS)) == [DAY, NEXT]
    clock.advance(86_400)
    store.add("k2", "20280220", {usage.REQUESTS: 1})
    assert list(store.read("k1", *ALWAYS)) == [NEXT]
    assert list(store.read("k2", *ALWAYS)) == ["20280219", "20280220"]


ENDPOINT = "https://dynamodb.example"


def only_once(clients: AwsClients, update_item: Call) -> AwsClients:
    def again(real: Call, **_: Any) -> Any:
        raise AssertionError("by the client that sends again")

    patched = PatchedClients(clients, update_item=again)
    once = PatchedClients(clients, update_item=update_item)
    patched.dynamodb_once = once.dynamodb_once  # type: ignore[method-assign]
    return patched


def calls_of_an_add(clients: AwsClients, clock: FakeClock, *outcomes: Any) -> tuple[int, int | None]:
    """How often it was sent, and what is counted then; None: it raised."""
    sent: list[None] = []
    fail = in_turn(*outcomes)

    def update_item(real: Call, **arguments: Any) -> Any:
        sent.append(None)
        return fail(real, **arguments)

    store = DynamoUsage(only_once(clients, update_item), aws.USAGE, clock)
    try:
        store.add("k1", DAY, {usage.REQUESTS: 1})
    except StoreUnavailable:
        return len(sent), None
    return len(sent), store.read("k1", DAY, DAY)[DAY][usage.REQUESTS]


@pytest.mark.parametrize(
    "error",
    [
        *(refused(c) for c in ("ThrottlingException", "ProvisionedThroughputExceededException")),
        *(refused("RequestLimitExceeded"), ConnectTimeoutError(endpoint_url=ENDPOINT)),
        EndpointConnectionError(endpoint_url=ENDPOINT),
    ],
    ids=str,
)
def test_what_certainly_was_not_done_is_sent_again(
    clients: AwsClients, clock: FakeClock, error: Exception
) -> None:
    assert calls_of_an_add(clients, clock, error, error) == (ONCE_ATTEMPTS, 1)
    assert len(clock.sleeps) == ONCE_ATTEMPTS - 1
    assert calls_of_an_add(clients, clock, *[error] * ONCE_ATTEMPTS) == (ONCE_ATTEMPTS, None)


@pytest.mark.parametrize(
    "error",
    [
        *(refused(code) for code in ("InternalServerError", "ServiceUnavailable", "500", "AccessDenied")),
        ReadTimeoutError(endpoint_url=ENDPOINT),
        ConnectionClosedError(endpoint_url=ENDPOINT),
    ],
    ids=str,
)
def test_what_may_have_been_done_is_not_sent_again(
    clients: AwsClients, clock: FakeClock, error: Exception
) -> None:
    assert calls_of_an_add(clients, clock, error) == (1, None)
    quotas = DynamoQuotas(clients, aws.JOBS, clock)
    quotas.take("a", 5, limit=9, expires=START + 100)
    failing = DynamoQuotas(only_once(clients, in_turn(error)), aws.JOBS, clock)
    with pytest.raises(StoreUnavailable):
        failing.give("a", 2)
    assert quotas.total("a") == 5
    failing.give("a", 2)
    assert quotas.total("a") == 3


def test_botocore_sends_once_what_may_not_be_sent_twice(clients: AwsClients) -> None:
    attempts: list[str] = []

    def hang_up(**_: Any) -> Any:
        attempts.append("sent")
        raise ConnectionClosedError(endpoint_url=ENDPOINT)

    for client, most in ((clients.dynamodb_once(), 1), (clients.dynamodb(), 2)):
        attempts.clear()
        handler = f"before-send.dynamodb.{'ListTables'}"
        client.meta.events.register_first(handler, hang_up)
        with pytest.raises(ConnectionClosedError):
            client.list_tables()
        assert len(attempts) == most
        client.meta.events.unregister(handler, hang_up)


def test_days_come_in_pages(clients: AwsClients, clock: FakeClock) -> None:
    consistent: list[bool] = []

    def query(real: Call, **arguments: Any) -> Any:
        consistent.append(arguments["ConsistentRead"])
        return real(**arguments, Limit=2)

    store = DynamoUsage(PatchedClients(clients, query=query), aws.USAGE, clock)
    days = [f"202701{n:02}" for n in range(1, 8)]
    for day in reversed(days):
        store.add("k1", day, {usage.REQUESTS: 1})
    assert list(store.read("k1", *ALWAYS)) == days
    assert len(consistent) >= 4
    assert all(consistent)


def test_counters_that_ended_at_zero_do_not_make_a_row_dear(clients: AwsClients, clock: FakeClock) -> None:
    store = DynamoUsage(clients, aws.USAGE, clock)
    for n in range(EMPTY + 5):
        store.add("k1", DAY, {f"r{n}": 5, usage.REQUESTS: 1})
        store.add("k1", DAY, {f"r{n}": -5})
    [item] = clients.dynamodb().scan(TableName=aws.USAGE)["Items"]
    assert len(item) < EMPTY
    assert store.read("k1", DAY, DAY) == {DAY: {usage.REQUESTS: EMPTY + 5}}


def test_a_counter_that_is_used_again_meanwhile_is_not_removed(clients: AwsClients, clock: FakeClock) -> None:
    store = DynamoUsage(clients, aws.USAGE, clock)

    def update_item(real: Call, **arguments: Any) -> Any:
        if arguments["UpdateExpression"].startswith("REMOVE"):
            store.add("k1", DAY, {"r0": 9})
        return real(**arguments)

    late = DynamoUsage(PatchedClients(clients, update_item=update_item), aws.USAGE, clock)
    names = [f"r{n}" for n in range(EMPTY)]
    late.add("k1", DAY, dict.fromkeys(names, 5))
    late.add("k1", DAY, dict.fromkeys(names, -5))
    assert late.read("k1", DAY, DAY) == {DAY: {"r0": 9}}
