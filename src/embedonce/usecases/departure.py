"""From a miss to a vector: who buys, who waits, and for how long.

A request leads the flights it wins, buys its own batches first, and only then waits for the others'. Requests
that bypass the cache (`no-cache`, `no-store`, entries too old for the caller, a refresh) fly alone: they
neither lead nor follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

from embedonce.core.deadline import Deadline
from embedonce.core.plan import Item
from embedonce.ports import Clock, VectorMemory, VectorStore
from embedonce.upstreams.router import LEAST_USEFUL_SECONDS
from embedonce.usecases.desk import Desk
from embedonce.usecases.flights import Flights
from embedonce.usecases.purchase import Buyer
from embedonce.usecases.trip import Arrived, Departure, Home, Trip

ANSWER_MARGIN_SECONDS = 0.5
"""Kept of the deadline for rendering the answer or the error."""


class Departures:
    def __init__(
        self,
        buyer: Buyer,
        vectors: VectorStore,
        flights: Flights,
        clock: Clock,
        pool: Executor,
        *,
        attempt_timeout: float,
        at_hand: Sequence[VectorMemory] = (),
    ) -> None:
        """`at_hand`: the process's memories, for what is bought without a flight's row."""
        self._home = Home(buyer, vectors, flights, clock, pool, Desk(), attempt_timeout, at_hand)

    def fly(self, missing: Sequence[Item], departure: Departure) -> dict[bytes, Arrived]:
        """:raises EmbedonceError: the first failure; every batch that was begun is still stored and landed"""
        alone = [i for i in missing if departure.alone(i.fetch.fingerprint)]
        sharing = {i.fetch.fingerprint: i for i in missing if not departure.alone(i.fetch.fingerprint)}
        trip = Trip(self._home, departure, self._deadline(departure))
        if trip.left() < LEAST_USEFUL_SECONDS:
            raise trip.too_late()
        trip.buy(alone, {}, shared=False)
        while sharing:
            sharing = trip.go(sharing)
        return trip.finish()

    def _deadline(self, departure: Departure) -> Deadline:
        return Deadline(departure.deadline.at - ANSWER_MARGIN_SECONDS)
