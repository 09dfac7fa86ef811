"""Who may do what, and what one caller can do to another (SECURITY 3, 4, 17; PITFALLS 17, 18)."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from embedonce.access.keys import Scope, hash_of, issue, new_key, well_formed
from embedonce.bootstrap import open_access, open_stores
from embedonce.config import load
from embedonce.core.errors import PermissionDenied, StoreUnavailable, Unauthenticated
from embedonce.http import pages
from embedonce.ports import AccessKey, AccessStore, Deployment
from fakes.openrouter import FakeOpenRouter
from support.clock import FakeClock
from support.gateway import TestGateway, gateway

EMBED = frozenset({"embed"})


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


class Keyring:
    """Issues keys into the gateway's own store."""

    def __init__(self, store: AccessStore) -> None:
        self.store = store

    def __call__(
        self,
        namespace: str = "shared",
        *,
        scopes: frozenset[str] = EMBED,
        isolated: bool = False,
    ) -> tuple[str, AccessKey]:
        key, record = issue("test", namespace=namespace, scopes=scopes, isolated=isolated, now=1)
        self.store.add(record)
        return key, record


@pytest.fixture
def keyring(tmp_path: Path, gate: TestGateway) -> Iterator[Keyring]:
    store, close = open_access(load({"EMBEDONCE_DATA_DIR": str(tmp_path)}), gate.app.clock)
    yield Keyring(store)
    close()


def test_keys_are_recognised_by_their_form() -> None:
    key = new_key()
    assert well_formed(key)
    assert len({new_key() for _ in range(100)}) == 100
    for wrong in ("", "eo_", key[:-1], key + "A", key.replace("eo_", "sk_"), "é" * len(key)):
        assert not well_formed(wrong)
    flipped = "A" if key[10] != "A" else "B"
    assert not well_formed(key[:10] + flipped + key[11:])


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": ""},
        {"authorization": "Bearer "},
        {"authorization": "Bearer nonsense"},
        {"authorization": f"Bearer {new_key()}"},
        {"authorization": f"Basic {new_key()}"},
        {"authorization": "", "x-api-key": new_key()},
        {"authorization": "", "x-api-key": "\u00e9" * 52},
    ],
    ids=["empty", "no key", "malformed", "unknown", "basic", "unknown x-api-key", "not ascii"],
)
def test_without_a_valid_key_nothing_is_answered(
    gate: TestGateway, fake: FakeOpenRouter, headers: dict[str, str]
) -> None:
    answer = gate.embed("x", headers=headers)
    assert answer.status == 401
    assert answer.error["code"] == 401
    assert answer.error["type"] == "authentication_error"
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert fake.calls == 0


def test_both_headers_carry_a_key(gate: TestGateway, keyring: Keyring) -> None:
    key, _ = keyring()
    assert gate.embed("x", headers=bearer(key)).status == 200
    assert gate.embed("x", headers={"authorization": "", "x-api-key": key}).status == 200
    assert gate.embed("x", headers={"authorization": f"bearer  {key} "}).status == 200


KEY_HEADERS = {"openai": "authorization", "segmind": "x-api-key", "google": "x-goog-api-key"}
"""By dialect: where its own clients put the key."""


def presented(dialect: str, key: str) -> dict[str, str]:
    name = KEY_HEADERS[dialect]
    return {"authorization": "", name: f"Bearer {key}" if name == "authorization" else key}


