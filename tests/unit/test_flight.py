"""The flight state machine, without any store."""

from __future__ import annotations

import pytest
from test_core import RECORD

from embedonce.core import flight, flightrow
from embedonce.core.errors import UpstreamInvalid, UpstreamRejected, UpstreamUnavailable
from embedonce.core.flight import BackOff, Flight, Follow, Lead, Share, Take

FP = b"f" * 32
BATCH = b"b" * 32
NOW = 1_800_000_000.0


def join(
    current: Flight | None, now: float = NOW, batch: bytes = BATCH, owner: str = "me"
) -> flight.Decision:
    return flight.join(FP, current, owner=owner, batch=batch, now=now, lease=10)


def led(now: float = NOW) -> Flight:
    decision = join(None, now)
    assert isinstance(decision, Lead)
    assert decision.over == 0
    return decision.flight


def test_the_first_leads_and_the_next_follows_until_the_lease_is_over() -> None:
    flying = led()
    assert join(flying, NOW + 9.99) == Follow(NOW + 10, flying.version)
    taken = join(flying, NOW + 10)
    assert isinstance(taken, Lead)
    assert taken.over == flying.version
    assert taken.flight.attempts == 2


def test_a_lease_without_time_left_is_over_at_once() -> None:
    decision = flight.join(FP, None, owner="me", batch=BATCH, now=NOW, lease=0)
    assert isinstance(decision, Lead)
    assert isinstance(join(decision.flight, NOW), Lead)


def test_a_landed_flight_gives_its_vector_and_then_nothing() -> None:
    landed = flight.land(led(), RECORD, now=NOW + 1)
    assert join(landed, NOW + 2) == Take(RECORD)
    assert isinstance(join(landed, NOW + 1 + flight.OUTCOME_SECONDS), Lead)


def test_a_refusal_is_shared_by_the_same_batch_only_and_for_a_short_while() -> None:
    refused = flight.fail(led(), UpstreamRejected("no"), batch=BATCH, billed=False, now=NOW)
    shared = join(refused)
    assert isinstance(shared, Share)
    assert isinstance(shared.error, UpstreamRejected)
    assert isinstance(join(refused, batch=b"other"), Lead)
    assert isinstance(join(refused, NOW + flight.REFUSAL_SECONDS), Lead)


def test_a_passing_failure_backs_off_longer_each_time() -> None:
    current = flight.fail(led(), UpstreamUnavailable("down"), batch=BATCH, billed=False, now=NOW)
    waits = []
    now = NOW
    for _ in range(9):
        decision = join(current, now)
        assert isinstance(decision, BackOff)
        waits.append(decision.until - now)
        now = decision.until
        again = join(current, now)
        assert isinstance(again, Lead)
        assert again.flight.attempts == 1  # none of them was billed
        current = flight.fail(again.flight, UpstreamUnavailable("down"), batch=BATCH, billed=False, now=now)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_attempts_that_may_be_billed_are_bounded_within_the_hour() -> None:
    current = None
    now = NOW
    for _ in range(flight.MAX_PAID_ATTEMPTS):
        decision = join(current, now)
        assert isinstance(decision, Lead)
        error = UpstreamInvalid("bad")
        current = flight.fail(decision.flight, error, batch=BATCH, billed=True, now=now)
        now += 100
    refused = join(current, now)
    assert isinstance(refused, Share)
    assert refused.error.http_status == 503
    assert refused.error.retry_after == pytest.approx(flight.ATTEMPT_WINDOW_SECONDS - (now - NOW))
    assert isinstance(join(current, NOW + flight.ATTEMPT_WINDOW_SECONDS), Lead)


def test_crashed_leaders_count_as_attempts() -> None:
    current = None
    now = NOW
    for _ in range(flight.MAX_PAID_ATTEMPTS):
        decision = join(current, now)
        assert isinstance(decision, Lead)
        current = decision.flight
        now += 10  # killed: the lease runs out
    assert isinstance(join(current, now), Share)


def test_an_abandoned_lead_is_free_at_once_and_costs_nothing() -> None:
    given_up = flight.abandon(led(), now=NOW)
    decision = join(given_up)
    assert isinstance(decision, Lead)
    assert decision.flight.attempts == 1


def test_a_row_made_anew_never_repeats_a_version() -> None:
    old = flight.renew(led(NOW), now=NOW + 1, lease=10, attempt=False)
    new = led(NOW + 2)
    assert new.version > old.version


@pytest.mark.parametrize(
    "row",
    [
        led(),
        flight.land(led(), RECORD, now=NOW),
        flight.fail(led(), UpstreamRejected("né"), batch=BATCH, billed=False, now=NOW),
        flight.fail(led(), UpstreamUnavailable("x", retry_after=3), batch=BATCH, billed=True, now=NOW),
    ],
)
def test_rows_survive_every_store(row: Flight) -> None:
    text, data = flightrow.encode(row)
    assert flightrow.decode(FP, row.version, text, data) == row


@pytest.mark.parametrize("text", ['{"s":"flying"}', "{}", '{"s":"landed","record":{}}'])
def test_rows_of_another_shape_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        flightrow.decode(FP, 1, text, None)
