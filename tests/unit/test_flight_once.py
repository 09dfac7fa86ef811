"""Flights of what is bought once: submitting, submitted, in doubt."""

from __future__ import annotations

import pytest
from test_core import RECORD

from embedonce.core import flight, flightrow
from embedonce.core.content import Modality
from embedonce.core.errors import UpstreamJobFailed, UpstreamOutcomeUnknown, UpstreamUnavailable
from embedonce.core.flight import BackOff, Flight, Follow, Lead, Share, Submitted, Submitting, Take, Waybill

FP = b"f" * 32
BATCH = b"b" * 32
NOW = 1_800_000_000.0
BILL = Waybill("m", "l", Modality.VIDEO, 3072, b"s" * 32, 12, FP, 3072)


def join(
    current: Flight | None, now: float = NOW, *, batch: bytes = BATCH, resubmit: bool = False
) -> flight.Decision:
    return flight.join(
        FP, current, owner="me", batch=batch, now=now, lease=10, once="segmind", resubmit=resubmit
    )


def submitting(now: float = NOW) -> Flight:
    decision = join(None, now)
    assert isinstance(decision, Lead)
    assert decision.flight.state == Submitting("me", now + 10, "segmind")
    return decision.flight


def submitted() -> Flight:
    return flight.submitted(submitting(), "job-1", BILL, now=NOW + 1)


def unknown(decision: flight.Decision) -> bool:
    return isinstance(decision, Share) and isinstance(decision.error, UpstreamOutcomeUnknown)


def test_it_is_followed_within_its_lease_and_in_doubt_from_its_end_on() -> None:
    row = submitting()
    assert join(row, NOW + 9.99) == Follow(NOW + 10, row.version)
    assert unknown(join(row, NOW + 10))
    assert unknown(join(row, NOW + 10, batch=b"of another request"))
    assert unknown(join(row, NOW + 10 + flight.UNKNOWN_SECONDS - 0.01))
    assert isinstance(join(row, NOW + 10 + flight.UNKNOWN_SECONDS), Lead)


def test_those_who_lead_otherwise_do_not_buy_it_either() -> None:
    """A route whose caller waits, and whose text is bought at once, meets the same row."""
    decision = flight.join(FP, submitting(), owner="x", batch=b"", now=NOW + 11, lease=10)
    assert unknown(decision)


def test_doubt_outlives_the_hour_of_attempts_before_it() -> None:
    refused = flight.fail(submitting(), UpstreamUnavailable("busy"), batch=BATCH, billed=False, now=NOW)
    late = NOW + flight.ATTEMPT_WINDOW_SECONDS - 1
    again = join(refused, late)
    assert isinstance(again, Lead)
    assert unknown(join(again.flight, late + 11))
    assert unknown(join(again.flight, late + 3000))


def test_a_leader_that_does_not_know_leaves_it_in_doubt_at_once() -> None:
    assert unknown(join(flight.doubt(submitting(), now=NOW + 1), NOW + 1))


def test_policy_may_submit_again_within_the_bound_of_attempts() -> None:
    row, now = submitting(), NOW
    for _ in range(flight.MAX_PAID_ATTEMPTS - 1):
        now += 20
        decision = join(row, now, resubmit=True)
        assert isinstance(decision, Lead)
        row = decision.flight
    refused = join(row, now + 20, resubmit=True)
    assert isinstance(refused, Share)
    assert refused.error.http_status == 503


def test_what_was_certainly_not_accepted_is_tried_again() -> None:
    refused = flight.fail(submitting(), UpstreamUnavailable("busy"), batch=BATCH, billed=False, now=NOW)
    assert isinstance(join(refused), BackOff)
    assert isinstance(join(refused, NOW + 1), Lead)


def test_what_was_accepted_is_followed_and_never_led_again_while_its_handle_lives() -> None:
    row = submitted()
    assert join(row, NOW + 1) == Follow(NOW + 2, row.version)
    late = NOW + flight.SUBMITTED_SECONDS
    assert isinstance(join(row, late, resubmit=True), Follow)
    assert isinstance(join(row, late + 1), Lead)


def test_questions_come_further_and_further_apart_and_respect_the_providers_wish() -> None:
    row, now, pauses = submitted(), NOW + 2, []
    for _ in range(14):
        row = flight.polled(row, now=now)
        assert isinstance(row.state, Submitted)
        pauses.append(row.state.poll_at - now)
        now = row.state.poll_at
    assert pauses == sorted(pauses)
    assert pauses[0] < 2
    assert pauses[-1] == flight.LONGEST_POLL_SECONDS
    patient = flight.polled(row, now=now, wait=100.0)
    assert isinstance(patient.state, Submitted)
    assert patient.state.poll_at == now + 100
    assert patient.state.polls == 14


def test_a_handle_that_is_not_known_is_asked_for_again_and_then_given_up() -> None:
    row = flight.polled(flight.polled(submitted(), now=NOW + 2), now=NOW + 2, missed=True)
    assert isinstance(row.state, Submitted)
    assert row.state.misses == 1
    found = flight.polled(row, now=NOW + 3, wait=0.0)
    assert isinstance(found.state, Submitted)
    assert found.state.misses == 0
    assert unknown(join(flight.lost(row, now=NOW + 4), NOW + 4))


def test_outcomes_stay_as_long_as_results_are_kept() -> None:
    landed = flight.land(submitted(), RECORD, now=NOW, keep=flight.JOB_OUTCOME_SECONDS)
    assert join(landed, NOW + 3600) == Take(RECORD)
    error = UpstreamJobFailed("no")
    failed = flight.fail(
        submitted(), error, batch=BATCH, billed=True, now=NOW, keep=flight.JOB_OUTCOME_SECONDS
    )
    shared = join(failed, NOW + 3600)
    assert isinstance(shared, Share)
    assert isinstance(shared.error, UpstreamJobFailed)


@pytest.mark.parametrize(
    "row",
    [
        submitting(),
        submitted(),
        flight.polled(submitted(), now=NOW, missed=True),
        flight.doubt(submitting(), now=NOW),
        flight.lost(submitted(), now=NOW),
        flight.fail(submitted(), UpstreamJobFailed("no"), batch=BATCH, billed=True, now=NOW, keep=9),
    ],
)
def test_rows_survive_every_store(row: Flight) -> None:
    text, data = flightrow.encode(row)
    assert flightrow.decode(FP, row.version, text, data) == row