def test_every_route_asks_for_exactly_the_scope_it_declares(gate: TestGateway, keyring: Keyring) -> None:
    """Generated over the route table: a key with every scope but that one is refused, and so are no key and
    a bad one, in the words of the route's own dialect."""
    open_routes = set()
    for route in gate.app.gateway.routes:
        path = re.sub(r"\{.*?\}", "x", route.pattern)
        if route.scope is None:
            open_routes.add(path)
            assert gate.request(route.method, path, headers={"authorization": ""}).status == 200
            continue
        dialect = route.dialect
        for nobody in ("", "nonsense", new_key()):
            headers = presented(dialect.name, nobody)
            unknown = gate.request(route.method, path, b"{}", headers=headers)
            expected = dialect.render_error(Unauthenticated("the API key is not valid"))
            assert unknown.status == expected.status
            assert unknown.status in (400, 401)
            if nobody or dialect.name == "google":
                assert unknown.response.body == expected.body
        others = frozenset(s.value for s in Scope) - {
            s.value for s in (route.scope, route.instead) if s is not None
        }
        lacking, _ = keyring(scopes=others)
        refused = gate.request(route.method, path, b"{}", headers=presented(dialect.name, lacking))
        denied = PermissionDenied(f"this API key lacks the scope {route.scope.value}")
        assert refused.status == 403
        assert refused.response.body == dialect.render_error(denied).body
        having, _ = keyring(scopes=frozenset({route.scope.value}))
        answer = gate.request(route.method, path, b"{}", headers=presented(dialect.name, having))
        assert answer.status not in (401, 403)
        assert b"API key" not in answer.response.body
    page = {"/dashboard", *(f"/dashboard/{name}" for name in pages.FILES)}
    assert open_routes == {"/health", "/openapi.json", *page}


def test_each_dialect_takes_the_key_where_its_clients_put_it(gate: TestGateway, keyring: Keyring) -> None:
    key, _ = keyring()
    wrong = new_key()
    nobody = {"authorization": ""}
    segmind = "/v1/gemini-embedding-2", b'{"input": "x"}'
    google = "/v1beta/models/gemini-embedding-2:embedContent", b'{"content": {"parts": [{"text": "x"}]}}'
    for headers, query, (path, body) in [
        ({"x-api-key": key}, "", segmind),
        ({"x-api-key": "", "authorization": f"Bearer {key}"}, "", segmind),
        ({"x-api-key": key, "authorization": f"Bearer {wrong}"}, "", segmind),
        ({"x-goog-api-key": key}, "", google),
        ({"authorization": f"Bearer {key}"}, "", google),
        ({}, f"?key={key}", google),
        ({"x-goog-api-key": key, "authorization": f"Bearer {wrong}"}, f"?key={wrong}", google),
    ]:
        assert gate.request("POST", path + query, body, {**nobody, **headers}).status == 200
    for headers, query, (path, body), status in [
        ({"x-goog-api-key": key}, f"?key={key}", segmind, 401),
        ({"x-api-key": key}, "", google, 400),
        ({"x-goog-api-key": wrong}, f"?key={key}", google, 400),
    ]:
        assert gate.request("POST", path + query, body, {**nobody, **headers}).status == status


def test_the_store_holds_no_usable_key(tmp_path: Path, gate: TestGateway, keyring: Keyring) -> None:
    key, record = keyring()
    assert gate.embed("x", headers=bearer(key)).status == 200
    assert gate.embed("x", headers=bearer(record.secret_hash)).status == 401
    assert gate.embed("x", headers=bearer(record.id)).status == 401
    for file in tmp_path.iterdir():
        assert key.encode() not in file.read_bytes()
        assert key[3:40].encode() not in file.read_bytes()


class Counting:
    """An access store that counts, and can be made to fail."""

    def __init__(self, *keys: AccessKey) -> None:
        self.keys = {k.secret_hash: k for k in keys}
        self.reads = 0
        self.down = False

    def find(self, secret_hash: str) -> AccessKey | None:
        self.reads += 1
        if self.down:
            raise StoreUnavailable("down")
        return self.keys.get(secret_hash)

    def deployment(self) -> Deployment:
        if self.down:
            raise StoreUnavailable("down")
        return Deployment()


def counting_gateway(folder: Path, fake: FakeOpenRouter, access: Counting, clock: FakeClock) -> Any:
    stores = open_stores(load({"EMBEDONCE_DATA_DIR": str(folder)}), clock)
    any_access: Any = access
    return gateway(
        folder,
        fake,
        clock=clock,
        stores=replace(stores, access=any_access),
    )


