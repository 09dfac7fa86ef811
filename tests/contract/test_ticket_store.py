"""What every TicketStore does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from embedonce.core.errors import StoreUnavailable, UpstreamRejected
from embedonce.core.ticket import (
    Passage,
    Stage,
    TicketRef,
    Webhook,
    announced,
    begin,
    board,
    complete,
    fail,
    hop,
    nudge,
)
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.aws.tickets import SHARDS, DynamoTickets, shard_of
from embedonce.stores.embedded.database import Database
from embedonce.stores.embedded.tickets import EmbeddedTickets
from support import aws
from support.adapters import Tickets
from support.aws import Call, PatchedClients, refused
from support.clock import START, FakeClock
from support.issued import ref, ticket

PASSAGE = Passage(bytes(range(32)), b"\xff" * 32, None, 768, leads=True)


def test_a_ticket_through_all_its_states(tickets: Tickets) -> None:
    new = ticket(1, webhook=Webhook("https://example.org/?ä"), blobs=("0", "1"))
    begun = begin(new, now=START + 1.25, lease=30)
    boarded = board(begun, PASSAGE)
    hopped, _ = hop(boarded, Stage.POLL, now=START + 2)
    nudged = nudge(hopped, now=START + 100)
    completed = complete(nudged, PASSAGE, cost=4_000_000, now=START + 101)
    told, _ = announced(completed, delivered=True, now=START + 102)
    assert tickets.store.get(new.ref) is None
    for before, after in enumerate((new, begun, boarded, hopped, nudged, completed, told)):
        assert after.version == before + 1
        assert tickets.store.swap(after, before) is None
        assert tickets.store.get(new.ref) == after


def test_a_ticket_that_failed(tickets: Tickets) -> None:
    tickets.store.swap(ticket(1), 0)
    failed = fail(ticket(1), UpstreamRejected("nö"), now=START + 3)
    assert tickets.store.swap(failed, 1) is None
    assert tickets.store.get(ref(1)) == failed


def test_a_swap_over_another_version_answers_what_stands(tickets: Tickets) -> None:
    standing = ticket(1, version=7)
    tickets.store.swap(standing, 0)
    for over in (0, 6, 8):
        assert tickets.store.swap(ticket(1, version=9), over) == standing
    assert tickets.store.get(ref(1)) == standing


def test_a_swap_over_what_is_gone_answers_version_0(tickets: Tickets) -> None:
    wanted = ticket(1, version=5)
    assert tickets.store.swap(wanted, 4) == replace(wanted, version=0)
    assert tickets.store.get(ref(1)) is None


def test_the_same_swap_twice_is_written_once(tickets: Tickets) -> None:
    """Equal bytes are no proof of the same writer."""
    assert tickets.store.swap(ticket(1), 0) is None
    assert tickets.store.swap(ticket(1), 0) == ticket(1)


def test_an_owner_finds_only_its_own(tickets: Tickets) -> None:
    tickets.store.swap(ticket(1), 0)
    for other in (TicketRef("k2", ref(1).id), TicketRef("k", f"1/{ref(1).id}"), TicketRef("k1", "1")):
        assert tickets.store.get(other) is None


def test_what_cannot_be_read_is_none_and_is_not_overwritten_by_what_is_new(tickets: Tickets) -> None:
    tickets.store.swap(ticket(1, version=7), 0)
    tickets.damage(ref(1))
    assert tickets.store.get(ref(1)) is None
    assert tickets.store.swap(ticket(1), 0) == ticket(1, version=0)
    assert tickets.store.swap(ticket(1, version=8), 7) is None
    assert tickets.store.get(ref(1)) == ticket(1, version=8)


def test_due_ones_the_longest_overdue_first(tickets: Tickets) -> None:
    for n in range(30):
        tickets.store.swap(ticket(n, due=START + 100 - n), 0)
    tickets.store.swap(ticket(50, due=None), 0)
    found = tickets.store.due(START + 100, 100)
    assert found == [ref(n) for n in reversed(range(1, 30))]
    assert tickets.store.due(START + 100, 7) == found[:7]
    assert tickets.store.due(START + 71, 7) == []


def test_what_is_due_moves_with_the_ticket(tickets: Tickets) -> None:
    tickets.store.swap(ticket(1, due=START + 10.5), 0)
    tickets.store.swap(ticket(2, due=START + 10), 0)
    tickets.store.swap(ticket(1, version=2, due=START + 20.5), 1)
    tickets.store.swap(ticket(2, version=2, due=None), 1)
    assert tickets.store.due(START + 20, 10) == []
    assert tickets.store.due(START + 20.501, 10) == [ref(1)]


def test_a_store_that_is_down_says_so(tickets: Tickets) -> None:
    tickets.down()
    for call in (
        lambda: tickets.store.get(ref(1)),
        lambda: tickets.store.swap(ticket(1), 0),
        lambda: tickets.store.due(START, 1),
    ):
        with pytest.raises(StoreUnavailable):
            call()


def test_expired_rows_are_swept(database: Database, clock: FakeClock) -> None:
    store = EmbeddedTickets(database, clock)
    store.swap(ticket(1, expires=START + 5), 0)
    clock.advance(400)
    assert store.due(START + 400, 10) == []
    store.swap(ticket(2, expires=START + 900), 0)
    assert database.read("SELECT count(*) FROM tickets")[0][0] == 1


def test_what_is_due_is_found_by_its_index(database: Database) -> None:
    plan = database.read("EXPLAIN QUERY PLAN SELECT k FROM tickets WHERE due < 1 AND e > 2 ORDER BY due")
    assert [row["detail"] for row in plan] == ["SEARCH tickets USING INDEX tickets_by_due (due<?)"]


def test_the_index_has_all_shards_and_only_what_is_due(clients: AwsClients) -> None:
    store = DynamoTickets(clients, aws.JOBS)
    for n in range(64):
        store.swap(ticket(n, due=START if n % 2 else None), 0)
    items = clients.dynamodb().scan(TableName=aws.JOBS, IndexName="due")["Items"]
    assert len(items) == 32
    assert {item["ds"]["S"] for item in items} == set(SHARDS) == {shard_of(ref(n)) for n in range(64)}


def test_a_shard_that_cannot_be_read_hides_no_other(clients: AwsClients) -> None:
    def query(real: Call, **arguments: Any) -> Any:
        if arguments["ExpressionAttributeValues"][":shard"]["S"] == shard_of(ref(1)):
            raise refused("ThrottlingException")
        return real(**arguments)

    store = DynamoTickets(PatchedClients(clients, query=query), aws.JOBS)
    for n in range(20):
        store.swap(ticket(n, due=START), 0)
    others = {ref(n) for n in range(20) if shard_of(ref(n)) != shard_of(ref(1))}
    assert set(store.due(START + 1, 100)) == others


def test_a_write_that_was_sent_twice_is_known_as_ones_own(clients: AwsClients) -> None:
    def put_item(real: Call, **arguments: Any) -> Any:
        real(**arguments)
        return real(**arguments)

    store = DynamoTickets(PatchedClients(clients, put_item=put_item), aws.JOBS)
    assert store.swap(ticket(1), 0) is None
    assert store.swap(ticket(1, version=2), 1) is None
    assert store.swap(ticket(1, version=2), 1) == ticket(1, version=2)
