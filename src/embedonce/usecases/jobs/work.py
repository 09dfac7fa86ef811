"""The worker: takes a ticket to its vector, or to a flight that will have it.

It may die at any line. What it had written by then is all that the next one knows, so every step is written
before the one that depends on it, and money is spent in exactly one place (`purchase`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import assert_never

from embedonce.access.authenticate import Authenticator, Caller
from embedonce.access.keys import Scope
from embedonce.accounting.rates import Rates
from embedonce.core import job as jobs
from embedonce.core import ticket as machine
from embedonce.core.catalog import Model, estimated_tokens
from embedonce.core.content import RemoteMedia
from embedonce.core.deadline import Deadline
from embedonce.core.errors import (
    DeadlineExceeded,
    EmbedonceError,
    InvalidRequest,
    NotFound,
    StoreUnavailable,
)
from embedonce.core.fingerprint import Namespace
from embedonce.core.flight import FIRST_POLL_SECONDS, BackOff, Follow, Landed, Lead, Share, Take
from embedonce.core.job import Job
from embedonce.core.plan import Item
from embedonce.core.record import StoredVector
from embedonce.core.ticket import Passage, Stage, Ticket, TicketRef
from embedonce.ports import Clock, Telemetry, VectorStore
from embedonce.upstreams.router import Route, Router
from embedonce.usecases.flights import Flights, batch_id
from embedonce.usecases.jobs.load import Loader
from embedonce.usecases.jobs.purchase import Errand, Shopper
from embedonce.usecases.jobs.tickets import Tickets
from embedonce.usecases.lookup import Found, look_up
from embedonce.usecases.planning import Planner


@dataclass(frozen=True, slots=True)
class _Way:
    """A ticket with what was found out about it."""

    ticket: Ticket
    job: Job
    item: Item
    route: Route
    passage: Passage
    payer: Caller


def passage_of(item: Item, ref: TicketRef, *, alone: bool) -> Passage:
    """To what is to be bought."""
    fingerprint = item.fetch.fingerprint
    flight = fingerprint
    if alone:
        flight = hashlib.sha256(b"embedonce/alone/1" + fingerprint + ref.key.encode()).digest()
    return Passage(fingerprint, flight, item.fetch.dimensions, item.dimensions)


def passage_to(found: Found, item: Item) -> Passage:
    """To what is there."""
    fingerprint = found.key.fingerprint
    return Passage(fingerprint, fingerprint, found.key.dimensions, item.dimensions)


class Worker:
    """`resubmit_below` (pico-dollars): what costs less may be bought again when nobody knows whether it was
    bought; None: nothing."""

    def __init__(  # noqa: PLR0917  # its collaborators
        self,
        tickets: Tickets,
        flights: Flights,
        vectors: VectorStore,
        router: Router,
        planner: Planner,
        shopper: Shopper,
        loader: Loader,
        authenticator: Authenticator,
        find_model: Callable[[str], Model],
        clock: Clock,
        telemetry: Telemetry,
        rates: Rates,
        *,
        resubmit_below: int | None,
    ) -> None:
        self._tickets = tickets
        self._flights = flights
        self._vectors = vectors
        self._router = router
        self._planner = planner
        self._shopper = shopper
        self._loader = loader
        self._authenticator = authenticator
        self._find_model = find_model
        self._clock = clock
        self._telemetry = telemetry
        self._rates = rates
        self._resubmit_below = resubmit_below

    def handle(self, ref: TicketRef, deadline: Deadline) -> None:
        """One message. Whatever fails for now is tried again later; for good, it fails the ticket.

        :raises StoreUnavailable: the message should be delivered again
        """
        ticket = self._tickets.read(ref)
        if ticket is None or not ticket.open or ticket.stage is not Stage.WORK:
            return
        now = self._clock.now()
        if now >= ticket.deadline:
            self._tickets.fail(ticket, too_late(ticket))
            return
        begun = machine.begin(ticket, now=now, lease=deadline.remaining(self._clock.monotonic()))
        if not self._tickets.change(ticket, begun):
            return
        try:
            self._go(begun, deadline)
        except StoreUnavailable:
            self._telemetry.count("JobsDelayed")
            self._later(begun, None)
        except EmbedonceError as error:
            self._settle_or_retry(begun, error)

    def _go(self, ticket: Ticket, deadline: Deadline) -> None:
        caller = self._authenticator.recall(ticket.ref.owner)
        caller.require(Scope.EMBED)
        job = self._job(ticket)
        content = self._loader.load(job, ticket, caller, deadline)
        if ticket.passage is None and any(isinstance(part, RemoteMedia) for part in job.parts):
            # What came inline was counted when it was submitted.
            self._rates.admit(caller, estimated_tokens(content), requests=0)
        namespace = Namespace(caller.namespace, job.namespace)
        plan = self._planner((content,), (job.param,), job.options, namespace)
        (item,) = plan.items
        controls = job.controls
        found = self._found(item) if controls.reads else None
        if found is not None and self._accepts(job, found.record):
            self._tickets.complete(ticket, passage_to(found, item), found.record)
            return
        alone = found is not None or not controls.reads or controls.no_store
        passage = passage_of(item, ticket.ref, alone=alone)
        before = ticket.passage
        if before is not None and before.flight == passage.flight and before.leads:
            passage = machine.leading(passage)  # a worker died after it had begun to buy it for this ticket
        way = _Way(ticket, job, item, plan.routes[item.modalities], passage, caller)
        self._board(way, deadline)

    def _job(self, ticket: Ticket) -> Job:
        text = self._tickets.job_of(ticket)
        if text is None:
            raise InvalidRequest("what was to be embedded is not there any more; send it again")
        try:
            return jobs.decode(text, self._find_model)
        except (ValueError, NotFound):
            raise InvalidRequest("this request cannot be read by this version any more") from None

    def _found(self, item: Item) -> Found | None:
        return look_up(self._vectors, item, self._telemetry)

    def _accepts(self, job: Job, record: StoredVector) -> bool:
        return job.controls.accepts(record.created, self._clock.now())

    def _board(self, way: _Way, deadline: Deadline) -> None:
        controls = way.job.controls
        errand = Errand(
            item=way.item,
            route=way.route,
            options=way.job.options,
            keep=not controls.no_store,
            overwrite=controls.refresh,
            payer=way.payer,
        )
        if not self._accepts_row(way):
            way = replace(way, passage=passage_of(way.item, way.ticket.ref, alone=True))
        row = way.passage.flight
        lease = self._shopper.lease(errand, self._router.attempt_timeout)
        decision = self._flights.board(
            [row],
            {row: batch_id((way.item.fetch.fingerprint,))},
            lease=min(lease, deadline.remaining(self._clock.monotonic())),
            once=errand.once,
            resubmit=errand.may_be_bought_again(self._resubmit_below),
        )[row]
        match decision:
            case None:
                raise StoreUnavailable("without its row nothing is bought")
            case Take():
                self._tickets.complete(way.ticket, way.passage, decision.record)
            case Share():
                self._settle_or_retry(way.ticket, decision.error)
            case Follow() | BackOff():
                stage = Stage.WORK if isinstance(decision, BackOff) else Stage.POLL
                self._wait(way, stage, decision.until if isinstance(decision, BackOff) else None)
            case Lead():
                self._lead(way, errand, decision, deadline)
            case _:
                assert_never(decision)

    def _accepts_row(self, way: _Way) -> bool:
        """Whether a vector that is only in the flight's row is young enough for this caller."""
        if way.job.controls.max_age is None:
            return True
        flight = self._flights.find(way.passage.flight)
        state = None if flight is None else flight.state
        return not isinstance(state, Landed) or self._accepts(way.job, state.record)

    def _wait(self, way: _Way, stage: Stage, until: float | None) -> None:
        boarded = machine.board(way.ticket, way.passage)
        if self._tickets.change(way.ticket, boarded):
            self._tickets.hop(boarded, stage, until=until)

    def _lead(self, way: _Way, errand: Errand, lead: Lead, deadline: Deadline) -> None:
        passage = machine.leading(way.passage)
        found = self._found(way.item) if lead.over and way.job.controls.reads else None
        if found is not None and self._accepts(way.job, found.record):
            # Who led before may have died between storing the vector and landing.
            self._flights.land({way.passage.flight: lead.flight}, {way.passage.flight: found.record})
            self._tickets.complete(way.ticket, passage_to(found, way.item), found.record)
            return
        boarded = machine.board(way.ticket, passage)
        mine = False
        try:
            mine = self._tickets.change(way.ticket, boarded)
        finally:
            if not mine:
                self._shopper.give_up(lead.flight)
        if not mine:
            return
        try:
            record = self._shopper.go(errand, lead.flight, deadline)
        except StoreUnavailable:
            self._later(boarded, None)
        except EmbedonceError as error:
            self._settle_or_retry(boarded, error)
        else:
            if record is None:
                first = self._clock.now() + FIRST_POLL_SECONDS
                self._tickets.hop(boarded, Stage.POLL, until=first)
            else:
                self._tickets.complete(boarded, passage, record)

    def _settle_or_retry(self, ticket: Ticket, error: EmbedonceError) -> None:
        if not error.retryable:
            self._tickets.fail(ticket, error)
            return
        self._telemetry.count("JobsDelayed")
        self._later(ticket, error.retry_after)

    def _later(self, ticket: Ticket, seconds: float | None) -> None:
        until = None if seconds is None else self._clock.now() + seconds
        self._tickets.hop(ticket, Stage.WORK, until=until)


def too_late(ticket: Ticket) -> DeadlineExceeded:
    patience = ticket.deadline - ticket.created
    return DeadlineExceeded(f"it was not done within {patience:g} seconds")
