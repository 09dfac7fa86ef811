"""The flight rows of one request: take off, renew, land. Fails open: without the store all is bought."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence

from embedonce.core import flight as machine
from embedonce.core.errors import EmbedonceError, StoreUnavailable
from embedonce.core.flight import Decision, Flight, Lead
from embedonce.core.record import StoredVector
from embedonce.ports import Clock, FlightStore, Swap, Telemetry

LEASE_MARGIN_SECONDS = 2.0
"""A lease outlasts the attempt it covers by this: time to store what was bought."""
_SWAP_ROUNDS = 4
READ_PAUSES = (0.1, 0.5, 2.0, 5.0)
"""Seconds before each look at a row that may have been written: longer than a breaker stays open."""


def batch_id(fingerprints: Iterable[bytes]) -> bytes:
    """Names an upstream batch by what is in it."""
    return hashlib.sha256(b"".join(sorted(fingerprints))).digest()


class Flights:
    def __init__(self, store: FlightStore, clock: Clock, telemetry: Telemetry) -> None:
        self._store = store
        self._clock = clock
        self._telemetry = telemetry

    def board(
        self,
        fingerprints: Sequence[bytes],
        batches: Mapping[bytes, bytes],
        *,
        lease: float,
        known: Mapping[bytes, Flight] | None = None,
        once: str | None = None,
        resubmit: bool = False,
    ) -> dict[bytes, Decision | None]:
        """What to do about each: `Lead` means the row was written. None: the store failed, buy without a row.

        `known` are rows just read; without it the first write assumes that there is none, which saves a read.
        `once` and `resubmit` as in `core.flight.join`: what is bought once must not be bought without a row.
        """
        owner = uuid.uuid4().hex
        rows: dict[bytes, Flight | None] = {fp: (known or {}).get(fp) for fp in fingerprints}
        decisions: dict[bytes, Decision | None] = {}
        undecided = list(fingerprints)
        for _ in range(_SWAP_ROUNDS):
            now = self._clock.now()
            leads: list[Lead] = []
            for fp in undecided:
                row = rows[fp]
                decision = machine.join(
                    fp,
                    row,
                    owner=owner,
                    batch=batches[fp],
                    now=now,
                    lease=lease + LEASE_MARGIN_SECONDS,
                    once=once,
                    resubmit=resubmit,
                )
                if isinstance(decision, Lead):
                    leads.append(decision)
                else:
                    decisions[fp] = decision
            if not leads:
                return decisions
            try:
                standing = self._led(leads, sure=once is not None)
            except StoreUnavailable:
                self._failed("board")
                return decisions | {lead.flight.fingerprint: None for lead in leads}
            undecided = []
            for lead, stood in zip(leads, standing, strict=True):
                fp = lead.flight.fingerprint
                match stood:
                    case None:
                        decisions[fp] = lead
                    case StoreUnavailable():
                        self._failed("board")
                        decisions[fp] = None
                    case Flight():
                        rows[fp] = stood if stood.version else None
                        undecided.append(fp)
            if not undecided:
                return decisions
        return decisions | {
            fp: machine.Follow(self._clock.now() + LEASE_MARGIN_SECONDS, 0) for fp in undecided
        }

    def _led(self, leads: Sequence[Lead], *, sure: bool) -> Sequence[Flight | StoreUnavailable | None]:
        """As `FlightStore.swap_many`; `sure`: what may have been written is looked at again.

        :raises StoreUnavailable: it is not known of any
        """
        try:
            standing = self._store.swap_many([Swap(lead.flight, lead.over) for lead in leads])
        except StoreUnavailable as failure:
            if not sure:
                raise
            standing = [failure] * len(leads)
        if not sure:
            return standing
        return [
            None if isinstance(stood, StoreUnavailable) and self._is_written(lead.flight) else stood
            for lead, stood in zip(leads, standing, strict=True)
        ]

    def _is_written(self, flight: Flight) -> bool:
        """After a write whose answer was lost. What is bought once must know: its row, left behind, would say
        that it was perhaps bought."""
        for pause in READ_PAUSES:
            self._clock.sleep(pause)
            try:
                stood = self._store.get_many((flight.fingerprint,)).get(flight.fingerprint)
            except StoreUnavailable:
                continue
            return stood is not None and stood.version == flight.version and stood.state == flight.state
        return False

    def read(self, fingerprints: Sequence[bytes]) -> dict[bytes, Flight] | None:
        """The rows as they stand; None: the store failed."""
        try:
            return self._store.get_many(fingerprints)
        except StoreUnavailable:
            self._failed("read")
            return None

    def renew(self, flights: dict[bytes, Flight], *, lease: float, billed: bool) -> bool:
        """Keep leading, in place. False: another leader has taken one over."""
        now = self._clock.now()
        return self._write(
            flights,
            {
                fp: machine.renew(f, now=now, lease=lease + LEASE_MARGIN_SECONDS, attempt=billed)
                for fp, f in flights.items()
            },
            "renew",
        )

    def land(
        self,
        flights: dict[bytes, Flight],
        records: Mapping[bytes, StoredVector],
        *,
        keep: float = machine.OUTCOME_SECONDS,
    ) -> None:
        now = self._clock.now()
        self._write(
            flights,
            {fp: machine.land(f, records[fp], now=now, keep=keep) for fp, f in flights.items()},
            "land",
        )

    def fail(
        self, flights: dict[bytes, Flight], error: EmbedonceError, *, batch: bytes, billed: bool
    ) -> float:
        """Seconds until the first of them may be tried again."""
        now = self._clock.now()
        self._write(
            flights,
            {fp: machine.fail(f, error, batch=batch, billed=billed, now=now) for fp, f in flights.items()},
            "fail",
        )
        retries = [f.state.retry_at - now for f in flights.values() if isinstance(f.state, machine.Failed)]
        return max(0.0, min(retries, default=0.0))

    def doubt(self, flights: dict[bytes, Flight]) -> None:
        """Nobody knows whether they were accepted: they are not submitted again, unless by policy."""
        now = self._clock.now()
        self._write(flights, {fp: machine.doubt(f, now=now) for fp, f in flights.items()}, "doubt")

    def find(self, fingerprint: bytes) -> Flight | None:
        """The one row, None where it has expired.

        :raises StoreUnavailable: what is bought once may not be taken for unbought because a store fails
        """
        row = self._store.get_many((fingerprint,)).get(fingerprint)
        return None if row is None or self._clock.now() >= row.expires else row

    def swap(self, changed: Flight, over: Flight) -> bool:
        """Write one row over what it was. False: somebody else was first.

        :raises StoreUnavailable: it is not known to be written
        """
        (stood,) = self._store.swap_many((Swap(changed, over.version),))
        if isinstance(stood, StoreUnavailable):
            raise stood
        return stood is None

    def abandon(self, flights: dict[bytes, Flight]) -> None:
        """Give up the lead before anything was sent: the next one who needs it leads at once."""
        now = self._clock.now()
        self._write(flights, {fp: machine.abandon(f, now=now) for fp, f in flights.items()}, "abandon")

    def _write(self, flights: dict[bytes, Flight], changed: Mapping[bytes, Flight], what: str) -> bool:
        if not flights:
            return True
        try:
            standing = self._store.swap_many([Swap(changed[fp], f.version) for fp, f in flights.items()])
        except StoreUnavailable:
            self._failed(what)
            return True
        lost = [fp for fp, stood in zip(tuple(flights), standing, strict=True) if isinstance(stood, Flight)]
        flights.update({fp: f for fp, f in changed.items() if fp not in lost})
        if lost:
            self._telemetry.count("FlightsLost", len(lost))
        return not lost

    def _failed(self, what: str) -> None:
        self._telemetry.count("FlightStoreErrors")
        self._telemetry.event("flight_store_unavailable", during=what)
