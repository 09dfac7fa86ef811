"""The poller: looks after tickets whose flight is on its way, and announces those that have arrived."""

from __future__ import annotations

from typing import assert_never

from embedonce.core.deadline import Deadline
from embedonce.core.flight import Failed, Flight, Landed, Leading, Submitted, Submitting
from embedonce.core.ticket import Stage, Ticket, TicketRef
from embedonce.ports import Clock
from embedonce.usecases.flights import Flights, batch_id
from embedonce.usecases.jobs.announce import Announcer
from embedonce.usecases.jobs.harvest import Harvester
from embedonce.usecases.jobs.tickets import Tickets
from embedonce.usecases.jobs.work import too_late

SOONEST_SECONDS = 0.5
"""Before another look at a row that somebody else is asking the provider for."""


class Poller:
    """Looks at rows and asks providers; what has to be bought, or bought again, is the worker's."""

    def __init__(
        self,
        tickets: Tickets,
        flights: Flights,
        harvester: Harvester,
        announcer: Announcer,
        clock: Clock,
    ) -> None:
        self._tickets = tickets
        self._flights = flights
        self._harvester = harvester
        self._announcer = announcer
        self._clock = clock

    def handle(self, ref: TicketRef, deadline: Deadline) -> None:
        """One message.

        :raises StoreUnavailable: it should be delivered again
        """
        ticket = self._tickets.read(ref)
        if ticket is None:
            return
        if ticket.announces_at(self._clock.now()):
            self._announcer.deliver(ticket, deadline)
        if not ticket.open or ticket.stage is not Stage.POLL:
            return
        if ticket.passage is None:
            self._tickets.hop(ticket, Stage.WORK, until=self._clock.now())
            return
        flight = self._flights.find(ticket.passage.flight)
        if flight is not None and isinstance(flight.state, Submitted):
            last = self._clock.now() >= ticket.deadline
            flight = self._harvester.ask(flight, deadline, at_once=last)
        if not self.settled(self._tickets, ticket, flight):
            self._go_on(ticket, flight)

    def _go_on(self, ticket: Ticket, flight: Flight | None) -> None:
        now = self._clock.now()
        if now >= ticket.deadline:
            self._tickets.fail(ticket, too_late(ticket))
            return
        state = None if flight is None else flight.state
        match state:
            case Submitted():
                self._tickets.hop(ticket, Stage.POLL, until=max(state.poll_at, now + SOONEST_SECONDS))
            case Leading() | Submitting() if now < state.lease_until:
                self._tickets.hop(ticket, Stage.POLL)
            case Failed() if not state.permanent:
                self._tickets.hop(ticket, Stage.WORK, until=state.retry_at)
            case None | Leading() | Submitting() | Landed() | Failed():
                # Also what is in doubt: the cache may have it although whoever bought it died before landing.
                self._tickets.hop(ticket, Stage.WORK, until=now)
            case _:
                assert_never(state)

    @staticmethod
    def settled(tickets: Tickets, ticket: Ticket, flight: Flight | None) -> bool:
        """Settle it if its flight has an outcome for good."""
        state = None if flight is None else flight.state
        passage = ticket.passage
        if passage is None:
            return False
        if isinstance(state, Landed):
            tickets.complete(ticket, passage, state.record)
            return True
        if isinstance(state, Failed) and state.permanent and state.batch == batch_id((passage.fingerprint,)):
            tickets.fail(ticket, state.error(0.0))
            return True
        return False
