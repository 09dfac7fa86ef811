"""What every FlightStore does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from embedonce.core.errors import StoreUnavailable, UpstreamRejected, UpstreamTimeout
from embedonce.core.flight import Lead, fail, join, land, renew
from embedonce.ports import Swap
from support.adapters import Flights
from support.clock import START, FakeClock
from support.stored import fingerprint, leading, record


def test_a_flight_through_all_its_states(flights: Flights) -> None:
    flight = leading(1)
    ends = (
        renew(flight, now=START + 1, lease=30, attempt=True),
        land(flight, record(1, dimensions=3072), now=START + 2),
        fail(flight, UpstreamTimeout("late"), batch=b"b" * 32, billed=True, now=START + 3),
        fail(flight, UpstreamRejected("nö"), batch=b"", billed=False, now=START + 4),
    )
    assert flights.store.get_many([fingerprint(1)]) == {}
    assert flights.store.swap_many([Swap(flight, 0)]) == [None]
    assert flights.store.get_many([fingerprint(1)]) == {fingerprint(1): flight}
    for version, end in enumerate(ends, start=1):
        after = replace(end, version=version + 1)
        assert flights.store.swap_many([Swap(after, version)]) == [None]
        assert flights.store.get_many([fingerprint(1)]) == {fingerprint(1): after}


def test_a_swap_over_another_version_answers_the_row(flights: Flights) -> None:
    standing = leading(1, version=7)
    flights.store.swap_many([Swap(standing, 0)])
    for over in (0, 6, 8):
        assert flights.store.swap_many([Swap(leading(1, version=9, owner="b"), over)]) == [standing]
    assert flights.store.get_many([fingerprint(1)]) == {fingerprint(1): standing}


def test_the_row_in_the_way_carries_its_vector(flights: Flights) -> None:
    landed = land(leading(1), record(1, dimensions=3072), now=START)
    flights.store.swap_many([Swap(landed, 0)])
    assert flights.store.swap_many([Swap(leading(1, version=5), 0)]) == [landed]


def test_a_swap_over_a_row_that_is_gone_says_try_again(flights: Flights) -> None:
    wanted = leading(1, version=5)
    assert flights.store.swap_many([Swap(wanted, 4)]) == [replace(wanted, version=0)]
    assert flights.store.get_many([fingerprint(1)]) == {}


def test_the_same_swap_twice_is_written_once(flights: Flights) -> None:
    """Equal bytes are no proof of the same writer."""
    assert flights.store.swap_many([Swap(leading(1), 0)]) == [None]
    assert flights.store.swap_many([Swap(leading(1), 0)]) == [leading(1)]


def test_an_expired_row_is_led_over_by_its_version(flights: Flights, clock: FakeClock) -> None:
    flights.store.swap_many([Swap(leading(1, expires=START + 5), 0)])
    clock.advance(5)
    current = flights.store.get_many([fingerprint(1)]).get(fingerprint(1))
    decision = join(fingerprint(1), current, owner="b", batch=b"", now=clock.now(), lease=30)
    assert isinstance(decision, Lead)
    assert flights.store.swap_many([Swap(decision.flight, decision.over)]) == [None]


def test_swaps_are_independent_and_in_order(flights: Flights) -> None:
    flights.store.swap_many([Swap(leading(2, version=4), 0)])
    swaps = [Swap(leading(1), 0), Swap(leading(2, version=9), 3), Swap(leading(3), 0)]
    assert flights.store.swap_many(swaps) == [None, leading(2, version=4), None]
    assert set(flights.store.get_many([fingerprint(n) for n in range(5)])) == {
        fingerprint(n) for n in (1, 2, 3)
    }


@pytest.mark.parametrize("count", [0, 1, 100, 101, 250])
def test_any_number_of_rows(flights: Flights, count: int) -> None:
    rows = {fingerprint(n): leading(n, version=n + 1) for n in range(count)}
    assert flights.store.swap_many([Swap(flight, 0) for flight in rows.values()]) == [None] * count
    assert flights.store.get_many([*rows, *rows, fingerprint(-1)] if rows else []) == rows


def test_a_row_that_cannot_be_read_is_led_over(flights: Flights, clock: FakeClock) -> None:
    flights.store.swap_many([Swap(leading(1, version=7), 0)])
    flights.damage(fingerprint(1))
    unreadable = flights.store.get_many([fingerprint(1)])[fingerprint(1)]
    decision = join(fingerprint(1), unreadable, owner="b", batch=b"", now=clock.now(), lease=30)
    assert isinstance(decision, Lead)
    assert decision.over == 7
    assert flights.store.swap_many([Swap(decision.flight, decision.over)]) == [None]


def test_what_has_landed_is_listed_expired_or_not(flights: Flights, clock: FakeClock) -> None:
    landed = [land(leading(n), record(n), now=START) for n in range(3)]
    failed = fail(leading(4), UpstreamRejected("no"), batch=b"", billed=False, now=START)
    flights.store.swap_many([Swap(flight, 0) for flight in (*landed, leading(3), failed)])
    flights.damage(fingerprint(2))
    clock.advance(10_000)
    found = {flight.fingerprint: flight for flight in flights.store.landed()}
    assert found == {fingerprint(n): landed[n] for n in range(2)}


def test_more_than_a_page_of_them(flights: Flights, monkeypatch: pytest.MonkeyPatch) -> None:
    """DynamoDB's has 1 MB."""
    monkeypatch.setattr("embedonce.stores.embedded.flights.SCANNED_ROWS", 50)
    landed = [land(leading(n), record(n, dimensions=3072), now=START) for n in range(120)]
    flights.store.swap_many([Swap(flight, 0) for flight in landed])
    found = list(flights.store.landed())
    assert {flight.fingerprint for flight in found} == {fingerprint(n) for n in range(120)}
    flights.store.delete_many(found)
    assert list(flights.store.landed()) == []


def test_only_the_very_version_is_deleted(flights: Flights) -> None:
    landed = [land(leading(n), record(n), now=START) for n in range(3)]
    flights.store.swap_many([Swap(flight, 0) for flight in landed])
    led = leading(1, version=landed[1].version + 1, owner="b")
    flights.store.swap_many([Swap(led, landed[1].version)])
    flights.store.delete_many([*landed, land(leading(9), record(9), now=START), landed[0]])
    left = flights.store.get_many([fingerprint(n) for n in (0, 1, 2, 9)])
    assert left == {fingerprint(1): led}
    assert flights.store.swap_many([Swap(leading(0), 0)]) == [None]
    flights.store.delete_many([])


def test_a_store_that_is_down_says_so(flights: Flights) -> None:
    flights.down()
    with pytest.raises(StoreUnavailable):
        flights.store.get_many([fingerprint(1)])
    with pytest.raises(StoreUnavailable):
        flights.store.swap_many([Swap(leading(1), 0)])
    with pytest.raises(StoreUnavailable):
        list(flights.store.landed())
    with pytest.raises(StoreUnavailable):
        flights.store.delete_many([leading(1)])
