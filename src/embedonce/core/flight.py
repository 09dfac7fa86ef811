"""Flights: the one mechanism by which identical work anywhere shares one upstream call. A pure state machine.

A flight is one row per fingerprint. Every change is a conditional write on its `version`, so whoever writes
first decides and everyone else reads. `join` says what a caller that needs the vector does next:

    (nothing), lease over, outcome over ─▶ Lead      write `flight` if the row still has `over`'s version
    Leading                             ─▶ Follow    somebody is at it until `until`
    Submitting, within its lease        ─▶ Follow    somebody is handing it to a provider
    Submitting, lease over              ─▶ Share     nobody knows whether it was accepted (or Lead, by policy)
    Submitted                           ─▶ Follow    the provider is at it; the handle is kept
    Landed                              ─▶ Take      the vector, also when no store kept it
    Failed, permanent, same batch       ─▶ Share     the provider refused this: the same error for everyone
    Failed, transient                   ─▶ Back off until `until`, then Lead
    too many paid attempts in the hour  ─▶ Share     503 until the hour is over

Attempts that the provider may have billed are counted *before* the call, so that a crash counts too;
`fail` takes an attempt back that was certainly not accepted.

What costs much is bought *once*: `Submitting` is written before the provider is called, and whoever finds it
after its lease knows that the outcome is unknown. Only policy (`resubmit`) buys then a second time.

Versions start at the time in milliseconds, so a row that was dropped and made anew never carries a version
that a leader of the old one still holds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

from embedonce.core.content import Modality
from embedonce.core.errors import (
    EmbedonceError,
    UpstreamMisconfigured,
    UpstreamOutcomeUnknown,
    UpstreamUnavailable,
    rebuild,
)
from embedonce.core.record import StoredVector

OUTCOME_SECONDS = 60.0
"""How long a landed vector stays in the row: longer than any follower waits."""
REFUSAL_SECONDS = 30.0
"""How long a permanent error is remembered."""
MISCONFIGURED_SECONDS = 2.0
"""How long a failure of our own key, credits or address is shared: it says nothing about the input, and must
not outlive its repair."""
FIRST_BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 60.0
ATTEMPT_WINDOW_SECONDS = 3600.0
MAX_PAID_ATTEMPTS = 6
"""Attempts per fingerprint and hour that the provider may have billed without a usable answer."""
JOB_OUTCOME_SECONDS = 7200.0
"""How long the outcome of what was bought once stays in the row: longer than results are kept for polling,
which is an hour from when a ticket is settled."""
UNSTORED_SECONDS = 86_400.0
"""The same where no store has the vector: nothing else keeps what was paid for."""
UNKNOWN_SECONDS = 3600.0
"""How long a submission whose outcome is unknown keeps everybody from submitting the same again."""
SUBMITTED_SECONDS = 86_400.0
"""How long a provider's handle is kept: what was accepted is asked for again rather than bought again."""
FOLLOW_SUBMITTED_SECONDS = 1.0
FIRST_POLL_SECONDS = 0.5
LONGEST_POLL_SECONDS = 30.0
POLL_GROWTH = 1.5
MAX_MISSES = 3
MISSING_SECONDS = 120.0
"""So often in a row, and over so long a time, a provider may say that it does not know the handle before it
is believed: a proxy or a deployment in front of it says so too."""
LONGEST_WAIT_SECONDS = 120.0
"""A provider that asks for more patience is asked again after this all the same: asking is free."""


@dataclass(frozen=True, slots=True)
class Leading:
    owner: str
    lease_until: float


@dataclass(frozen=True, slots=True)
class Submitting:
    """About to be handed to `upstream`, where it may be accepted and billed once."""

    owner: str
    lease_until: float
    upstream: str


@dataclass(frozen=True, slots=True)
class Waybill:
    """What is needed to make a stored vector of the provider's answer, whoever gets it.

    `dimensions` None: the model's own. `subject`: see `core.validation.subject_of`. `tokens`: an estimate,
    for when the provider does not count. `key_dimensions` picks the store's tier (`VectorKey.dimensions`).
    `keep` False: the vector is for those who wait for it, no store gets it; `overwrite`: a refresh.
    `claim`: the money held for it (`accounting.claim`); empty: none.
    """

    model: str
    lineage: str
    modality: Modality
    dimensions: int | None
    subject: bytes
    tokens: int
    fingerprint: bytes
    key_dimensions: int | None
    keep: bool = True
    overwrite: bool = False
    claim: str = ""


@dataclass(frozen=True, slots=True)
class Submitted:
    """Accepted: `handle` is what the provider calls it. Nobody asks before `poll_at`; `misses` counts how
    often in a row it was not known there."""

    upstream: str
    handle: str
    waybill: Waybill
    since: float
    poll_at: float
    polls: int = 0
    misses: int = 0
    missing_since: float = 0.0


