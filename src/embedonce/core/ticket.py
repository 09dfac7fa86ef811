"""Tickets: what a caller who does not wait holds in the hand. A pure state machine.

A request id is a ticket. It carries itself through the pipeline: whoever handles it reads its flight, and
either settles it or says when it wants to be looked at again (`due`) and by whom (`stage`).

    Open, WORK  ─▶ the worker: resolve, look up, join the flight; lead it, or wait for it
    Open, POLL  ─▶ the poller: look at the flight; ask the provider when it is time
    Completed   ─▶ the vector is in the flight's row or in the cache; kept for an hour
    Failed      ─▶ why, for an hour

Every change is a conditional write on `version`. Messages are nudges: they name a ticket and say nothing
else, so a doubled, late or lost one does no harm. A ticket that stands still is nudged by the janitor, each
time after twice as long, and failed at its deadline.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from embedonce.core.errors import EmbedonceError

RETENTION_SECONDS = 3600.0
"""How long a result is kept, from completion (Segmind's documentation: 1 hour, it does not say from when)."""
STALL_SECONDS = 60.0
"""Overdue by this, a ticket is taken for forgotten: its nudge was lost, or whoever handled it died."""
LONGEST_HOP_SECONDS = 30.0
HOP_GROWTH = 1.5
FIRST_HOP_SECONDS = 1.0
WEBHOOK_PAUSES = (5.0, 30.0, 120.0, 600.0, 900.0)
"""Seconds before each further attempt to deliver a webhook; after the last one it is given up. SQS delays no
message by more than 900."""

WEBHOOK_SECONDS = 10.0
"""For one attempt, from the look-up of the name to the status."""


class Stage(StrEnum):
    """Who handles it next; also the name of the queue."""

    WORK = "work"
    POLL = "poll"


@dataclass(frozen=True, slots=True)
class TicketRef:
    """`id`: 128 random bits in hex. `owner`: the id of the key that holds it; nobody else finds it."""

    owner: str
    id: str

    @property
    def key(self) -> str:
        return f"{self.owner}/{self.id}"

    @classmethod
    def of(cls, key: str) -> TicketRef:
        """:raises ValueError: not a `key`"""
        owner, slash, name = key.rpartition("/")
        if not (owner and slash and name):
            raise ValueError("no ticket is called that")
        return cls(owner, name)


@dataclass(frozen=True, slots=True)
class Open:
    """`started`: when a worker first took it up; None: it waits for one."""

    started: float | None = None


@dataclass(frozen=True, slots=True)
class Completed:
    """`cost` in pico-dollars; `paid` False: the vector was there, or others bought it."""

    at: float
    paid: bool
    cost: int
    started: float


@dataclass(frozen=True, slots=True)
class Failed:
    at: float
    code: str
    message: str
    started: float


State = Open | Completed | Failed


@dataclass(frozen=True, slots=True)
class Webhook:
    """`attempts` made so far; the next one is not made before `at`. `done`: delivered, or given up."""

    url: str
    attempts: int = 0
    done: bool = False
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Passage:
    """Which vector it is about, once that is known.

    `flight` names the flight's row: the fingerprint, or a row of the ticket's own where it flies alone.
    `dimensions` as asked for; None: the model's own. `leads`: the vector is bought for this ticket, so that
    what it costs is this ticket's.
    """

    fingerprint: bytes
    flight: bytes
    key_dimensions: int | None
    dimensions: int | None
    leads: bool = False


@dataclass(frozen=True, slots=True)
class Ticket:
    """Times in seconds since 1970. `job`: what is to be embedded (`core.job`), or None where it is one of
    `blobs`, the names below `blob_prefix` of all that is kept for it until it is settled. `expires`: from
    then on nobody finds it."""

    ref: TicketRef
    version: int
    state: State
    created: float
    deadline: float
    expires: float
    model: str
    job: str | None
    stage: Stage = Stage.WORK
    due: float | None = None
    passage: Passage | None = None
    hops: int = 0
    nudges: int = 0
    webhook: Webhook | None = None
    blobs: tuple[str, ...] = ()

    @property
    def blob_prefix(self) -> str:
        return f"payloads/{self.ref.key}/"

    @property
    def open(self) -> bool:
        return isinstance(self.state, Open)

    def live(self, now: float) -> bool:
        return now < self.expires

    @property
    def announces(self) -> bool:
        """Whether a webhook is still to be delivered."""
        return not self.open and self.webhook is not None and not self.webhook.done

    def announces_at(self, now: float) -> bool:
        """Whether it is time: a doubled message costs no attempt."""
        return self.announces and self.webhook is not None and now >= self.webhook.at


def issue(
    ref: TicketRef,
    *,
    model: str,
    job: str | None,
    now: float,
    patience: float,
    passage: Passage | None = None,
    webhook: Webhook | None = None,
    blobs: tuple[str, ...] = (),
) -> Ticket:
    """A new ticket, to be worked on within `patience` seconds. Its first nudge is due at once."""
    return Ticket(
        ref=ref,
        version=1,
        state=Open(),
        created=now,
        deadline=now + patience,
        expires=now + patience + RETENTION_SECONDS,
        model=model,
        job=job,
        due=now + STALL_SECONDS,
        passage=passage,
        webhook=webhook,
        blobs=blobs,
    )


def begin(ticket: Ticket, *, now: float, lease: float) -> Ticket:
    """A worker takes it up, and will have done something with it within `lease` seconds."""
    assert isinstance(ticket.state, Open)
    started = ticket.state.started if ticket.state.started is not None else now
    return replace(ticket, version=ticket.version + 1, state=Open(started), due=now + lease + STALL_SECONDS)


def board(ticket: Ticket, passage: Passage) -> Ticket:
    """It is known now which vector it is about."""
    return replace(ticket, version=ticket.version + 1, passage=passage)


def leading(passage: Passage) -> Passage:
    return replace(passage, leads=True)


def hop(ticket: Ticket, stage: Stage, *, now: float, until: float | None = None) -> tuple[Ticket, float]:
    """To be looked at again by `stage`, at `until` if that is known, else after a pause that grows.

    :returns: the ticket, and in how many seconds the message is to arrive
    """
    pause = min(FIRST_HOP_SECONDS * HOP_GROWTH ** min(ticket.hops, 20), LONGEST_HOP_SECONDS)
    if until is not None:
        pause = min(max(until - now, 0.0), max(ticket.deadline - now, 0.0))
    changed = replace(
        ticket,
        version=ticket.version + 1,
        stage=stage,
        hops=ticket.hops + 1,
        nudges=0,
        due=now + pause + STALL_SECONDS,
    )
    return changed, pause


def nudge(ticket: Ticket, *, now: float) -> Ticket:
    """The janitor sends its message anew, and waits twice as long before it does so again."""
    again = STALL_SECONDS * 2.0 ** min(ticket.nudges + 1, 16)
    if ticket.open:
        again = min(again, max(ticket.deadline - now, STALL_SECONDS))
    return replace(ticket, version=ticket.version + 1, nudges=ticket.nudges + 1, due=now + again)


def complete(ticket: Ticket, passage: Passage, *, cost: int, now: float) -> Ticket:
    """`cost`: what the vector cost (pico-dollars); it is this ticket's if it led."""
    paid = passage.leads
    state = Completed(now, paid, cost if paid else 0, _started(ticket, now))
    return _settled(replace(ticket, passage=passage), state, now)


def fail(ticket: Ticket, error: EmbedonceError, *, now: float) -> Ticket:
    return _settled(ticket, Failed(now, type(error).code, error.message, _started(ticket, now)), now)


def _started(ticket: Ticket, now: float) -> float:
    """For what never reached a worker, all the time was spent waiting."""
    assert isinstance(ticket.state, Open)
    return ticket.state.started if ticket.state.started is not None else now


def _settled(ticket: Ticket, state: Completed | Failed, now: float) -> Ticket:
    settled = replace(
        ticket,
        version=ticket.version + 1,
        state=state,
        expires=now + RETENTION_SECONDS,
        job=None,
        blobs=(),
        stage=Stage.POLL,
        hops=0,
        nudges=0,
        due=None,
    )
    return replace(settled, due=now + STALL_SECONDS) if settled.announces else settled


def announcing(ticket: Ticket, *, now: float) -> Ticket:
    """Before an attempt to deliver the webhook, so that only one makes it. If that one dies, the next attempt
    comes with the janitor."""
    hook = ticket.webhook
    assert hook is not None
    return replace(
        ticket,
        version=ticket.version + 1,
        webhook=replace(hook, attempts=hook.attempts + 1, at=now + STALL_SECONDS),
        nudges=0,
        due=now + STALL_SECONDS,
    )


def postponed(ticket: Ticket, *, now: float) -> Ticket:
    """The attempt was not made after all: its host has enough of them in hand."""
    hook = ticket.webhook
    assert hook is not None
    later = now + WEBHOOK_PAUSES[0]
    return replace(
        ticket,
        version=ticket.version + 1,
        webhook=replace(hook, attempts=hook.attempts - 1, at=later),
        nudges=0,
        due=later + STALL_SECONDS,
    )


def exhausted(ticket: Ticket) -> bool:
    """Whether all attempts were begun: whoever made the last one died."""
    return ticket.webhook is not None and ticket.webhook.attempts > len(WEBHOOK_PAUSES)


def announced(ticket: Ticket, *, delivered: bool, now: float) -> tuple[Ticket, float | None]:
    """After the attempt.

    :returns: the ticket, and in how many seconds to try again; None: it is over
    """
    hook = ticket.webhook
    assert hook is not None
    attempts = hook.attempts
    over = delivered or attempts > len(WEBHOOK_PAUSES)
    pause = None if over else WEBHOOK_PAUSES[attempts - 1]
    changed = replace(
        ticket,
        version=ticket.version + 1,
        webhook=replace(hook, done=over, at=now + (pause or 0.0)),
        nudges=0,
        due=None if pause is None else now + pause + STALL_SECONDS,
    )
    return changed, pause
