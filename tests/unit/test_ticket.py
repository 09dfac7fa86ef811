"""The ticket's state machine, without any store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from embedonce.core import ticket as machine
from embedonce.core import ticketrow
from embedonce.core.errors import InvalidRequest, UpstreamRejected
from embedonce.core.ticket import Completed, Failed, Open, Passage, Stage, Ticket, TicketRef, Webhook

NOW = 1_800_000_000.0
REF = TicketRef("key_1", "a" * 32)
PASSAGE = Passage(b"f" * 32, b"f" * 32, 3072, 768)


def issued(**changes: object) -> Ticket:
    ticket = machine.issue(REF, model="m", job="{}", now=NOW, patience=600)
    return replace(ticket, **changes)  # type: ignore[arg-type]


def test_a_key_names_owner_and_ticket() -> None:
    assert TicketRef.of(REF.key) == REF
    for wrong in ("", "a", "/a", "a/"):
        with pytest.raises(ValueError, match="no ticket"):
            TicketRef.of(wrong)


def test_every_change_is_a_new_version() -> None:
    ticket = issued()
    begun = machine.begin(ticket, now=NOW, lease=10)
    assert begun.version > ticket.version
    assert machine.board(begun, PASSAGE).version > begun.version
    assert machine.hop(begun, Stage.POLL, now=NOW)[0].version > begun.version
    assert machine.nudge(begun, now=NOW).version > begun.version
    assert machine.complete(begun, PASSAGE, cost=0, now=NOW).version > begun.version
    assert machine.fail(begun, InvalidRequest("no"), now=NOW).version > begun.version


def test_the_wait_ends_when_the_first_worker_begins() -> None:
    begun = machine.begin(issued(), now=NOW + 5, lease=10)
    again = machine.begin(begun, now=NOW + 50, lease=10)
    assert again.state == Open(NOW + 5)
    done = machine.complete(again, PASSAGE, cost=7, now=NOW + 60)
    assert done.state == Completed(NOW + 60, False, 0, NOW + 5)


def test_who_leads_pays() -> None:
    done = machine.complete(issued(), machine.leading(PASSAGE), cost=7, now=NOW + 60)
    assert done.state == Completed(NOW + 60, True, 7, NOW + 60)


def test_results_are_kept_for_an_hour_from_completion() -> None:
    done = machine.complete(issued(), PASSAGE, cost=0, now=NOW + 500)
    assert done.live(NOW + 500 + 3599.9)
    assert not done.live(NOW + 500 + 3600)
    failed = machine.fail(issued(), UpstreamRejected("no"), now=NOW + 500)
    assert failed.state == Failed(NOW + 500, "upstream_rejected", "no", NOW + 500)
    assert not failed.live(NOW + 500 + 3600)


def test_a_settled_ticket_keeps_no_input_and_is_not_due() -> None:
    done = machine.complete(issued(blobs=("0", "job")), PASSAGE, cost=0, now=NOW)
    assert (done.job, done.blobs, done.due) == (None, (), None)


def test_hops_come_further_apart_and_end_at_the_deadline() -> None:
    ticket, pauses = issued(), []
    for _ in range(12):
        ticket, pause = machine.hop(ticket, Stage.POLL, now=NOW)
        pauses.append(pause)
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (1.0, machine.LONGEST_HOP_SECONDS)
    assert machine.hop(ticket, Stage.WORK, now=NOW, until=NOW + 5000)[1] == 600
    assert machine.hop(ticket, Stage.WORK, now=NOW, until=NOW - 1)[1] == 0
    assert ticket.due == NOW + pauses[-1] + machine.STALL_SECONDS


def test_nudges_are_few_over_an_hour_and_the_deadline_is_not_missed() -> None:
    ticket, now, nudges = issued(deadline=NOW + 3600), NOW, 0
    while now < NOW + 3600:
        now += 60
        if ticket.due is not None and now >= ticket.due and now < ticket.deadline:
            ticket, nudges = machine.nudge(ticket, now=now), nudges + 1
    assert nudges <= 6
    assert ticket.due is not None
    assert ticket.due <= ticket.deadline + machine.STALL_SECONDS


def test_a_webhook_is_tried_so_often_and_then_given_up() -> None:
    ticket = machine.complete(issued(webhook=Webhook("https://a.example/")), PASSAGE, cost=0, now=NOW)
    assert ticket.announces
    assert ticket.due is not None
    pauses = []
    for _ in range(len(machine.WEBHOOK_PAUSES) + 1):
        claimed = machine.announcing(ticket, now=NOW)
        assert not claimed.announces_at(NOW), "a doubled message makes no second attempt"
        ticket, pause = machine.announced(claimed, delivered=False, now=NOW)
        pauses.append(pause)
    assert not ticket.announces
    assert pauses == [*machine.WEBHOOK_PAUSES, None]
    assert sum(machine.WEBHOOK_PAUSES) < machine.RETENTION_SECONDS
    assert ticket.due is None


def test_an_attempt_that_was_not_made_does_not_count() -> None:
    ticket = machine.complete(issued(webhook=Webhook("https://a.example/")), PASSAGE, cost=0, now=NOW)
    later = machine.postponed(machine.announcing(ticket, now=NOW), now=NOW)
    assert later.webhook is not None
    assert later.webhook.attempts == 0
    assert later.announces_at(NOW + machine.WEBHOOK_PAUSES[0])


def test_a_delivered_webhook_is_over() -> None:
    ticket = machine.complete(issued(webhook=Webhook("https://a.example/")), PASSAGE, cost=0, now=NOW)
    done, pause = machine.announced(machine.announcing(ticket, now=NOW), delivered=True, now=NOW)
    assert (done.announces, done.due, pause) == (False, None, None)


@pytest.mark.parametrize(
    "ticket",
    [
        issued(),
        issued(blobs=("0", "job"), webhook=Webhook("https://a.example/", 2), job=None),
        machine.board(machine.begin(issued(), now=NOW, lease=1), machine.leading(PASSAGE)),
        machine.complete(issued(), replace(PASSAGE, dimensions=None, key_dimensions=None), cost=1, now=NOW),
        machine.fail(issued(), UpstreamRejected("né"), now=NOW),
    ],
)
def test_rows_survive_every_store(ticket: Ticket) -> None:
    assert ticketrow.decode(REF, ticket.version, ticketrow.encode(ticket)) == ticket


@pytest.mark.parametrize("text", ["{}", '{"state":["flying"]}', "[]", "7"])
def test_rows_of_another_shape_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        ticketrow.decode(REF, 1, text)


def test_an_attempt_sets_the_nudges_back() -> None:
    """Else the janitor, after some attempts that died, comes again when the ticket has expired."""
    ticket = machine.complete(issued(webhook=Webhook("https://a.example/")), PASSAGE, cost=0, now=NOW)
    for _ in machine.WEBHOOK_PAUSES:
        assert ticket.due is not None
        ticket = machine.nudge(ticket, now=ticket.due)
        assert ticket.due is not None
        ticket = machine.announcing(ticket, now=ticket.due)
    assert ticket.due is not None
    nudged = machine.nudge(ticket, now=ticket.due)
    assert nudged.due == ticket.due + 2 * machine.STALL_SECONDS
    assert machine.nudge(machine.postponed(nudged, now=NOW), now=NOW).due == NOW + 2 * machine.STALL_SECONDS