@dataclass(frozen=True, slots=True)
class Landed:
    record: StoredVector


@dataclass(frozen=True, slots=True)
class Failed:
    """`batch` names the upstream batch that failed: a permanent error of a batch condemns that very batch,
    not each of its contents (one bad input must not poison its neighbours for other callers)."""

    code: str
    message: str
    permanent: bool
    batch: bytes
    retry_at: float

    def error(self, now: float) -> EmbedonceError:
        retry_after = None if self.permanent else max(1.0, self.retry_at - now)
        return rebuild(self.code, self.message, retry_after=retry_after)


State = Leading | Submitting | Submitted | Landed | Failed


@dataclass(frozen=True, slots=True)
class Flight:
    """`expires`: from then on the row says nothing and may be dropped. Times are seconds since 1970."""

    fingerprint: bytes
    version: int
    state: State
    expires: float
    attempts: int = 0
    window_since: float = 0.0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Lead:
    flight: Flight
    over: int
    """The version that must still stand for the write to win; 0: no row."""


@dataclass(frozen=True, slots=True)
class Follow:
    """Somebody is at it. Look again when the row is no longer at `version`, or at `until`."""

    until: float
    version: int


@dataclass(frozen=True, slots=True)
class Take:
    record: StoredVector


@dataclass(frozen=True, slots=True)
class Share:
    error: EmbedonceError


@dataclass(frozen=True, slots=True)
class BackOff:
    until: float
    error: EmbedonceError
    version: int


Decision = Lead | Follow | Take | Share | BackOff


def join(
    fingerprint: bytes,
    current: Flight | None,
    *,
    owner: str,
    batch: bytes,
    now: float,
    lease: float,
    once: str | None = None,
    resubmit: bool = False,
) -> Decision:
    """What to do about `fingerprint`, given its row as just read. `lease` in seconds, from `now`.

    :param once: the upstream it will be handed to once; None: it may be tried again when the leader dies
    :param resubmit: whether it may be submitted again when nobody knows what became of it
    """
    decision = None
    if current is not None and now < current.expires:
        decision = _standing(current, batch, now, resubmit)
    return decision or _lead(fingerprint, current, owner, now, lease, once)


def _standing(current: Flight, batch: bytes, now: float, resubmit: bool) -> Decision | None:
    """What a row that has not expired says; None: that it is over."""
    state = current.state
    decision: Decision | None = None
    match state:
        case Leading() | Submitting() if now < state.lease_until:
            decision = Follow(state.lease_until, current.version)
        case Leading():
            pass
        case Submitting():
            decision = None if resubmit else Share(unknown_outcome(state.upstream))
        case Submitted():
            decision = Follow(max(state.poll_at, now + FOLLOW_SUBMITTED_SECONDS), current.version)
        case Landed():
            decision = Take(state.record)
        case Failed(permanent=True):
            decision = Share(state.error(now)) if state.batch == batch else None
        case Failed():
            if now < state.retry_at:
                decision = BackOff(state.retry_at, state.error(now), current.version)
        case _:
            assert_never(state)
    return decision


def unknown_outcome(upstream: str) -> UpstreamOutcomeUnknown:
    return UpstreamOutcomeUnknown(
        f"it is not known whether {upstream} accepted this input, or what became of it; it is not submitted "
        "again within the hour"
    )


def _lead(
    fingerprint: bytes, current: Flight | None, owner: str, now: float, lease: float, once: str | None
) -> Decision:
    attempts, since, failures = 0, now, 0
    if current is not None and now < current.window_since + ATTEMPT_WINDOW_SECONDS:
        attempts, since, failures = current.attempts, current.window_since, current.failures
    if attempts >= MAX_PAID_ATTEMPTS:
        return Share(
            UpstreamUnavailable(
                f"this input failed {attempts} times within the hour; not tried again before it is over",
                retry_after=since + ATTEMPT_WINDOW_SECONDS - now,
            )
        )
    flight = Flight(
        fingerprint=fingerprint,
        version=(current.version if current else int(now * 1000)) + 1,
        state=Submitting(owner, now + lease, once) if once else Leading(owner, now + lease),
        expires=now + lease + UNKNOWN_SECONDS if once else since + ATTEMPT_WINDOW_SECONDS + lease,
        attempts=attempts + 1,
        window_since=since,
        failures=failures,
    )
    return Lead(flight, current.version if current else 0)


