"""Every `ValidatorStore` adapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from embedonce.core.content import Modality
from embedonce.core.errors import StoreUnavailable
from embedonce.core.fingerprint import Namespace
from embedonce.ports import Swap, Validator, ValidatorStore
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.aws.flights import DynamoFlights
from embedonce.stores.aws.validators import DynamoValidators
from embedonce.stores.embedded.database import Database
from embedonce.stores.embedded.validators import EmbeddedValidators
from embedonce.stores.rows import validator_key, validator_text
from support import aws
from support.adapters import execute
from support.clock import START, FakeClock
from support.stored import leading

TEAM = Namespace("team")
URL = bytes(range(32))
VALIDATOR = Validator(
    source=bytes(32),
    etag='"abc"',
    modified=None,
    sha256=b"\1" * 32,
    size=12_345,
    modality=Modality.AUDIO,
    media_type="audio/wav",
    seconds=1.25,
    pages=0,
    expires=int(START) + 100,
)


@dataclass(frozen=True)
class Validators:
    damage: Callable[[bytes], None]
    down: Callable[[], None]
    store: ValidatorStore


@pytest.fixture(params=["embedded", "dynamodb"])
def validators(request: pytest.FixtureRequest, clock: FakeClock) -> Validators:
    if request.param == "embedded":
        path: Path = request.getfixturevalue("path")
        database: Database = request.getfixturevalue("database")
        return Validators(
            lambda key: execute(path, "UPDATE validators SET v = '[1]' WHERE k = ?", key),
            lambda: execute(path, "DROP TABLE validators"),
            EmbeddedValidators(database, clock),
        )
    clients: AwsClients = request.getfixturevalue("clients")

    def damage(key: bytes) -> None:
        clients.dynamodb().update_item(
            TableName=aws.FLIGHTS,
            Key={"fp": {"B": key}},
            UpdateExpression="SET val = :v",
            ExpressionAttributeValues={":v": {"S": "[1]"}},
        )

    return Validators(damage, lambda: aws.drop(clients), DynamoValidators(clients, aws.FLIGHTS, clock))


def test_what_was_put_is_found_and_the_last_writer_wins(validators: Validators) -> None:
    store = validators.store
    assert store.get(TEAM, URL) is None
    store.put(TEAM, URL, VALIDATOR)
    assert store.get(TEAM, URL) == VALIDATOR
    later = replace(
        VALIDATOR, etag=None, modified="Fri, 20 Nov 2026 10:00:00 GMT", modality=Modality.PDF, pages=3
    )
    store.put(TEAM, URL, later)
    assert store.get(TEAM, URL) == later


def test_namespaces_and_urls_are_told_apart(validators: Validators) -> None:
    store = validators.store
    store.put(Namespace("a", "b"), URL, VALIDATOR)
    for other in (
        Namespace("a"),
        Namespace("ab"),
        Namespace("", "ab"),
        Namespace("b", "a"),
        Namespace("a", ""),
    ):
        assert store.get(other, URL) is None
    assert store.get(Namespace("a", "b"), bytes(32)) is None
    assert store.get(Namespace("a", "b", generation=7), URL) == VALIDATOR


def test_expired_ones_are_not_returned(validators: Validators, clock: FakeClock) -> None:
    validators.store.put(TEAM, URL, VALIDATOR)
    clock.advance(99)
    assert validators.store.get(TEAM, URL) == VALIDATOR
    clock.advance(1)
    assert validators.store.get(TEAM, URL) is None


def test_a_damaged_row_is_none(validators: Validators) -> None:
    validators.store.put(TEAM, URL, VALIDATOR)
    validators.damage(validator_key(TEAM, URL))
    assert validators.store.get(TEAM, URL) is None


def test_a_store_that_is_down_says_so(validators: Validators) -> None:
    validators.store.put(TEAM, URL, VALIDATOR)
    validators.down()
    with pytest.raises(StoreUnavailable):
        validators.store.get(TEAM, URL)
    with pytest.raises(StoreUnavailable):
        validators.store.put(TEAM, URL, VALIDATOR)


def test_golden_row() -> None:
    key = validator_key(Namespace("team", "inner", 3), URL)
    assert key.hex() == "dfb6db6d8959e5e23d313d0be0ff3dfff34adf8cd556dde3a24f53b07b918028"
    assert validator_text(VALIDATOR) == (
        f'["{"00" * 32}","\\"abc\\"",null,"{"01" * 32}",12345,"audio","audio/wav",1.25,0]'
    )


def test_expired_rows_are_swept(database: Database, clock: FakeClock) -> None:
    store = EmbeddedValidators(database, clock)
    store.put(TEAM, URL, VALIDATOR)
    clock.advance(500)
    store.put(TEAM, bytes(32), replace(VALIDATOR, expires=int(START) + 900))
    assert database.read("SELECT count(*) FROM validators")[0][0] == 1


def test_flights_and_validators_share_a_table_in_peace(clients: AwsClients, clock: FakeClock) -> None:
    flights = DynamoFlights(clients, aws.FLIGHTS, clock)
    validators = DynamoValidators(clients, aws.FLIGHTS, clock)
    flight = leading(1, expires=START + 50)
    flights.swap_many([Swap(flight, 0)])
    validators.put(TEAM, URL, VALIDATOR)
    assert flights.get_many([flight.fingerprint]) == {flight.fingerprint: flight}
    assert validators.get(TEAM, URL) == VALIDATOR
