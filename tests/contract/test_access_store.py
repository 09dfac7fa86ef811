"""What every AccessStore does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from embedonce.core.errors import StoreUnavailable
from embedonce.ports import AccessKey
from support.adapters import Access


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
    ):
        with pytest.raises(StoreUnavailable):
            call()