def renew(flight: Flight, *, now: float, lease: float, attempt: bool) -> Flight:
    """The leader goes on: a longer lease and, where it will call again, one more attempt."""
    assert isinstance(flight.state, Leading | Submitting)
    after = UNKNOWN_SECONDS if isinstance(flight.state, Submitting) else 0.0
    return replace(
        flight,
        version=flight.version + 1,
        state=replace(flight.state, lease_until=now + lease),
        expires=max(flight.expires, now + lease + after),
        attempts=flight.attempts + attempt,
    )


def submitted(flight: Flight, handle: str, waybill: Waybill, *, now: float) -> Flight:
    """The provider has accepted it and calls it `handle`."""
    assert isinstance(flight.state, Submitting)
    state = Submitted(flight.state.upstream, handle, waybill, since=now, poll_at=now + FIRST_POLL_SECONDS)
    return replace(flight, version=flight.version + 1, state=state, expires=now + SUBMITTED_SECONDS)


def doubt(flight: Flight, *, now: float) -> Flight:
    """The leader itself does not know whether it was accepted: as if it had died here."""
    assert isinstance(flight.state, Submitting)
    return replace(
        flight,
        version=flight.version + 1,
        state=replace(flight.state, lease_until=now),
        expires=now + UNKNOWN_SECONDS,
    )


def polled(flight: Flight, *, now: float, missed: bool = False, wait: float | None = None) -> Flight:
    """Before asking the provider (so that only one asks, and the next one does when this one dies), and again
    after an answer that changes something: `missed`, it did not know the handle; `wait`, it knows it (0) and
    asks for that many seconds of patience."""
    state = flight.state
    assert isinstance(state, Submitted)
    pause = min(FIRST_POLL_SECONDS * POLL_GROWTH ** min(state.polls + 1, 20), LONGEST_POLL_SECONDS)
    if wait is not None:
        pause = max(pause, min(wait, LONGEST_WAIT_SECONDS))
    asked = wait is None and not missed
    return replace(
        flight,
        version=flight.version + 1,
        state=replace(
            state,
            poll_at=now + pause,
            polls=state.polls + asked,
            misses=state.misses + 1 if missed else 0 if wait is not None else state.misses,
            missing_since=now if missed and not state.misses else state.missing_since,
        ),
    )


def is_lost(state: Submitted, *, now: float) -> bool:
    """Whether one more answer that the handle is not known is to be believed."""
    return state.misses + 1 >= MAX_MISSES and now - state.missing_since >= MISSING_SECONDS


def lost(flight: Flight, *, now: float) -> Flight:
    """The provider no longer knows what it accepted: the outcome is unknown."""
    state = flight.state
    assert isinstance(state, Submitted)
    return replace(
        flight,
        version=flight.version + 1,
        state=Submitting("", now, state.upstream),
        expires=now + UNKNOWN_SECONDS,
    )


def land(flight: Flight, record: StoredVector, *, now: float, keep: float = OUTCOME_SECONDS) -> Flight:
    """`keep`: seconds that the vector stays in the row."""
    return replace(
        flight,
        version=flight.version + 1,
        state=Landed(record),
        expires=now + keep,
        attempts=0,
        failures=0,
    )


def fail(
    flight: Flight,
    error: EmbedonceError,
    *,
    batch: bytes,
    billed: bool,
    now: float,
    keep: float | None = None,
) -> Flight:
    """`billed`: the provider may have taken money for the last attempt. `keep`: seconds that the error stays
    in the row, where that is not the usual time of its kind."""
    permanent = not error.retryable
    failures = flight.failures if permanent else flight.failures + 1
    backoff = error.retry_after or 0.0
    if not permanent:
        doubled = FIRST_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 10)
        backoff = max(min(backoff, LONGEST_BACKOFF_SECONDS), min(doubled, LONGEST_BACKOFF_SECONDS))
    attempts = flight.attempts if billed else max(0, flight.attempts - 1)
    remembered = REFUSAL_SECONDS if permanent else ATTEMPT_WINDOW_SECONDS
    if isinstance(error, UpstreamMisconfigured):
        remembered = MISCONFIGURED_SECONDS
    if keep is not None:
        remembered = keep
    return replace(
        flight,
        version=flight.version + 1,
        state=Failed(type(error).code, error.message, permanent, batch, now + backoff),
        expires=now + remembered,
        attempts=attempts,
        failures=failures,
    )


def abandon(flight: Flight, *, now: float) -> Flight:
    """The leader stops before it sent anything: whoever needs it next leads at once."""
    reason = UpstreamUnavailable("the request that led gave up before it asked the provider")
    given_up = fail(flight, reason, batch=b"", billed=False, now=now)
    assert isinstance(given_up.state, Failed)
    return replace(given_up, state=replace(given_up.state, retry_at=now), failures=flight.failures)
