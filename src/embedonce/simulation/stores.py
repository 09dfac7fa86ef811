"""Stores in memory that charge for each call what the adapters of AWS would be billed (`core.costcalls`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from embedonce.core import costcalls as calls
from embedonce.core.costcalls import Call, Place, Tier
from embedonce.core.costworth import DAYS_OF_MONTH
from embedonce.core.errors import StoreUnavailable
from embedonce.core.flight import Flight, Landed
from embedonce.core.plan import VectorKey
from embedonce.core.prices import Prices
from embedonce.core.record import StoredVector
from embedonce.ports import Clock, Swap

DAY_SECONDS = 86_400.0


@dataclass
class Bill:
    """`operations`: how often, by what they were for and their name; `cost` in pico-dollars by the lines of
    `core.costmodel.CACHE`."""

    prices: Prices
    operations: Counter[str] = field(default_factory=Counter)
    cost: Counter[str] = field(default_factory=Counter)

    def charge(self, line: str, what: str, *billed: Call) -> None:
        self.operations[f"{line}: {what}"] += 1
        self.cost[line] += calls.cost(billed, self.prices)

    def store(self, line: str, price: str, size: int, days: float) -> None:
        self.cost[line] += round(self.prices.of(price, size) * days / DAYS_OF_MONTH)


class ChargedVectors:
    """`lifecycle_days`: after which the bucket removes objects, whatever their own TTL is."""

    def __init__(self, tier: Tier, bill: Bill, clock: Clock, *, lifecycle_days: float) -> None:
        self._tier = tier
        self._bill = bill
        self._clock = clock
        self._lifecycle_days = lifecycle_days
        self._records: dict[bytes, StoredVector] = {}

    def get_many(self, keys: Sequence[VectorKey]) -> dict[bytes, StoredVector]:
        found: dict[bytes, StoredVector] = {}
        for key in keys:
            record, place = self._live(key), self._place(key)
            if record is None:
                self._bill.charge("look-ups", "nothing found", calls.vector_absent(place))
            else:
                self._bill.charge("look-ups", "found", calls.vector_found(place, record.dimensions))
                found[key.fingerprint] = record
        return found

    def put_many(
        self, entries: Sequence[tuple[VectorKey, StoredVector]], *, overwrite: bool = False
    ) -> list[StoredVector | None]:
        return [self._put(key, record, overwrite=overwrite) for key, record in entries]

    def _put(self, key: VectorKey, record: StoredVector, *, overwrite: bool) -> StoredVector:
        standing, place = self._live(key), self._place(key)
        if standing is not None and not overwrite:
            lost = calls.vector_lost(place, standing.dimensions)
            self._bill.charge("vector writes", "another's stands", *lost)
            return standing
        self._bill.charge("vector writes", "written", calls.vector_written(place, record.dimensions))
        days = (record.expires - self._clock.now()) / DAY_SECONDS
        if not place.honours_ttl:
            days = max(days, self._lifecycle_days)
        size = calls.stored_bytes(place, record.dimensions)
        self._bill.store("storage", f"{place.value}_gb_month", size, days)
        self._records[key.fingerprint] = record
        return record

    def delete_many(self, keys: Sequence[VectorKey]) -> None:
        for key in keys:
            self._records.pop(key.fingerprint, None)

    def _place(self, key: VectorKey) -> Place:
        return self._tier.place(key.dimensions or 0)

    def _live(self, key: VectorKey) -> StoredVector | None:
        record = self._records.get(key.fingerprint)
        return record if record is not None and record.live(self._clock.now()) else None


class ChargedFlights:
    """Rows stay after they have expired, until DynamoDB removes them."""

    def __init__(self, bill: Bill, clock: Clock) -> None:
        self._bill = bill
        self._clock = clock
        self._rows: dict[bytes, tuple[Flight, float]] = {}

    def get_many(self, fingerprints: Sequence[bytes]) -> dict[bytes, Flight]:
        found: dict[bytes, Flight] = {}
        for fingerprint in fingerprints:
            row = self._row(fingerprint)
            size = 0 if row is None else _row_bytes(row)
            self._bill.charge("flights", "looked at", calls.read("BatchGetItem", size, strongly=True))
            if row is not None:
                found[fingerprint] = row
        return found

    def swap_many(self, swaps: Sequence[Swap]) -> list[Flight | StoreUnavailable | None]:
        return [self._swap(swap) for swap in swaps]

    def _swap(self, swap: Swap) -> Flight | None:
        flight, standing = swap.flight, self._row(swap.flight.fingerprint)
        before = 0 if standing is None else _row_bytes(standing)
        if (0 if standing is None else standing.version) != swap.over:
            self._bill.charge("flights", "another's stands", calls.written(before))
            return replace(flight, version=0) if standing is None else standing
        size = _row_bytes(flight)
        self._bill.charge("flights", "written", calls.written(max(before, size)))
        if isinstance(flight.state, Landed):
            stored = calls.stored_bytes(Place.DYNAMODB, flight.state.record.dimensions)
            self._bill.store("flights", "dynamodb_gb_month", stored, calls.FLIGHT_ROW_DAYS)
        gone = max(flight.expires, self._clock.now() + calls.FLIGHT_ROW_DAYS * DAY_SECONDS)
        self._rows[flight.fingerprint] = (flight, gone)
        return None

    def landed(self) -> Iterator[Flight]:
        return (row for row, _ in self._rows.values() if isinstance(row.state, Landed))

    def delete_many(self, flights: Sequence[Flight]) -> None:
        for flight in flights:
            self._rows.pop(flight.fingerprint, None)

    def _row(self, fingerprint: bytes) -> Flight | None:
        row, gone = self._rows.get(fingerprint, (None, 0.0))
        return row if self._clock.now() < gone else None


def _row_bytes(flight: Flight) -> int:
    if isinstance(flight.state, Landed):
        return len(flight.state.record.data) + calls.LANDED_BYTES_BESIDES
    return calls.LEADING_BYTES


class Unlimited:
    """A quota store that grants everything: what accounting writes is counted elsewhere."""

    def take(self, name: str, amount: int, *, limit: int, expires: float) -> bool:  # noqa: ARG002
        return True

    def give(self, name: str, amount: int) -> None:
        pass

    def total(self, name: str) -> int:  # noqa: ARG002
        return 0


class Uncounted:
    """A usage store that keeps nothing."""

    def add(self, owner: str, day: str, counts: Mapping[str, int]) -> None:
        pass

    def read(self, owner: str, first: str, last: str) -> dict[str, dict[str, int]]:  # noqa: ARG002
        return {}
