"""One request's way from misses to vectors: what it leads, buys, and waits for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field

from embedonce.access.authenticate import Caller
from embedonce.core.cachecontrol import CacheControls
from embedonce.core.content import Modality
from embedonce.core.deadline import Deadline
from embedonce.core.errors import (
    BudgetExceeded,
    DeadlineExceeded,
    EmbedonceError,
    ServiceUnavailable,
    StoreUnavailable,
)
from embedonce.core.flight import BackOff, Decision, Flight, Follow, Lead, Share, Submitted, Take
from embedonce.core.options import EmbedOptions
from embedonce.core.plan import Item, batches
from embedonce.core.record import StoredVector
from embedonce.core.verdict import Verdict
from embedonce.ports import Clock, VectorMemory, VectorStore
from embedonce.upstreams.router import Route
from embedonce.usecases.desk import Desk, Ticket
from embedonce.usecases.flights import Flights, batch_id
from embedonce.usecases.purchase import Bought, Buyer, Order

POLL_SECONDS = (0.05, 0.1, 0.2, 0.4)
"""How long a follower in another process sleeps between reads of the row; the last one repeats."""
ORPHAN_SECONDS = 60.0
"""A provider that was to be asked so long ago is asked by nobody: pauses between questions are shorter."""
LONGEST_BACKOFF_WAIT_SECONDS = 2.0
"""A caller waits this long at most for another try; beyond, it gets the error and Retry-After."""
ATTEMPTS_IN_COMPANY = 2
"""After as many attempts in batches that failed an input is bought alone: it must not lock its neighbours."""


@dataclass(frozen=True, slots=True)
class Departure:
    """One request's misses. `stale`: present, but too old for this caller. `once`: of these, what may have
    been bought is not bought again. `adopt` is told what a provider has accepted and nobody asks for,
    `bought` what is paid for. `verdicts`: where not everything is stored and flown."""

    routes: Mapping[frozenset[Modality], Route]
    options: EmbedOptions
    controls: CacheControls
    stale: frozenset[bytes]
    deadline: Deadline
    payer: Caller
    once: frozenset[bytes] = frozenset()
    adopt: Callable[[Item], None] | None = None
    bought: dict[bytes, int] | None = None
    verdicts: Mapping[bytes, Verdict] = field(default_factory=dict)

    def alone(self, fingerprint: bytes) -> bool:
        c = self.controls
        return c.no_store or c.no_cache or c.refresh or fingerprint in self.stale

    def flies(self, fingerprint: bytes) -> bool:
        """Whether other processes are told that it is being bought."""
        verdict = self.verdicts.get(fingerprint)
        return verdict is None or verdict.flies


@dataclass(frozen=True, slots=True)
class Arrived:
    record: StoredVector
    bought: bool
    stored: bool
    cost: int


@dataclass(frozen=True, slots=True)
class Home:
    """What the trips of one process share. `at_hand`: its memories."""

    buyer: Buyer
    vectors: VectorStore
    flights: Flights
    clock: Clock
    pool: Executor
    desk: Desk
    attempt_timeout: float
    at_hand: Sequence[VectorMemory] = ()


class Trip:
    """One request's misses on their way: its running purchases and what has arrived."""

    def __init__(self, home: Home, departure: Departure, deadline: Deadline) -> None:
        self._home = home
        self._departure = departure
        self._deadline = deadline
        self._running: list[Future[dict[bytes, Bought]]] = []
        self._arrived: dict[bytes, Arrived] = {}
        self._known: dict[bytes, Flight] = {}
        self._polls = 0
        self._adopted: set[bytes] = set()
        self._boarded = home.clock.monotonic()

    def go(self, wanted: Mapping[bytes, Item]) -> dict[bytes, Item]:
        """One round: lead what can be led, then wait for the rest. What is left needs another round."""
        home = self._home
        self._boarded = home.clock.monotonic()
        mine, others = home.desk.claim(wanted)
        try:
            mine = self._not_at_hand(mine, wanted)
            decisions = self._board([wanted[fp] for fp in mine])
        except BaseException:
            self._let_go(mine)
            raise
        leads: dict[bytes, Flight | None] = {}
        waiting: dict[bytes, Decision] = {}
        outdated: list[Item] = []
        refused: EmbedonceError | None = None
        for fp, decision in decisions.items():
            match decision:
                case None if fp in self._departure.once:
                    home.desk.release(fp, None)
                    refused = ServiceUnavailable("this input cannot be bought right now", retry_after=2)
                case None:
                    leads[fp] = None
                case Lead():
                    leads[fp] = decision.flight
                case Take():
                    home.desk.release(fp, decision.record)
                    if self._accepts(decision.record):
                        self._arrived[fp] = Arrived(decision.record, bought=False, stored=True, cost=0)
                    else:
                        outdated.append(wanted[fp])
                case Share():
                    home.desk.release(fp, decision.error)
                    refused = self._naming(decision.error, wanted[fp])
                case Follow() | BackOff():
                    waiting[fp] = decision
        self._let_go(waiting)  # who needs only those must not wait for what is bought here
        if refused is not None:
            self._home.flights.abandon({fp: f for fp, f in leads.items() if f is not None})
            self._let_go(leads)
            raise refused
        self._take_what_dead_leaders_stored(wanted, decisions, leads)
        self.buy([wanted[fp] for fp in leads], leads, shared=True)
        self.buy(outdated, {}, shared=False)
        self._wait_for_purchases()
        self._wait_for_rows(waiting, wanted)
        left = {fp: wanted[fp] for fp in waiting}
        return left | self._wait_for_threads(wanted, others)

    def _not_at_hand(self, mine: list[bytes], wanted: Mapping[bytes, Item]) -> list[bytes]:
        """What flies without a row may have been bought by another thread since it was looked for, and only
        the process's memories say so."""
        rowless = [wanted[fp].fetch for fp in mine if not self._departure.flies(fp)]
        if not rowless:
            return mine
        for memory in self._home.at_hand:
            for fp, record in memory.get_many(rowless).items():
                if fp not in self._arrived and self._accepts(record):
                    stored = self._departure.verdicts[fp].keep
                    self._arrived[fp] = Arrived(record, bought=False, stored=stored, cost=0)
                    self._home.desk.release(fp, record, stored=stored)
        return [fp for fp in mine if fp not in self._arrived]

    def _take_what_dead_leaders_stored(
        self,
        wanted: Mapping[bytes, Item],
        decisions: Mapping[bytes, Decision | None],
        leads: dict[bytes, Flight | None],
    ) -> None:
        """A leader may have died between storing a vector and landing: who takes over looks once more."""
        over = [fp for fp in leads if isinstance(d := decisions[fp], Lead) and d.over]
        if not over:
            return
        try:
            stored = self._home.vectors.get_many([wanted[fp].fetch for fp in over])
        except StoreUnavailable:
            return
        accepted = {fp: record for fp, record in stored.items() if self._accepts(record)}
        flights = {fp: f for fp in accepted if (f := leads.pop(fp)) is not None}
        self._home.flights.land(flights, accepted)
        for fp, record in accepted.items():
            self._arrived[fp] = Arrived(record, bought=False, stored=True, cost=0)
            self._home.desk.release(fp, record)

    def _accepts(self, record: StoredVector) -> bool:
        return self._departure.controls.accepts(record.created, self._home.clock.now())

    def buy(self, items: Sequence[Item], flights: Mapping[bytes, Flight | None], *, shared: bool) -> None:
        """Start the purchases, each in a thread, bounded by the caller's deadline."""
        controls, options = self._departure.controls, self._departure.options
        suspects = [i for i in items if self._suspect(flights.get(i.fetch.fingerprint))]
        groups = [[i for i in items if i not in suspects], *([i] for i in suspects)]
        orders = [
            Order(
                route=route,
                items=batch,
                flights={fp: f for i in batch if (f := flights.get(fp := i.fetch.fingerprint)) is not None},
                options=options,
                store=not controls.no_store,
                overwrite=controls.refresh,
                fresh=not shared,
                boarded=self._boarded,
                payer=self._departure.payer,
                once=shared and any(item.fetch.fingerprint in self._departure.once for item in batch),
                verdicts=self._departure.verdicts,
            )
            for group in groups
            for route, batch in self._batches(group)
        ]
        begun = 0
        try:
            for order in orders:
                self._running.append(self._home.pool.submit(self._purchase, order, shared))
                begun += 1
        except BaseException:
            for order in orders[begun:]:
                self._home.flights.abandon(order.flights)
                if shared:
                    self._let_go(item.fetch.fingerprint for item in order.items)
            raise

    @staticmethod
    def _suspect(flight: Flight | None) -> bool:
        """It was in batches whose answers could not be used. Alone, it shows whether it was the reason."""
        return flight is not None and flight.attempts > ATTEMPTS_IN_COMPANY

    @staticmethod
    def _naming(error: EmbedonceError, item: Item) -> EmbedonceError:
        """A copy: whoever shares the error sent the same in another place."""
        if error.param is not None:
            return error
        return type(error)(f"{item.param}: {error.message}", param=item.param, retry_after=error.retry_after)

    def _purchase(self, order: Order, shared: bool) -> dict[bytes, Bought]:
        home = self._home
        outcomes: dict[bytes, StoredVector | EmbedonceError] = {}
        unstored: set[bytes] = set()
        try:
            bought = home.buyer.buy(order, self._deadline)
            outcomes = {fp: b.record for fp, b in bought.items()}
            unstored = {fp for fp, b in bought.items() if not b.stored}
            if self._departure.bought is not None:
                self._departure.bought.update({fp: b.cost for fp, b in bought.items()})
            return bought
        except EmbedonceError as error:
            # Threads that follow take a refusal from a batch of one; anything else they decide by the row,
            # or by what their own key may spend.
            own = isinstance(error, BudgetExceeded)
            if not error.retryable and not own and len(order.items) == 1:
                outcomes = {order.items[0].fetch.fingerprint: error}
            raise
        finally:
            if shared:
                for item in order.items:
                    fp = item.fetch.fingerprint
                    home.desk.release(fp, outcomes.get(fp), stored=fp not in unstored)

    def finish(self) -> dict[bytes, Arrived]:
        self._wait_for_purchases()
        return self._arrived

    def _board(self, items: Sequence[Item]) -> dict[bytes, Decision | None]:
        if not items:
            return {}
        batch_of = {
            item.fetch.fingerprint: batch_id(i.fetch.fingerprint for i in batch)
            for _, batch in self._batches(items)
            for item in batch
        }
        lease = min(self.left(), self._home.attempt_timeout)
        known, self._known = self._known, {}
        decisions: dict[bytes, Decision | None] = {
            fp: None for fp in batch_of if not self._departure.flies(fp)
        }
        often = [fp for fp in batch_of if fp not in self._departure.once and fp not in decisions]
        if often:
            decisions |= self._home.flights.board(often, batch_of, lease=lease, known=known)
        for item in items:
            if (fp := item.fetch.fingerprint) in self._departure.once:
                upstream = self._departure.routes[item.modalities].candidates[0][0].name
                decisions |= self._home.flights.board([fp], batch_of, lease=lease, known=known, once=upstream)
        return decisions

    def _batches(self, items: Iterable[Item]) -> list[tuple[Route, tuple[Item, ...]]]:
        by_route: dict[frozenset[Modality], list[Item]] = {}
        for item in items:
            by_route.setdefault(item.modalities, []).append(item)
        return [
            (route, batch)
            for modalities, group in by_route.items()
            for route in (self._departure.routes[modalities],)
            for batch in batches(group, route.offer.max_inputs, route.offer.max_bytes)
        ]

    def _wait_for_purchases(self) -> None:
        first_error: EmbedonceError | None = None
        while self._running:
            future = self._running.pop()
            try:
                for fp, b in future.result(timeout=self.left()).items():
                    self._arrived[fp] = Arrived(b.record, bought=True, stored=b.stored, cost=b.cost)
            except FutureTimeout:
                first_error = first_error or self.too_late()
            except EmbedonceError as error:
                first_error = first_error or error
        if first_error is not None:
            raise first_error

    def _wait_for_rows(self, waiting: dict[bytes, Decision], wanted: Mapping[bytes, Item]) -> None:
        """Poll rows that other processes lead until one of them can be decided anew."""
        clock = self._home.clock
        while waiting:
            now = clock.now()
            until = min(d.until for d in waiting.values() if isinstance(d, Follow | BackOff))
            backing_off = [d for d in waiting.values() if isinstance(d, BackOff)]
            for decision in backing_off:
                if decision.until - now > min(LONGEST_BACKOFF_WAIT_SECONDS, self.left()):
                    raise decision.error
            if self.left() <= 0:
                raise self.too_late()
            pause = POLL_SECONDS[min(self._polls, len(POLL_SECONDS) - 1)]
            self._polls += 1
            clock.sleep(max(0.001, min(pause, max(0.0, until - now) + 0.001, self.left())))
            rows = self._home.flights.read(list(waiting))
            if rows is None:
                return
            self._known = rows
            self._adopt_orphans(wanted, rows)
            if self._something_new(waiting, rows):
                return

    def _adopt_orphans(self, wanted: Mapping[bytes, Item], rows: Mapping[bytes, Flight]) -> None:
        """Only tickets ask a provider for what it accepted, and theirs may be over."""
        adopt, now = self._departure.adopt, self._home.clock.now()
        for fp, row in rows.items():
            orphaned = isinstance(row.state, Submitted) and now - row.state.poll_at > ORPHAN_SECONDS
            if orphaned and adopt is not None and fp in wanted and fp not in self._adopted:
                self._adopted.add(fp)
                adopt(wanted[fp])

    def _something_new(self, waiting: Mapping[bytes, Decision], rows: Mapping[bytes, Flight]) -> bool:
        now = self._home.clock.now()
        for fp, decision in waiting.items():
            row = rows.get(fp)
            if row is None or now >= row.expires:
                return True
            assert isinstance(decision, Follow | BackOff)
            if now >= decision.until or row.version != decision.version:
                return True
        return False

    def _wait_for_threads(
        self, wanted: Mapping[bytes, Item], others: Mapping[bytes, Ticket]
    ) -> dict[bytes, Item]:
        again: dict[bytes, Item] = {}
        for fp, ticket in others.items():
            if not ticket.done.wait(self.left()):
                raise self.too_late()
            match ticket.outcome:
                case None:
                    again[fp] = wanted[fp]
                case EmbedonceError() as error:
                    raise self._naming(error, wanted[fp])
                case StoredVector() as record if self._accepts(record):
                    self._arrived[fp] = Arrived(record, bought=False, stored=ticket.stored, cost=0)
                case StoredVector():
                    self.buy([wanted[fp]], {}, shared=False)
        return again

    def _let_go(self, fingerprints: Iterable[bytes]) -> None:
        """What this thread held and did not settle: whoever waits for it claims it anew."""
        for fp in fingerprints:
            self._home.desk.release(fp, None)

    def left(self) -> float:
        return self._deadline.remaining(self._home.clock.monotonic())

    def too_late(self) -> DeadlineExceeded:
        return DeadlineExceeded(
            "there was no answer in time; what has arrived is kept, so trying again continues",
            retry_after=2,
        )
