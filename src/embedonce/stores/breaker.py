"""A store that fails is left alone for a while, so that a hanging one costs its time-out once and not with
every call of every request. Reading and writing fail apart: a held write lock hides no vector."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from embedonce.core.errors import StoreUnavailable
from embedonce.core.flight import Flight
from embedonce.core.plan import VectorKey
from embedonce.core.record import StoredVector
from embedonce.ports import (
    AccessKey,
    AccessStore,
    Clock,
    Deployment,
    FlightStore,
    KeyLimits,
    Swap,
    VectorStore,
)

OPEN_SECONDS = 5.0
"""How long a store is not asked after a failure."""

Result = TypeVar("Result")


class Breaker:
    """One for each direction of each store."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = 0.0

    def call(self, work: Callable[[], Result]) -> Result:
        """:raises StoreUnavailable: the work's, or that it failed a moment ago"""
        if self._clock.monotonic() < self._until:
            raise StoreUnavailable("failed a moment ago")
        try:
            return work()
        except StoreUnavailable:
            self._until = self._clock.monotonic() + OPEN_SECONDS
            raise


class BreakingVectors:
    def __init__(self, inner: VectorStore, clock: Clock) -> None:
        self._inner = inner
        self._reading = Breaker(clock)
        self._writing = Breaker(clock)

    def get_many(self, keys: Sequence[VectorKey]) -> dict[bytes, StoredVector]:
        return self._reading.call(lambda: self._inner.get_many(keys))

    def put_many(
        self, entries: Sequence[tuple[VectorKey, StoredVector]], *, overwrite: bool = False
    ) -> list[StoredVector | None]:
        return self._writing.call(lambda: self._inner.put_many(entries, overwrite=overwrite))

    def delete_many(self, keys: Sequence[VectorKey]) -> None:
        self._writing.call(lambda: self._inner.delete_many(keys))


class BreakingFlights:
    def __init__(self, inner: FlightStore, clock: Clock) -> None:
        self._inner = inner
        self._reading = Breaker(clock)
        self._writing = Breaker(clock)

    def get_many(self, fingerprints: Sequence[bytes]) -> dict[bytes, Flight]:
        return self._reading.call(lambda: self._inner.get_many(fingerprints))

    def swap_many(self, swaps: Sequence[Swap]) -> list[Flight | StoreUnavailable | None]:
        return self._writing.call(lambda: self._inner.swap_many(swaps))

    def landed(self) -> Iterator[Flight]:
        """Past the breaker, as nobody else waits for it."""
        return self._inner.landed()

    def delete_many(self, flights: Sequence[Flight]) -> None:
        self._writing.call(lambda: self._inner.delete_many(flights))


class BreakingAccess:
    """Only what requests do; keys are managed past it."""

    def __init__(self, inner: AccessStore, clock: Clock) -> None:
        self._inner = inner
        self._reading = Breaker(clock)

    def find(self, secret_hash: str) -> AccessKey | None:
        return self._reading.call(lambda: self._inner.find(secret_hash))

    def find_by_id(self, key_id: str) -> AccessKey | None:
        return self._reading.call(lambda: self._inner.find_by_id(key_id))

    def add(self, key: AccessKey) -> None:
        self._inner.add(key)

    def list(self) -> list[AccessKey]:
        return self._inner.list()

    def revoke(self, key_id: str, when: int) -> bool:
        return self._inner.revoke(key_id, when)

    def limit(self, key_id: str, limits: KeyLimits) -> bool:
        return self._inner.limit(key_id, limits)

    def deployment(self) -> Deployment:
        return self._reading.call(self._inner.deployment)

    def set_deployment(self, deployment: Deployment) -> bool:
        return self._inner.set_deployment(deployment)
