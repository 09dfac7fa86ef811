"""Flights: the one mechanism by which identical work anywhere shares one upstream call. A pure state machine.

A flight is one row per fingerprint. Every change is a conditional write on its `version`, so whoever writes
first decides and everyone else reads. `join` says what a caller that needs the vector does next:

    (nothing), lease over, outcome over ─▶ Lead      write `flight` if the row still has `over`'s version
    Leading                             ─▶ Follow    somebody is at it until `until`
    Landed                              ─▶ Take      the vector, also when no store kept it
    Failed, permanent, same batch       ─▶ Share     the provider refused this: the same error for everyone
    Failed, transient                   ─▶ Back off until `until`, then Lead
    too many paid attempts in the hour  ─▶ Share     503 until the hour is over

Attempts that the provider may have billed are counted *before* the call, so that a crash counts too;
`fail` takes an attempt back that was certainly not accepted.

Versions start at the time in milliseconds, so a row that was dropped and made anew never carries a version
that a leader of the old one still holds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

from embedonce.core.errors import EmbedonceError, UpstreamMisconfigured, UpstreamUnavailable, rebuild
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


@dataclass(frozen=True, slots=True)
class Leading:
    owner: str
    lease_until: float


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


State = Leading | Landed | Failed


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
    until: float


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


Decision = Lead | Follow | Take | Share | BackOff


def join(
    fingerprint: bytes,
    current: Flight | None,
    *,
    owner: str,
    batch: bytes,
    now: float,
    lease: float,
) -> Decision:
    """What to do about `fingerprint`, given its row as just read. `lease` in seconds, from `now`."""
    if current is None or now >= current.expires:
        return _lead(fingerprint, current, owner, now, lease)
    state = current.state
    match state:
        case Leading():
            if now < state.lease_until:
                return Follow(state.lease_until)
            return _lead(fingerprint, current, owner, now, lease)
        case Landed():
            return Take(state.record)
        case Failed():
            if state.permanent:
                if state.batch == batch:
                    return Share(state.error(now))
                return _lead(fingerprint, current, owner, now, lease)
            if now < state.retry_at:
                return BackOff(state.retry_at, state.error(now))
            return _lead(fingerprint, current, owner, now, lease)
        case _:
            assert_never(state)


def _lead(fingerprint: bytes, current: Flight | None, owner: str, now: float, lease: float) -> Decision:
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
        state=Leading(owner, now + lease),
        expires=since + ATTEMPT_WINDOW_SECONDS + lease,
        attempts=attempts + 1,
        window_since=since,
        failures=failures,
    )
    return Lead(flight, current.version if current else 0)


def renew(flight: Flight, *, now: float, lease: float, attempt: bool) -> Flight:
    """The leader goes on: a longer lease and, where it will call again, one more attempt."""
    assert isinstance(flight.state, Leading)
    return replace(
        flight,
        version=flight.version + 1,
        state=replace(flight.state, lease_until=now + lease),
        expires=max(flight.expires, now + lease),
        attempts=flight.attempts + attempt,
    )


def land(flight: Flight, record: StoredVector, *, now: float) -> Flight:
    return replace(
        flight,
        version=flight.version + 1,
        state=Landed(record),
        expires=now + OUTCOME_SECONDS,
        attempts=0,
        failures=0,
    )


def fail(flight: Flight, error: EmbedonceError, *, batch: bytes, billed: bool, now: float) -> Flight:
    """`billed`: the provider may have taken money for the last attempt."""
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