def test_malformed_keys_cost_no_store_read_and_good_ones_one_a_minute(
    tmp_path: Path, fake: FakeOpenRouter
) -> None:
    key, record = issue("k", namespace="shared", scopes=EMBED, isolated=False, now=1)
    access, clock = Counting(record), FakeClock()
    with counting_gateway(tmp_path, fake, access, clock) as gate:
        for _ in range(5):
            assert gate.embed("x", headers=bearer("eo_" + "A" * 49)).status == 401
        assert access.reads == 0
        for _ in range(5):
            assert gate.embed("x", headers=bearer(key)).status == 200
        assert access.reads == 1
        unknown = new_key()
        for _ in range(5):
            assert gate.embed("x", headers=bearer(unknown)).status == 401
        assert access.reads == 2
        clock.advance(61)
        access.keys[record.secret_hash] = AccessKey(
            record.id, record.secret_hash, "k", "shared", EMBED, False, 1, revoked=2
        )
        assert gate.embed("x", headers=bearer(key)).status == 401


def test_verified_keys_go_on_for_ten_minutes_when_the_store_fails(
    tmp_path: Path, fake: FakeOpenRouter
) -> None:
    key, record = issue("k", namespace="shared", scopes=EMBED, isolated=False, now=1)
    access, clock = Counting(record), FakeClock()
    with counting_gateway(tmp_path, fake, access, clock) as gate:
        assert gate.embed("x", headers=bearer(key)).status == 200
        access.down = True
        clock.advance(599)
        assert gate.embed("x", headers=bearer(key)).status == 200
        stranger = gate.embed("x", headers=bearer(new_key()))
        assert stranger.status == 503
        assert int(stranger.headers["Retry-After"]) >= 1
        clock.advance(2)
        assert gate.embed("x", headers=bearer(key)).status == 503


def test_namespaces_share_and_isolated_keys_do_not(
    gate: TestGateway, fake: FakeOpenRouter, keyring: Keyring
) -> None:
    a1, _ = keyring("team-a")
    a2, _ = keyring("team-a")
    b, _ = keyring("team-b")
    alone, record = keyring(isolated=True)
    assert record.namespace != "shared"
    caches = [gate.embed("secret", headers=bearer(k)).headers["X-Cache"] for k in (a1, a2, b, alone, alone)]
    assert caches == ["MISS", "HIT", "MISS", "MISS", "HIT"]
    assert fake.calls == 3


@pytest.mark.parametrize("name", ["team-a", "team-a/", "/team-a", "../team-a", "team-a\x00", "a", ""])
def test_a_requested_namespace_never_reaches_another_keys(
    gate: TestGateway, keyring: Keyring, name: str
) -> None:
    victim, _ = keyring("team-a")
    attacker, _ = keyring("team-b")
    gate.embed("secret", headers=bearer(victim))
    assert (
        gate.embed("secret", headers=bearer(attacker), cache={"namespace": name}).headers["X-Cache"] == "MISS"
    )


HOSTILE: list[dict[str, Any]] = [
    {"headers": {"cache-control": "no-cache"}},
    {"headers": {"cache-control": "no-store"}},
    {"headers": {"cache-control": "max-age=0"}},
    {"headers": {"cache-control": "no-cache, no-store, max-age=0"}},
    {"headers": {"x-openrouter-cache": "false"}},
    {"headers": {"x-openrouter-cache-clear": "true"}},
    {"headers": {"x-openrouter-cache-ttl": "0"}},
    {"cache": {"no-cache": True}},
    {"headers": {"cache-control": "max-age=" + "9" * 5000}},
    {"headers": {"x-openrouter-cache-ttl": "9" * 5000}},
    {"cache": {"no-store": True, "ttl": 0, "s-maxage": 0}},
]


@pytest.mark.parametrize("controls", HOSTILE, ids=str)
def test_cache_controls_act_on_the_caller_alone(
    tmp_path: Path, gate: TestGateway, fake: FakeOpenRouter, keyring: Keyring, controls: dict[str, Any]
) -> None:
    victim, _ = keyring()
    attacker, _ = keyring()
    gate.app.clock.sleep(0)
    before = gate.embed("popular", headers=bearer(victim), dimensions=128).vectors
    row = stored(tmp_path)
    fake.next("rotated_space")
    headers = {**bearer(attacker), **controls.get("headers", {})}
    body = {k: v for k, v in controls.items() if k != "headers"}
    assert gate.embed("popular", headers=headers, dimensions=128, **body).status == 200
    after = gate.embed("popular", headers=bearer(victim), dimensions=128)
    assert after.headers["X-Cache"] == "HIT"
    assert after.vectors == before
    assert stored(tmp_path) == row


