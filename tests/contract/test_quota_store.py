"""What every QuotaStore does."""

from __future__ import annotations

from typing import Any

import pytest

from embedonce.core.errors import StoreUnavailable
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.aws.quotas import DynamoQuotas
from embedonce.stores.embedded.database import Database
from embedonce.stores.embedded.quotas import EmbeddedQuotas
from support import aws
from support.adapters import Quotas
from support.aws import Call, PatchedClients
from support.clock import START, FakeClock

SOON = START + 100


def test_a_sum_stays_within_its_limit(quotas: Quotas) -> None:
    def take(amount: int, limit: int = 100) -> bool:
        return quotas.store.take("uploads/k1", amount, limit=limit, expires=SOON)

    assert not take(101)
    assert take(60)
    assert not take(41)
    assert take(40)
    assert not take(1)
    assert take(0)
    assert take(2**40, 2**41)
    assert not take(2**41, 2**41)


def test_names_are_apart(quotas: Quotas) -> None:
    assert quotas.store.take("a", 1, limit=1, expires=SOON)
    assert quotas.store.take("ä/b", 1, limit=1, expires=SOON)
    assert not quotas.store.take("a", 1, limit=1, expires=SOON)


def test_it_is_forgotten_when_the_first_take_said(quotas: Quotas, clock: FakeClock) -> None:
    def take(expires: float) -> bool:
        return quotas.store.take("a", 1, limit=2, expires=expires)

    assert take(SOON)
    assert take(SOON + 500)
    clock.advance(99)
    assert not take(SOON + 500)
    clock.advance(1)
    assert take(SOON + 200)
    assert take(SOON + 900)
    assert not take(SOON + 900)
    clock.advance(200)
    assert take(SOON + 900)


def test_a_store_that_is_down_says_so(quotas: Quotas) -> None:
    quotas.down()
    with pytest.raises(StoreUnavailable):
        quotas.store.take("a", 1, limit=2, expires=SOON)


def test_expired_rows_are_swept(database: Database, clock: FakeClock) -> None:
    store = EmbeddedQuotas(database, clock)
    store.take("a", 1, limit=1, expires=SOON)
    clock.advance(400)
    store.take("b", 1, limit=1, expires=START + 900)
    assert [row["name"] for row in database.read("SELECT name FROM quotas")] == ["b"]


def test_sent_twice_it_counts_once(clients: AwsClients, clock: FakeClock) -> None:
    """botocore sends again where the answer was lost."""

    def update_item(real: Call, **arguments: Any) -> Any:
        real(**arguments)
        return real(**arguments)

    twice = DynamoQuotas(PatchedClients(clients, update_item=update_item), aws.JOBS, clock)
    assert twice.take("a", 40, limit=100, expires=SOON)
    assert twice.take("a", 60, limit=100, expires=SOON)
    once = DynamoQuotas(clients, aws.JOBS, clock)
    assert not once.take("a", 1, limit=100, expires=SOON)
    clock.advance(100)
    assert twice.take("a", 40, limit=100, expires=SOON + 100)
    assert once.take("a", 60, limit=100, expires=SOON)


def test_of_those_who_find_it_expired_one_begins_anew(clients: AwsClients, clock: FakeClock) -> None:
    once = DynamoQuotas(clients, aws.JOBS, clock)
    once.take("a", 10, limit=10, expires=SOON)
    clock.advance(100)

    def update_item(real: Call, **arguments: Any) -> Any:
        if ":seen" in arguments["ExpressionAttributeValues"]:
            once.take("a", 6, limit=10, expires=SOON + 100)
        return real(**arguments)

    late = DynamoQuotas(PatchedClients(clients, update_item=update_item), aws.JOBS, clock)
    assert not late.take("a", 5, limit=10, expires=SOON + 100)
    assert once.take("a", 4, limit=10, expires=SOON + 100)


def test_what_is_given_back_can_be_taken_again(quotas: Quotas) -> None:
    assert quotas.store.total("a") == 0
    assert quotas.store.take("a", 100, limit=100, expires=SOON)
    quotas.store.give("a", 30)
    assert quotas.store.total("a") == 70
    assert not quotas.store.take("a", 31, limit=100, expires=SOON)
    assert quotas.store.take("a", 30, limit=100, expires=SOON)
    assert quotas.store.total("a") == 100
    quotas.store.give("a", 0)
    assert quotas.store.total("a") == 100
    quotas.store.give("a", 100)
    assert quotas.store.total("a") == 0


def test_more_than_there_is_cannot_be_given(quotas: Quotas) -> None:
    quotas.store.give("a", 1)
    assert quotas.store.take("a", 5, limit=5, expires=SOON)
    quotas.store.give("a", 6)
    assert quotas.store.total("a") == 5
    assert not quotas.store.take("a", 1, limit=5, expires=SOON)


def test_a_forgotten_sum_stays_forgotten(quotas: Quotas, clock: FakeClock) -> None:
    assert quotas.store.take("a", 5, limit=5, expires=SOON)
    clock.advance(100)
    assert quotas.store.total("a") == 0
    quotas.store.give("a", 2)
    assert quotas.store.total("a") == 0
    assert quotas.store.take("a", 5, limit=5, expires=SOON + 100)
    assert quotas.store.total("a") == 5


def test_a_store_that_is_down_gives_nothing(quotas: Quotas) -> None:
    quotas.down()
    with pytest.raises(StoreUnavailable):
        quotas.store.give("a", 1)
    with pytest.raises(StoreUnavailable):
        quotas.store.total("a")


def test_a_take_whose_answer_was_lost_counts_once_although_something_was_given(
    clients: AwsClients, clock: FakeClock
) -> None:
    once = DynamoQuotas(clients, aws.JOBS, clock)
    once.take("a", 10, limit=100, expires=SOON)

    def update_item(real: Call, **arguments: Any) -> Any:
        real(**arguments)
        once.give("a", 10)
        return real(**arguments)

    twice = DynamoQuotas(PatchedClients(clients, update_item=update_item), aws.JOBS, clock)
    assert twice.take("a", 40, limit=100, expires=SOON)
    assert once.total("a") == 40
