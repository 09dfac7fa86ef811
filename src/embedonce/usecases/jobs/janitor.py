"""The janitor: every minute, what stands still is nudged, and what is past its deadline is failed.

It holds no secret and asks no provider: it reads rows, and sends messages that say nothing but a name.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from embedonce.core.deadline import Deadline
from embedonce.core.errors import StoreUnavailable
from embedonce.core.ticket import TicketRef
from embedonce.ports import BlobStore, Clock, Telemetry
from embedonce.usecases.flights import Flights
from embedonce.usecases.ingest.tend import Tend
from embedonce.usecases.jobs.poll import Poller
from embedonce.usecases.jobs.tickets import Tickets
from embedonce.usecases.jobs.work import too_late

PAGE = 500
THREADS = 16
BLOB_SECONDS = 86_400.0
"""Payloads and uploads older than a day belong to nobody any more (tickets live for hours)."""


@dataclass(slots=True)
class Rounds:
    """What one tick did."""

    nudged: int = 0
    settled: int = 0


class Janitor:
    """`tend`: of manifests; None: there are none."""

    def __init__(
        self,
        tickets: Tickets,
        flights: Flights,
        blobs: BlobStore,
        clock: Clock,
        telemetry: Telemetry,
        *,
        tend: Tend | None = None,
    ) -> None:
        self._tend = tend
        self._tickets = tickets
        self._flights = flights
        self._blobs = blobs
        self._clock = clock
        self._telemetry = telemetry

    def tick(self, deadline: Deadline) -> Rounds:
        """As far as it gets until the deadline; the next one goes on."""
        rounds = Rounds()
        with ThreadPoolExecutor(THREADS, thread_name_prefix="janitor") as pool:
            for page in self._pages(deadline):
                for done in pool.map(self._look_after, page):
                    rounds.nudged += done == "nudged"
                    rounds.settled += done == "settled"
        if self._tend is not None:
            rounds.nudged += self._tend.tick(deadline)
        try:
            self._blobs.sweep(self._clock.now() - BLOB_SECONDS)
        except StoreUnavailable:
            self._telemetry.count("JanitorErrors")
        return rounds

    def _pages(self, deadline: Deadline) -> Iterator[list[TicketRef]]:
        """What was looked after is not due any more, as a rule; without anything new the round is over."""
        seen: set[TicketRef] = set()
        while deadline.remaining(self._clock.monotonic()) > 0:
            try:
                page = [ref for ref in self._tickets.due(PAGE + len(seen)) if ref not in seen]
            except StoreUnavailable:
                self._telemetry.count("JanitorErrors")
                return
            if not page:
                return
            seen.update(page)
            yield page

    def _look_after(self, ref: TicketRef) -> str | None:
        try:
            return self._decide(ref)
        except StoreUnavailable:
            self._telemetry.count("JanitorErrors")
            return None

    def _decide(self, ref: TicketRef) -> str | None:
        ticket = self._tickets.read(ref)
        now = self._clock.now()
        if ticket is None or ticket.due is None or now < ticket.due:
            return None
        if ticket.open and now >= ticket.deadline:
            flight = None if ticket.passage is None else self._flights.find(ticket.passage.flight)
            if not Poller.settled(self._tickets, ticket, flight):
                self._tickets.fail(ticket, too_late(ticket))
            return "settled"
        return "nudged" if self._tickets.nudge(ticket) else None