def stored(folder: Path) -> list[Any]:
    connection = sqlite3.connect(folder / "embedonce.sqlite3")
    rows = connection.execute("SELECT * FROM vectors").fetchall()
    connection.close()
    return rows


@pytest.mark.parametrize(
    "headers", [{"cache-control": "no-cache"}, {"x-openrouter-cache-clear": "true"}], ids=str
)
def test_the_scope_for_it_replaces_an_entry(
    gate: TestGateway, fake: FakeOpenRouter, keyring: Keyring, headers: dict[str, str]
) -> None:
    admin, _ = keyring(scopes=frozenset({"embed", "cache:refresh"}))
    reader, _ = keyring()
    gate.embed("x", headers=bearer(reader), dimensions=128)
    fake.next("rotated_space")
    fresh = gate.embed("x", headers={**bearer(admin), **headers}, dimensions=128)
    assert fresh.headers["X-Cache"] == "MISS"
    assert fresh.vectors != [fake.vector_for("x", 128)]
    assert gate.embed("x", headers=bearer(reader), dimensions=128).vectors == fresh.vectors


def test_no_cache_without_the_scope_answers_fresh_and_replaces_nothing(
    gate: TestGateway, fake: FakeOpenRouter, keyring: Keyring
) -> None:
    reader, _ = keyring()
    first = gate.embed("x", headers=bearer(reader), dimensions=128)
    fake.next("rotated_space")
    fresh = gate.embed("x", headers={**bearer(reader), "cache-control": "no-cache"}, dimensions=128)
    assert fresh.vectors != first.vectors
    assert "stored=?0" in fresh.headers["Cache-Status"]
    gate.app.clock.sleep(120)
    same = gate.embed("x", headers={**bearer(reader), "cache-control": "max-age=0"}, dimensions=128)
    assert "stored=?0" in same.headers["Cache-Status"]


def test_ages_are_bounded_for_lists_too(tmp_path: Path, fake: FakeOpenRouter) -> None:
    clock = FakeClock()
    with gateway(tmp_path, fake, clock=clock) as gate:
        gate.embed(["a", "b"], dimensions=128)
        clock.advance(100)
        young = {"cache-control": "max-age=99"}
        assert gate.embed(
            ["a", "b"], dimensions=128, headers={"cache-control": "max-age=100"}
        ).detail.startswith("hits=2")
        assert gate.embed(["a", "b"], dimensions=128, headers=young).headers["X-Cache"] == "MISS"
        assert gate.embed(["a", "b"], dimensions=128, cache={"ttl": 50}).headers["X-Cache"] == "MISS"


def test_no_store_stores_nothing(gate: TestGateway, fake: FakeOpenRouter) -> None:
    private = {"cache-control": "no-store"}
    for _ in range(2):
        assert gate.embed("x", headers=private).headers["X-Cache"] == "MISS"
    assert gate.embed("x").headers["X-Cache"] == "MISS"
    assert gate.embed("x", headers=private).headers["X-Cache"] == "HIT"
    assert fake.calls == 3


def test_only_if_cached_never_buys(gate: TestGateway, fake: FakeOpenRouter) -> None:
    missing = gate.embed("x", headers={"cache-control": "only-if-cached"})
    assert missing.status == 504
    assert missing.headers["x-should-retry"] == "false"
    assert fake.calls == 0


def test_vectors_expire(tmp_path: Path, fake: FakeOpenRouter) -> None:
    clock = FakeClock()
    with gateway(tmp_path, fake, clock=clock, vector_ttl_days=1) as gate:
        gate.embed("x")
        clock.advance(86_399)
        assert gate.embed("x").headers["X-Cache"] == "HIT"
        clock.advance(2)
        assert gate.embed("x").headers["X-Cache"] == "MISS"
        assert gate.embed("x").headers["X-Cache"] == "HIT"


def test_a_hash_is_no_key() -> None:
    assert not well_formed(hash_of(new_key()))
