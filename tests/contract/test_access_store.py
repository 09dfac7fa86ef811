"""What every AccessStore does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from embedonce.core.errors import StoreUnavailable
from embedonce.ports import AccessKey, Deployment, KeyLimits
from embedonce.stores.aws.access import DynamoAccess
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.breaker import OPEN_SECONDS, BreakingAccess
from embedonce.stores.embedded import database as module
from embedonce.stores.embedded.access import EmbeddedAccess
from embedonce.stores.embedded.database import Database
from support import aws
from support.adapters import Access, execute
from support.aws import Call, PatchedClients
from support.clock import FakeClock


def access_key(n: int, **changes: Any) -> AccessKey:
    usual = AccessKey(
        id=f"k{n}",
        secret_hash=f"{n:064x}",
        name=f"Schlüssel {n} 🔑",
        namespace="team/ä",
        scopes=frozenset({"embed", "cache:refresh"}),
        isolated=n % 2 == 1,
        created=1000 - n,
    )
    return replace(usual, **changes)


def test_a_key_is_found_by_its_secret_only(access: Access) -> None:
    access.store.add(access_key(1))
    assert access.store.find(access_key(1).secret_hash) == access_key(1)
    assert access.store.find(access_key(2).secret_hash) is None
    assert access.store.find("k1") is None
    assert access.store.find("") is None


def test_a_key_is_found_by_its_id_as_it_is_now(access: Access) -> None:
    access.store.add(access_key(1))
    access.store.add(access_key(2))
    assert access.store.find_by_id("k1") == access_key(1)
    access.store.revoke("k1", 2000)
    assert access.store.find_by_id("k1") == access_key(1, revoked=2000)
    assert access.store.find_by_id("k2") == access_key(2)
    for nobody in ("k3", "", access_key(1).secret_hash, "K1"):
        assert access.store.find_by_id(nobody) is None


def test_a_key_without_scopes_and_one_that_was_revoked(access: Access) -> None:
    bare = access_key(1, scopes=frozenset(), name="")
    gone = access_key(2, revoked=5)
    access.store.add(bare)
    access.store.add(gone)
    assert access.store.find(bare.secret_hash) == bare
    assert access.store.find(gone.secret_hash) == gone


def test_ids_and_secrets_are_unique(access: Access) -> None:
    access.store.add(access_key(1))
    for taken in (access_key(2, id="k1"), access_key(2, secret_hash=access_key(1).secret_hash)):
        with pytest.raises(ValueError, match="exists") as error:
            access.store.add(taken)
        assert taken.secret_hash not in str(error.value)
    assert access.store.list() == [access_key(1)]
    access.store.add(access_key(2))


def test_the_list_is_oldest_first(access: Access) -> None:
    assert access.store.list() == []
    for n in range(103):
        access.store.add(access_key(n))
    assert access.store.list() == [access_key(n) for n in reversed(range(103))]


def test_revoking_twice_keeps_the_first_time(access: Access) -> None:
    access.store.add(access_key(1))
    access.store.add(access_key(2))
    assert access.store.revoke("k1", 2000)
    assert access.store.revoke("k1", 3000)
    revoked = access.store.find(access_key(1).secret_hash)
    assert revoked == access_key(1, revoked=2000)
    assert not revoked.live
    assert access.store.find(access_key(2).secret_hash) == access_key(2)
    assert not access.store.revoke("nobody", 2000)


def test_a_store_that_is_down_says_so(access: Access) -> None:
    access.down()
    for call in (
        lambda: access.store.find("0" * 64),
        lambda: access.store.find_by_id("k1"),
        lambda: access.store.add(access_key(1)),
        access.store.list,
        lambda: access.store.revoke("k1", 1),
        lambda: access.store.limit("k1", KeyLimits()),
        access.store.deployment,
        lambda: access.store.set_deployment(Deployment()),
    ):
        with pytest.raises(StoreUnavailable):
            call()


@pytest.mark.parametrize(
    "limits",
    [KeyLimits(), KeyLimits(2**60, 1, 10**12), KeyLimits(budget=0), KeyLimits(tokens_per_minute=7)],
    ids=str,
)
def test_limits_are_kept_and_replaced_as_a_whole(access: Access, limits: KeyLimits) -> None:
    access.store.add(access_key(1, limits=limits))
    access.store.add(access_key(2))
    assert access.store.find_by_id("k1") == access_key(1, limits=limits)
    other = KeyLimits(budget=5, requests_per_minute=6)
    assert access.store.limit("k1", other)
    assert access.store.find_by_id("k1") == access_key(1, limits=other)
    access.store.revoke("k1", 2000)
    assert access.store.limit("k1", limits)
    assert access.store.find(access_key(1).secret_hash) == access_key(1, limits=limits, revoked=2000)
    assert access.store.list() == [access_key(2), access_key(1, limits=limits, revoked=2000)]
    for nobody in ("k3", ""):
        assert not access.store.limit(nobody, limits)


def test_the_deployment_is_written_over_what_was_seen_only(access: Access) -> None:
    assert access.store.deployment() == Deployment()
    given = Deployment(True, 25 * 10**12, {"all": 1, "model/ä b": 2}, 1_800_000_000)
    assert access.store.set_deployment(given)
    stands = replace(given, version=1)
    assert access.store.deployment() == stands
    for late in (given, Deployment(), replace(given, version=2)):
        assert not access.store.set_deployment(late)
    assert access.store.deployment() == stands
    assert access.store.set_deployment(Deployment(daily=0, version=1))
    assert access.store.deployment() == Deployment(daily=0, version=2)
    assert access.store.set_deployment(Deployment(version=2))
    assert access.store.deployment() == Deployment(version=3)
    assert access.store.list() == [], "it is no key"


def test_keys_of_the_version_before_have_no_limits(
    path: Path, clients: AwsClients, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MIGRATIONS", module.MIGRATIONS[:4])
    Database(path).close()
    monkeypatch.undo()
    secret = access_key(1).secret_hash
    execute(
        path,
        "INSERT INTO access_keys (id, secret_hash, name, namespace, scopes, isolated, created, revoked) "
        "VALUES ('k1', ?, 'n', 's', 'embed', 0, 7, NULL)",
        secret,
    )
    item: Any = {
        "pk": {"S": f"key#{secret}"},
        "sk": {"S": "key"},
        "id": {"S": "k1"},
        "name": {"S": "n"},
        "namespace": {"S": "s"},
        "scopes": {"L": [{"S": "embed"}]},
        "isolated": {"BOOL": False},
        "created": {"N": "7"},
    }
    clients.dynamodb().put_item(TableName=aws.ACCESS, Item=item)
    database = Database(path)
    for store in (EmbeddedAccess(database), DynamoAccess(clients, aws.ACCESS, clock)):
        assert store.find(secret) == AccessKey("k1", secret, "n", "s", frozenset({"embed"}), False, 7)
    database.close()


def test_a_deployment_that_was_sent_twice_is_written(clients: AwsClients, clock: FakeClock) -> None:
    def put_item(real: Call, **arguments: Any) -> Any:
        real(**arguments)
        return real(**arguments)

    store = DynamoAccess(PatchedClients(clients, put_item=put_item), aws.ACCESS, clock)
    assert store.set_deployment(Deployment(paused=True))
    assert store.set_deployment(Deployment(paused=False, version=1))
    assert not store.set_deployment(Deployment(paused=True, version=1))
    assert store.deployment() == Deployment(version=2)


def test_past_the_breaker_keys_are_managed_and_the_deployment_read(access: Access, clock: FakeClock) -> None:
    store = BreakingAccess(access.store, clock)
    store.add(access_key(1))
    assert store.limit("k1", KeyLimits(budget=1))
    assert store.set_deployment(Deployment(paused=True))
    assert store.deployment() == Deployment(paused=True, version=1)
    access.down()
    with pytest.raises(StoreUnavailable):
        store.deployment()
    with pytest.raises(StoreUnavailable, match="a moment ago"):
        store.deployment()
    clock.advance(OPEN_SECONDS)
    for call in (store.deployment, lambda: store.limit("k1", KeyLimits())):
        with pytest.raises(StoreUnavailable) as asked:
            call()
        assert "a moment ago" not in str(asked.value)
