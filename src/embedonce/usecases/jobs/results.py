"""What a ticket's holder is told: read from its row and, while it is open, from its flight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from embedonce.core.catalog import Model
from embedonce.core.content import Modality
from embedonce.core.errors import NotFound, ServiceUnavailable, StoreUnavailable
from embedonce.core.flight import Landed
from embedonce.core.plan import VectorKey
from embedonce.core.record import StoredVector
from embedonce.core.ticket import Completed, Ticket, TicketRef
from embedonce.ports import Clock, VectorStore
from embedonce.upstreams.router import Router
from embedonce.usecases.flights import Flights
from embedonce.usecases.jobs.tickets import Tickets
from embedonce.usecases.jobs.work import too_late


@dataclass(frozen=True, slots=True)
class Result:
    """`record` at the size that was asked for; `made_up`: its modality, where its vectors mean nothing."""

    ticket: Ticket
    record: StoredVector
    made_up: frozenset[Modality]


class Results:
    def __init__(
        self,
        tickets: Tickets,
        flights: Flights,
        vectors: VectorStore,
        router: Router,
        find_model: Callable[[str], Model],
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._router = router
        self._find_model = find_model
        self._tickets = tickets
        self._flights = flights
        self._vectors = vectors

    def look(self, ref: TicketRef) -> Ticket:
        """As it stands. A flight that has landed settles it, and so does its deadline, whoever sees that
        first: what was told once stays so.

        :raises NotFound: unknown, somebody else's and expired ones alike
        :raises ServiceUnavailable: the store cannot be read
        """
        try:
            ticket = self._tickets.read(ref)
            if ticket is None:
                raise NotFound(f"Request {ref.id} not found")
            return self._settled(ticket) if ticket.open else ticket
        except StoreUnavailable:
            raise ServiceUnavailable("requests cannot be looked up right now", retry_after=2) from None

    def _settled(self, ticket: Ticket) -> Ticket:
        passage = ticket.passage
        flight = None if passage is None else self._flights.find(passage.flight)
        if passage is not None and flight is not None and isinstance(flight.state, Landed):
            settled = self._tickets.complete(ticket, passage, flight.state.record)
        elif self._clock.now() >= ticket.deadline:
            settled = self._tickets.fail(ticket, too_late(ticket))
        else:
            return ticket
        return settled or self._tickets.read(ticket.ref) or ticket

    def result(self, ticket: Ticket) -> Result:
        """Of a completed one.

        :raises NotFound: neither its flight nor the cache has the vector any more
        :raises ServiceUnavailable: they cannot be read
        """
        assert isinstance(ticket.state, Completed)
        assert ticket.passage is not None
        record = self._record(ticket)
        if record is None:
            raise NotFound(f"Request {ticket.ref.id} not found")
        size = ticket.passage.dimensions
        if size is not None and record.dimensions != size:
            record = record.cut_to(size)
        return Result(ticket, record, self._made_up(record))

    def _made_up(self, record: StoredVector) -> frozenset[Modality]:
        """Of an upstream that is not configured any more, nothing is known."""
        named = [upstream for upstream in self._router.upstreams if upstream.name == record.upstream]
        try:
            offers = [upstream.offer(self._find_model(record.model)) for upstream in named]
        except NotFound:
            return frozenset()
        made_up = frozenset[Modality]().union(*(offer.made_up for offer in offers if offer is not None))
        return made_up & {record.modality}

    def _record(self, ticket: Ticket) -> StoredVector | None:
        passage = ticket.passage
        assert passage is not None
        failed = 0
        if passage.flight == passage.fingerprint:
            key = VectorKey(passage.fingerprint, passage.key_dimensions)
            try:
                if record := self._vectors.get_many((key,)).get(passage.fingerprint):
                    return record
            except StoreUnavailable:
                failed += 1
        try:
            flight = self._flights.find(passage.flight)
        except StoreUnavailable:
            flight, failed = None, failed + 1
        if flight is not None and isinstance(flight.state, Landed):
            return flight.state.record
        if failed:
            raise ServiceUnavailable("the result cannot be read right now", retry_after=2)
        return None
