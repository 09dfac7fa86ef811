"""What every ManifestStore does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from embedonce.core import manifest as machine
from embedonce.core.errors import InvalidRequest, StoreUnavailable
from embedonce.core.manifest import Head, Manifest, Published, Totals, announced, arrived
from embedonce.core.rule import Sink, Terms
from embedonce.core.source import Source
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.aws.manifests import SHARDS, DynamoManifests, shard_of
from embedonce.stores.aws.tickets import DynamoTickets
from embedonce.stores.embedded.database import Database
from embedonce.stores.embedded.manifests import EmbeddedManifests
from support import aws
from support.adapters import Manifests
from support.aws import Call, PatchedClients, refused
from support.clock import START, FakeClock
from support.issued import ref, ticket

RULE = "0" * 32
SOURCE = Source("bucket", "in/ä b.pdf", "v1", "0af0", 17, "0055AED6DCD90281E5")


def source(n: int) -> Source:
    return replace(SOURCE, key=f"in/{n}")


def name(n: int) -> str:
    return source(n).manifest_id(RULE)


def manifest(n: int, version: int = 1, **changes: Any) -> Manifest:
    new = announced(name(n), source(n), RULE, Terms("k1", "m"), now=START)
    return replace(new, version=version, **changes)


def test_a_manifest_through_all_its_states(manifests: Manifests) -> None:
    new = manifest(1)
    begun = machine.cut_begins(new, now=START + 1.25, lease=30)
    cut = machine.cut(
        begun,
        terms=Terms("k1", "m", sink=Sink("b", "i")),
        chunks=9,
        totals=Totals(segments=9),
        sha256="ab" * 32,
        cutter="1",
        now=START + 2,
    )
    states = [new, begun, cut, machine.paused(cut, "später", until=START + 9)]
    for chunk in range(9):
        states.append(machine.chunk_done(states[-1], chunk, Totals(misses=1, cost=10**13), now=START + 3))
    assembling = machine.assembly_begins(states[-1], now=START + 4, lease=5)
    states += [assembling, machine.published(assembling, now=START + 5.5)]
    assert manifests.store.get(new.id) is None
    for before, after in enumerate(states):
        assert manifests.store.swap(after, before) is None
        assert manifests.store.get(new.id) == after


def test_a_manifest_that_failed(manifests: Manifests) -> None:
    manifests.store.swap(manifest(1), 0)
    failed = machine.failed(manifest(1), InvalidRequest("nö"), now=START + 3)
    assert manifests.store.swap(failed, 1) is None
    assert manifests.store.get(name(1)) == failed


def test_a_head_through_its_versions(manifests: Manifests) -> None:
    first = arrived(None, SOURCE, name(1))
    assert first is not None
    second = machine.publishing(first, name(1), now=START, lease=30)
    assert second is not None
    third = machine.reaching(second, Sink("b", "i"), 40)
    fourth = machine.stands(third, Published(name(1), "ab" * 32, RULE, "1", "ä.json"), reach=7)
    assert manifests.store.head(SOURCE.place) is None
    for before, after in enumerate((first, second, third, fourth)):
        assert manifests.store.swap_head(after, before) is None
        assert manifests.store.head(SOURCE.place) == after


def test_a_swap_over_another_version_answers_what_stands(manifests: Manifests) -> None:
    standing, head = manifest(1, version=7), Head("p" * 32, 7, name(1), "1")
    manifests.store.swap(standing, 0)
    manifests.store.swap_head(head, 0)
    for over in (0, 6, 8):
        assert manifests.store.swap(manifest(1, version=9), over) == standing
        assert manifests.store.swap_head(replace(head, version=9), over) == head
    assert manifests.store.get(name(1)) == standing
    assert manifests.store.head("p" * 32) == head


def test_a_swap_over_what_is_gone_answers_version_0(manifests: Manifests) -> None:
    wanted, head = manifest(1, version=5), Head("p", 5, name(1), "1")
    assert manifests.store.swap(wanted, 4) == replace(wanted, version=0)
    assert manifests.store.swap_head(head, 4) == replace(head, version=0)
    assert manifests.store.get(name(1)) is None
    assert manifests.store.head("p") is None


def test_heads_and_manifests_of_one_name_are_apart(manifests: Manifests) -> None:
    manifests.store.swap(manifest(1), 0)
    assert manifests.store.head(name(1)) is None
    assert manifests.store.swap_head(Head(name(1), 1, name(2), "1"), 0) is None
    assert manifests.store.get(name(1)) == manifest(1)


def test_what_cannot_be_read_is_none_and_is_not_overwritten_by_what_is_new(manifests: Manifests) -> None:
    head = Head("p", 7, name(1), "1")
    manifests.store.swap(manifest(1, version=7), 0)
    manifests.store.swap_head(head, 0)
    manifests.damage(name(1))
    manifests.damage_head("p")
    assert manifests.store.get(name(1)) is None
    assert manifests.store.head("p") is None
    assert manifests.store.swap(manifest(1), 0) == manifest(1, version=0)
    assert manifests.store.swap_head(replace(head, version=1), 0) == replace(head, version=0)
    assert manifests.store.swap(manifest(1, version=8), 7) is None
    assert manifests.store.swap_head(replace(head, version=8), 7) is None


def test_due_ones_the_longest_overdue_first(manifests: Manifests) -> None:
    for n in range(30):
        manifests.store.swap(manifest(n, due=START + 100 - n), 0)
    manifests.store.swap(manifest(50, due=None), 0)
    manifests.store.swap_head(Head("p", 1, name(50), "1"), 0)
    found = manifests.store.due(START + 100, 100)
    assert found == [name(n) for n in reversed(range(1, 30))]
    assert manifests.store.due(START + 100, 7) == found[:7]
    assert manifests.store.due(START + 71, 7) == []


def test_what_is_due_moves_with_the_manifest(manifests: Manifests) -> None:
    manifests.store.swap(manifest(1, due=START + 10.5), 0)
    manifests.store.swap(manifest(2, due=START + 10), 0)
    manifests.store.swap(manifest(1, version=2, due=START + 20.5), 1)
    manifests.store.swap(manifest(2, version=2, due=None), 1)
    assert manifests.store.due(START + 20, 10) == []
    assert manifests.store.due(START + 20.501, 10) == [name(1)]


def test_a_store_that_is_down_says_so(manifests: Manifests) -> None:
    manifests.down()
    for call in (
        lambda: manifests.store.get(name(1)),
        lambda: manifests.store.swap(manifest(1), 0),
        lambda: manifests.store.head("p"),
        lambda: manifests.store.swap_head(Head("p", 1, name(1), "1"), 0),
        lambda: manifests.store.due(START, 1),
    ):
        with pytest.raises(StoreUnavailable):
            call()


def test_manifests_are_swept_when_they_expire_and_heads_are_not(database: Database, clock: FakeClock) -> None:
    store = EmbeddedManifests(database, clock)
    store.swap(manifest(1), 0)
    store.swap_head(Head("p", 1, name(1), "1"), 0)
    clock.advance(40 * 86_400)
    assert store.due(clock.now(), 10) == []
    store.swap(manifest(2, created=clock.now()), 0)
    assert database.read("SELECT count(*) FROM manifests")[0][0] == 1
    assert store.head("p") is not None


def test_what_is_due_is_found_by_its_index(database: Database) -> None:
    plan = database.read("EXPLAIN QUERY PLAN SELECT k FROM manifests WHERE due < 1 AND e > 2 ORDER BY due")
    assert [row["detail"] for row in plan] == ["SEARCH manifests USING INDEX manifests_by_due (due<?)"]


def test_the_index_has_all_shards_and_none_of_the_tickets(clients: AwsClients) -> None:
    store, tickets = DynamoManifests(clients, aws.JOBS), DynamoTickets(clients, aws.JOBS)
    for n in range(64):
        store.swap(manifest(n, due=START), 0)
        tickets.swap(ticket(n, due=START), 0)
    items = clients.dynamodb().scan(TableName=aws.JOBS, IndexName="due")["Items"]
    ours = {item["ds"]["S"] for item in items if item["k"]["S"].startswith("manifest/")}
    assert ours == set(SHARDS) == {shard_of(name(n)) for n in range(64)}
    assert set(store.due(START + 1, 1000)) == {name(n) for n in range(64)}
    assert set(tickets.due(START + 1, 1000)) == {ref(n) for n in range(64)}


def test_a_shard_that_cannot_be_read_hides_no_other(clients: AwsClients) -> None:
    def query(real: Call, **arguments: Any) -> Any:
        if arguments["ExpressionAttributeValues"][":shard"]["S"] == shard_of(name(1)):
            raise refused("ThrottlingException")
        return real(**arguments)

    store = DynamoManifests(PatchedClients(clients, query=query), aws.JOBS)
    for n in range(20):
        store.swap(manifest(n, due=START), 0)
    others = {name(n) for n in range(20) if shard_of(name(n)) != shard_of(name(1))}
    assert set(store.due(START + 1, 100)) == others


def test_a_write_that_was_sent_twice_is_known_as_ones_own(clients: AwsClients) -> None:
    def put_item(real: Call, **arguments: Any) -> Any:
        real(**arguments)
        return real(**arguments)

    store = DynamoManifests(PatchedClients(clients, put_item=put_item), aws.JOBS)
    head = Head("p", 1, name(1), "1")
    assert store.swap(manifest(1), 0) is None
    assert store.swap_head(head, 0) is None
    assert store.swap(manifest(1), 0) == manifest(1)
    assert store.swap_head(head, 0) == head
