"""Sees in the flights' rows that others hold them, as a run that was killed does until its leases end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from embedonce.core.errors import StoreUnavailable
from embedonce.core.flight import Flight, Leading, Submitting
from embedonce.ports import Clock, FlightStore, Swap
from embedonce.usecases.warm.entry import Wait

OTHERS = "waiting for what a killed run left behind or another process is buying"


class WatchedFlights:
    """A flight store. `told` of each look at rows that are led, and not by this process."""

    def __init__(self, store: FlightStore, clock: Clock, told: Callable[[Wait], None]) -> None:
        self._store = store
        self._clock = clock
        self._told = told
        self._own: set[str] = set()

    def get_many(self, fingerprints: Sequence[bytes]) -> dict[bytes, Flight]:
        found = self._store.get_many(fingerprints)
        self._look(found.values())
        return found

    def swap_many(self, swaps: Sequence[Swap]) -> list[Flight | StoreUnavailable | None]:
        self._own.update(
            swap.flight.state.owner for swap in swaps if isinstance(swap.flight.state, Leading | Submitting)
        )
        standing = self._store.swap_many(swaps)
        self._look(stood for stood in standing if isinstance(stood, Flight) and stood.version)
        return standing

    def landed(self) -> Iterator[Flight]:
        return self._store.landed()

    def delete_many(self, flights: Sequence[Flight]) -> None:
        self._store.delete_many(flights)

    def _look(self, rows: Iterable[Flight]) -> None:
        left = max(
            (
                row.state.lease_until - self._clock.now()
                for row in rows
                if isinstance(row.state, Leading | Submitting) and row.state.owner not in self._own
            ),
            default=0.0,
        )
        if left > 0:
            self._told(Wait(OTHERS, ", up to", left))
