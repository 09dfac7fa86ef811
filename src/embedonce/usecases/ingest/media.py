"""Audio, video and PDF segments: each a ticket of its own, whose outcome is asked for later. On the same
flights as everything else, so that nothing is bought twice, whoever else asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from embedonce.access.authenticate import Caller
from embedonce.core.answer import Origin
from embedonce.core.cachecontrol import DEFAULT
from embedonce.core.content import MediaPart
from embedonce.core.days import day_of
from embedonce.core.deadline import Deadline
from embedonce.core.errors import (
    BudgetExceeded,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    ServiceUnavailable,
    rebuild,
)
from embedonce.core.fingerprint import Namespace
from embedonce.core.job import BlobMedia, Job
from embedonce.core.manifest import Manifest
from embedonce.core.options import EmbedOptions
from embedonce.core.plan import Item
from embedonce.core.ticket import Completed, Failed, Ticket, TicketRef
from embedonce.ports import Clock, Telemetry, VectorStore
from embedonce.usecases.ingest.lines import Embedded, Line, unembedded
from embedonce.usecases.ingest.manifests import MEDIA, TICKETS, Manifests
from embedonce.usecases.ingest.pieces import Piece
from embedonce.usecases.jobs.lane import SLOW
from embedonce.usecases.jobs.results import Results
from embedonce.usecases.jobs.submit import Parcel, Submit
from embedonce.usecases.jobs.tickets import Tickets
from embedonce.usecases.lookup import look_up
from embedonce.usecases.planning import Planned, Planner

_TRY_AGAIN = frozenset({DeadlineExceeded.code, ServiceUnavailable.code})
"""Why a ticket failed that says nothing of its input: the source has more patience than a ticket has. What a
provider has accepted stays in its flight, which the next ticket joins."""


@dataclass(frozen=True, slots=True)
class Order:
    """One chunk of a manifest, and on whose account it is embedded. `bought`: what was paid for it by
    fingerprint (pico-dollars), and not told of in a line yet."""

    manifest: Manifest
    chunk: int
    options: EmbedOptions
    caller: Caller
    bought: dict[bytes, int] = field(default_factory=dict)

    @property
    def namespace(self) -> Namespace:
        return Namespace(self.caller.namespace, self.manifest.terms.namespace)

    def bytes_of(self, manifests: Manifests, piece: Piece) -> bytes:
        """:raises InvalidRequest: they are gone
        :raises StoreUnavailable:
        """
        data = manifests.blob(self.manifest.id, MEDIA, piece.index)
        if data is None:
            raise InvalidRequest("the segment is not there any more; upload the source again")
        return data


def is_slow_piece(piece: Piece) -> bool:
    return piece.segment.modality in SLOW


class SlowMedia:
    def __init__(
        self,
        manifests: Manifests,
        tickets: Tickets,
        submit: Submit,
        results: Results,
        vectors: VectorStore,
        planner: Planner,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._manifests = manifests
        self._tickets = tickets
        self._submit = submit
        self._results = results
        self._vectors = vectors
        self._planner = planner
        self._clock = clock
        self._telemetry = telemetry
        self._met: set[str] = set()

    def ask(self, order: Order, pieces: Sequence[Piece], deadline: Deadline) -> list[Line] | None:
        """None: some are still being worked on; ask again later.

        :raises BudgetExceeded: of the key that pays
        :raises EmbedonceError: nothing can be accepted now
        :raises StoreUnavailable:
        """
        tickets = self._known(order)
        begun = dict(tickets)
        lines: list[Line] = []
        over: BudgetExceeded | None = None
        try:
            for piece in pieces:
                if over is not None and str(piece.index) not in begun:
                    continue  # nothing more is begun; but all that failed for it is forgotten, for later
                try:
                    line = self._settled(order, piece, begun, deadline)
                except InvalidRequest as error:  # no upstream takes it
                    line = unembedded(piece, error)
                except BudgetExceeded as error:
                    over, line = error, None
                if line is not None:
                    lines.append(line)
        finally:
            if begun != tickets:
                self._manifests.put_blob(order.manifest.id, TICKETS, order.chunk, orjson.dumps(begun))
        if over is not None:
            raise over
        return lines if len(lines) == len(pieces) else None

    def _known(self, order: Order) -> dict[str, str]:
        """Ids of tickets by the piece's number. Losing them costs tickets, and no money."""
        data = self._manifests.blob(order.manifest.id, TICKETS, order.chunk)
        return {} if data is None else dict(orjson.loads(data))

    def _settled(
        self, order: Order, piece: Piece, tickets: dict[str, str], deadline: Deadline
    ) -> Line | None:
        plan = self._plan(order, piece)
        (item,) = plan.items
        ticket = self._ticket(order, tickets.get(str(piece.index)))
        if ticket is None:
            found = look_up(self._vectors, item, self._telemetry)
            if found is not None:
                origin = Origin.HIT if found.key == item.fetch else Origin.DERIVED
                record = item.answer(found.record)
                made_up = piece.segment.modality in plan.made_up
                return Embedded(piece, record, origin, 0, item.fetch.fingerprint, made_up)
            if deadline.remaining(self._clock.monotonic()) <= 0:
                return None
            opened = self._submit.open(self._parcel(order, piece), order.caller)
            tickets[str(piece.index)] = opened.ref.id
            self._met.add(opened.ref.id)
            return None
        return self._line(piece, item, ticket, tickets)

    def _line(self, piece: Piece, item: Item, ticket: Ticket, tickets: dict[str, str]) -> Line | None:
        match ticket.state:
            case Completed(paid=paid, cost=cost):
                try:
                    result = self._results.result(ticket)
                except NotFound:  # neither its flight nor the cache has it any more
                    del tickets[str(piece.index)]
                    return None
                origin = Origin.MISS if paid else Origin.COLLAPSED
                fingerprint = item.fetch.fingerprint
                return Embedded(piece, result.record, origin, cost, fingerprint, bool(result.made_up))
            case Failed(code=code) if code in _TRY_AGAIN:
                del tickets[str(piece.index)]
                return None
            case Failed(at=at, code=BudgetExceeded.code, message=message):
                del tickets[str(piece.index)]
                if day_of(at) != day_of(self._clock.now()):  # what a source is paused for is over
                    return None
                raise BudgetExceeded(message)
            case Failed(code=code, message=message):
                return unembedded(piece, rebuild(code, message))
            case _:
                self._nudge(ticket)
                return None

    def _nudge(self, ticket: Ticket) -> None:
        """One that stands still is sent anew, as a janitor does; without one, and with queues that ended with
        the process before, also one that this process has not met before."""
        now = self._clock.now()
        stands_still = ticket.due is not None and now >= ticket.due
        unknown = not self._manifests.watched and ticket.ref.id not in self._met
        self._met.add(ticket.ref.id)
        if stands_still or unknown:
            self._tickets.nudge(ticket)

    def _ticket(self, order: Order, ticket_id: str | None) -> Ticket | None:
        if ticket_id is None:
            return None
        try:
            return self._results.look(TicketRef(order.caller.key_id, ticket_id))
        except NotFound:
            return None

    def _plan(self, order: Order, piece: Piece) -> Planned:
        param = f"segment {piece.index}"
        return self._planner((piece.content(),), (param,), order.options, order.namespace)

    def _parcel(self, order: Order, piece: Piece) -> Parcel:
        (part,) = piece.content().parts
        assert isinstance(part, MediaPart)
        param = f"segment {piece.index}"
        job = Job(
            (BlobMedia(part, "0", param),),
            param,
            order.options,
            DEFAULT,
            order.manifest.terms.namespace,
        )
        return Parcel(job, {"0": order.bytes_of(self._manifests, piece)})
