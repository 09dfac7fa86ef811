"""The rows, messages and blobs of tickets. The row is the truth: it is written before its message is sent."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace

from embedonce.accounting.meter import Meter
from embedonce.core import ticket as machine
from embedonce.core import usage
from embedonce.core.answer import Origin
from embedonce.core.errors import EmbedonceError, StoreUnavailable
from embedonce.core.record import StoredVector
from embedonce.core.ticket import Passage, Stage, Ticket, TicketRef
from embedonce.ports import BlobStore, Clock, Queue, Telemetry, TicketStore

JOB_INLINE_BYTES = 4096
"""A longer job lies as a blob: its row is written anew at every hop, and DynamoDB counts by the KB."""
JOB_BLOB = "job"
JOB_MAX_BYTES = 1 << 20


def new_ref(owner: str) -> TicketRef:
    return TicketRef(owner, secrets.token_hex(16))


class Tickets:
    def __init__(
        self,
        store: TicketStore,
        queues: Mapping[Stage, Queue[TicketRef]],
        blobs: BlobStore,
        clock: Clock,
        telemetry: Telemetry,
        meter: Meter | None = None,
    ) -> None:
        """`meter` None: nobody counts here, as nothing is completed."""
        self._store = store
        self._queues = queues
        self._blobs = blobs
        self._clock = clock
        self._telemetry = telemetry
        self._meter = meter

    def open(self, ticket: Ticket, job: str, media: Mapping[str, bytes]) -> None:
        """Accept it for work: from when this returns it will be completed or failed, whatever dies.

        :raises StoreUnavailable: it was not accepted
        """
        large = len(job.encode()) > JOB_INLINE_BYTES
        blobs = {**media, JOB_BLOB: job.encode()} if large else media
        try:
            for name, data in blobs.items():
                self._blobs.put(ticket.blob_prefix + name, data)
            self._add(replace(ticket, job=None if large else job, blobs=tuple(blobs)))
        except StoreUnavailable:
            self._forget(ticket, tuple(blobs))
            raise
        self._send(ticket.ref, ticket.stage)

    def add_settled(self, ticket: Ticket) -> None:
        """One that needed no work.

        :raises StoreUnavailable: it was not written
        """
        self._add(ticket)
        if ticket.announces:
            self._send(ticket.ref, Stage.POLL)

    def read(self, ref: TicketRef) -> Ticket | None:
        """None: unknown, somebody else's, or expired: one look at the store in each case.

        :raises StoreUnavailable:
        """
        ticket = self._store.get(ref)
        return ticket if ticket is not None and ticket.live(self._clock.now()) else None

    def job_of(self, ticket: Ticket) -> str | None:
        """None: it is not there any more."""
        if ticket.job is not None:
            return ticket.job
        data = self._blobs.get(ticket.blob_prefix + JOB_BLOB, most=JOB_MAX_BYTES)
        return None if data is None else data.decode()

    def media_of(self, ticket: Ticket, name: str, *, most: int) -> bytes | None:
        return self._blobs.get(ticket.blob_prefix + name, most=most)

    def link_of(self, ticket: Ticket, name: str, *, seconds: int) -> str | None:
        return self._blobs.presign_get(ticket.blob_prefix + name, seconds=seconds)

    def change(self, ticket: Ticket, changed: Ticket) -> bool:
        """False: somebody else changed it first, so it is theirs to go on with.

        :raises StoreUnavailable:
        """
        return self._store.swap(changed, ticket.version) is None

    def hop(self, ticket: Ticket, stage: Stage, *, until: float | None = None) -> None:
        """Leave it to `stage`, at `until` or after a pause."""
        changed, delay = machine.hop(ticket, stage, now=self._clock.now(), until=until)
        if self.change(ticket, changed):
            self._send(ticket.ref, stage, delay)

    def complete(self, ticket: Ticket, passage: Passage, record: StoredVector) -> Ticket | None:
        """The settled ticket; None: somebody else was first."""
        self._telemetry.count("JobsCompleted")
        settled = self._settle(
            ticket, machine.complete(ticket, passage, cost=record.cost, now=self._clock.now())
        )
        if settled is not None and self._meter is not None:
            before = ticket.passage
            own = passage.leads or (before is not None and before.leads)  # it may have died after buying
            origin = Origin.MISS if own else Origin.HIT if before is None else Origin.COLLAPSED
            self._meter.ticket(ticket.ref.owner, record, origin)
        return settled

    def fail(self, ticket: Ticket, error: EmbedonceError) -> Ticket | None:
        self._telemetry.count("JobsFailed")
        settled = self._settle(ticket, machine.fail(ticket, error, now=self._clock.now()))
        if settled is not None and self._meter is not None:
            self._meter.count(ticket.ref.owner, {usage.JOBS_FAILED: 1})
        return settled

    def nudge(self, ticket: Ticket) -> bool:
        """Send its message anew, if nobody has touched it meanwhile."""
        if not self.change(ticket, machine.nudge(ticket, now=self._clock.now())):
            return False
        self._telemetry.count("Nudges")
        self._send(ticket.ref, ticket.stage)
        return True

    def announcing(self, ticket: Ticket) -> Ticket | None:
        """The ticket to announce; None: somebody else does."""
        changed = machine.announcing(ticket, now=self._clock.now())
        return changed if self.change(ticket, changed) else None

    def postpone(self, ticket: Ticket) -> None:
        if self.change(ticket, machine.postponed(ticket, now=self._clock.now())):
            self._send(ticket.ref, Stage.POLL, machine.WEBHOOK_PAUSES[0])

    def announced(self, ticket: Ticket, *, delivered: bool) -> None:
        changed, pause = machine.announced(ticket, delivered=delivered, now=self._clock.now())
        if self.change(ticket, changed) and pause is not None:
            self._send(ticket.ref, Stage.POLL, pause)

    def due(self, limit: int) -> list[TicketRef]:
        return self._store.due(self._clock.now(), limit)

    def _add(self, ticket: Ticket) -> None:
        if self._store.swap(ticket, 0) is not None:
            raise StoreUnavailable("a ticket of that name exists")

    def _settle(self, ticket: Ticket, settled: Ticket) -> Ticket | None:
        if not self.change(ticket, settled):
            return None
        self._forget(ticket, ticket.blobs)
        if settled.announces:
            self._send(ticket.ref, Stage.POLL)
        return settled

    def _send(self, ref: TicketRef, stage: Stage, delay: float = 0.0) -> None:
        """A lost message is what the janitor is for."""
        try:
            self._queues[stage].send(ref, delay=delay)
        except StoreUnavailable:
            self._telemetry.count("QueueErrors")
            self._telemetry.event("queue_unavailable", queue=stage.value)

    def _forget(self, ticket: Ticket, blobs: Sequence[str]) -> None:
        """What is not deleted here is removed after a day."""
        try:
            if blobs:
                self._blobs.delete_many([ticket.blob_prefix + name for name in blobs])
        except StoreUnavailable:
            self._telemetry.count("BlobsLeft", len(blobs))
