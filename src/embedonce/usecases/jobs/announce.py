"""Webhooks: a ticket that has arrived is announced at least once, signed, as id and status only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import orjson

from embedonce.core.deadline import Deadline
from embedonce.core.errors import EmbedonceError
from embedonce.core.ticket import WEBHOOK_SECONDS, Completed, Ticket, exhausted
from embedonce.ports import Clock, Telemetry, WebhookSender
from embedonce.usecases.jobs.tickets import Tickets


class Announcer:
    """`sign(owner, message id, timestamp, body)` gives the headers of Standard Webhooks; it may raise
    `EmbedonceError` where the secret cannot be read."""

    def __init__(
        self,
        tickets: Tickets,
        sender: WebhookSender,
        sign: Callable[[str, str, int, bytes], Mapping[str, str]],
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._tickets = tickets
        self._sender = sender
        self._sign = sign
        self._clock = clock
        self._telemetry = telemetry

    def deliver(self, ticket: Ticket, deadline: Deadline) -> None:
        """One attempt, if there is time for it and nobody else makes it.

        :raises StoreUnavailable: whether it was delivered could not be written down: it may be twice
        """
        if deadline.remaining(self._clock.monotonic()) < WEBHOOK_SECONDS:
            return  # the janitor sends its message anew
        if exhausted(ticket):
            self._tickets.announced(ticket, delivered=False)
            return
        claimed = self._tickets.announcing(ticket)
        if claimed is None:
            return
        ticket = claimed
        assert ticket.webhook is not None
        body = body_of(ticket)
        try:
            headers = self._sign(ticket.ref.owner, f"msg_{ticket.ref.id}", int(self._clock.now()), body)
            delivered = self._sender.post(ticket.webhook.url, body, headers)
        except EmbedonceError:  # the secret cannot be read now
            delivered = False
        if delivered is None:
            self._tickets.postpone(ticket)
            return
        self._telemetry.count("WebhooksDelivered" if delivered else "WebhookFailures")
        self._tickets.announced(ticket, delivered=delivered)


def body_of(ticket: Ticket) -> bytes:
    """`{"type": "request.completed", "timestamp": …, "data": {"request_id": …, "status": …}}`"""
    state = ticket.state
    completed = isinstance(state, Completed)
    at = datetime.fromtimestamp(getattr(state, "at", ticket.created), UTC)
    return orjson.dumps(
        {
            "type": "request.completed" if completed else "request.failed",
            "timestamp": at.isoformat(),
            "data": {"request_id": ticket.ref.id, "status": "COMPLETED" if completed else "FAILED"},
        }
    )
