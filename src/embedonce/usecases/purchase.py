"""Buying one upstream batch, in a thread of its own: call, validate, store, land.

What was paid for is kept even when the request that wanted it has run out of time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from embedonce.access.authenticate import Caller
from embedonce.accounting.claim import most_of
from embedonce.accounting.purse import Purse
from embedonce.core.catalog import Model, estimated_tokens
from embedonce.core.deadline import Deadline
from embedonce.core.errors import (
    DeadlineExceeded,
    EmbedonceError,
    ServiceUnavailable,
    StoreUnavailable,
)
from embedonce.core.flight import OUTCOME_SECONDS, Flight
from embedonce.core.options import EmbedOptions
from embedonce.core.plan import Item
from embedonce.core.pricing import apportion
from embedonce.core.record import StoredVector
from embedonce.core.verdict import Verdict
from embedonce.ports import Clock, FirstSights, Telemetry, UpstreamCall, VectorStore
from embedonce.upstreams.failure import UpstreamFailure
from embedonce.upstreams.router import LEAST_USEFUL_SECONDS, Purchase, Route, Router
from embedonce.usecases.flights import Flights, batch_id

QUEUE_SECONDS = 1.0
"""A purchase that waited longer than this for a thread renews its leases before it begins."""


@dataclass(frozen=True, slots=True)
class Bought:
    """`record` is what stands in the store (an earlier writer's where there was one), `cost` (pico-dollars)
    what this batch's share of the bill was."""

    record: StoredVector
    stored: bool
    cost: int


@dataclass(frozen=True, slots=True)
class Order:
    """One batch to buy. `flights` are its rows (none where the store failed or the caller flies alone).

    `fresh`: the caller wants what is bought now, even where an earlier vector stands in the store.
    `boarded`: when the leases began, on the monotonic clock. `once`: what may have been accepted and billed
    is left in doubt, not tried again. `keep`: seconds that the outcome stays in the rows. `verdicts`: where
    not every vector is stored for the configured TTL.
    """

    route: Route
    items: tuple[Item, ...]
    flights: dict[bytes, Flight]
    options: EmbedOptions
    store: bool
    overwrite: bool
    fresh: bool
    boarded: float
    payer: Caller
    once: bool = False
    keep: float = OUTCOME_SECONDS
    verdicts: Mapping[bytes, Verdict] = field(default_factory=dict)


class _Promise:
    """The money of one purchase: an upper bound for each call that may be billed.

    :raises EmbedonceError: the payer may not spend it
    """

    def __init__(self, purse: Purse, payer: Caller, most: int) -> None:
        self._purse = purse
        self._payer = payer
        self._most = most
        self._reservation = purse.reserve(payer, most)

    def again(self) -> bool:
        """For another call, after one that was perhaps billed. False: the payer may not spend it."""
        self._reservation.doubt()
        try:
            self._reservation = self._purse.reserve(self._payer, self._most)
        except EmbedonceError:
            return False
        return True

    def settle(self, cost: int) -> None:
        self._reservation.settle(cost)

    def failed(self, *, billed: bool) -> None:
        if billed:
            self._reservation.doubt()
        else:
            self._reservation.release()


class Buyer:
    def __init__(
        self,
        router: Router,
        vectors: VectorStore,
        flights: Flights,
        clock: Clock,
        telemetry: Telemetry,
        purse: Purse,
        *,
        ttl_seconds: int,
        held: FirstSights | None = None,
    ) -> None:
        """`held`: where vectors go that are not stored, by the verdicts of an order."""
        self._router = router
        self._vectors = vectors
        self._flights = flights
        self._clock = clock
        self._telemetry = telemetry
        self._purse = purse
        self._ttl = ttl_seconds
        self._held = held

    @property
    def attempt_timeout(self) -> float:
        """Seconds that one call may take."""
        return self._router.attempt_timeout

    def buy(self, order: Order, deadline: Deadline) -> dict[bytes, Bought]:
        """By fingerprint. Flights are landed or failed in any case.

        :raises EmbedonceError: the upstream's failure as the caller sees it
        """
        batch = batch_id(item.fetch.fingerprint for item in order.items)
        self._check_lead(order, deadline)
        promise = self._promise(order)
        try:
            purchase = self._router.embed(
                order.route,
                self._call(order),
                deadline,
                self._renewer(order, promise),
                once=order.once,
            )
        except UpstreamFailure as failure:
            promise.failed(billed=failure.billed)
            error = failure.error()
            if order.once and failure.billed:
                self._flights.doubt(order.flights)
                raise error from None
            wait = self._flights.fail(order.flights, error, batch=batch, billed=failure.billed)
            if error.retryable:
                error.retry_after = max(1.0, wait, error.retry_after or 0.0)
            raise error from None
        except EmbedonceError:
            # Ours, not the provider's (its key cannot be read): nothing was sent, so nobody has to back off.
            promise.failed(billed=False)
            self._flights.abandon(order.flights)
            raise
        except Exception:
            promise.failed(billed=True)
            unknown = ServiceUnavailable("internal error while asking the provider")
            if order.once:
                self._flights.doubt(order.flights)
                raise
            self._flights.fail(order.flights, unknown, batch=batch, billed=True)
            raise
        records = self._records(order, purchase)
        bought = self._keep(order, records)
        landed = {fp: b.record for fp, b in bought.items()}
        self._flights.land(order.flights, landed, keep=order.keep)
        promise.settle(sum(record.cost for record in records))
        return bought

    def _promise(self, order: Order) -> _Promise:
        """:raises EmbedonceError: the payer may not spend it; whoever else needs the vectors leads at once"""
        offers = [offer for _, offer in order.route.candidates]
        most = most_of((item.content for item in order.items), order.options.model, offers)
        try:
            return _Promise(self._purse, order.payer, most)
        except EmbedonceError:
            self._flights.abandon(order.flights)
            raise

    def _check_lead(self, order: Order, deadline: Deadline) -> None:
        """Nothing is asked without time for an answer, nor under a lease that ran out in the queue.

        :raises DeadlineExceeded: no time is left; whoever needs the vectors next leads at once
        :raises ServiceUnavailable: another request has taken over meanwhile
        """
        now = self._clock.monotonic()
        if deadline.remaining(now) < LEAST_USEFUL_SECONDS:
            self._flights.abandon(order.flights)
            raise DeadlineExceeded("no time was left to ask the provider", retry_after=1)
        if now - order.boarded < QUEUE_SECONDS:
            return
        lease = min(deadline.remaining(now), self._router.attempt_timeout)
        if not self._flights.renew(order.flights, lease=lease, billed=False):
            self._flights.abandon(order.flights)
            raise ServiceUnavailable("another request is at this input now", retry_after=1)

    def _call(self, order: Order) -> UpstreamCall:
        options = order.options
        return UpstreamCall(
            model=options.model,
            contents=tuple(item.content for item in order.items),
            dimensions=order.items[0].fetch.dimensions,
            parameters=order.route.offer.sends(options),
            passthrough=options.passthrough,
            headers=options.headers,
        )

    def _renewer(self, order: Order, promise: _Promise) -> Callable[[float, bool], bool]:
        def renew(seconds: float, billed: bool) -> bool:
            if billed and not promise.again():
                return False
            kept = self._flights.renew(order.flights, lease=seconds, billed=billed)
            if not kept:
                promise.failed(billed=False)  # what was held for the call that is not made
            return kept

        return renew

    def _records(self, order: Order, purchase: Purchase) -> list[StoredVector]:
        now = int(self._clock.now())
        model: Model = order.options.model
        modality = order.items[0].modality
        said = purchase.answer.tokens
        guessed = [estimated_tokens(item.content) for item in order.items]
        tokens = apportion(said, guessed) if said else guessed
        price = purchase.offer.prices.get(modality)
        cost = purchase.answer.cost
        if cost is None:
            cost = price.of(sum(tokens)) if price else 0
        return [
            StoredVector(
                data=data,
                model=model.id,
                lineage=purchase.offer.lineage,
                upstream=purchase.upstream,
                modality=modality,
                tokens=count,
                cost=share,
                created=now,
                expires=now + self._ttl_of(item, order),
                estimated=not said,
            )
            for item, data, count, share in zip(
                order.items, purchase.answer.vectors, tokens, apportion(cost, tokens), strict=True
            )
        ]

    def _ttl_of(self, item: Item, order: Order) -> int:
        verdict = order.verdicts.get(item.fetch.fingerprint)
        return verdict.ttl_seconds if verdict is not None and verdict.keep else self._ttl

    def _keep(self, order: Order, records: Sequence[StoredVector]) -> dict[bytes, Bought]:
        bought = list(zip(order.items, records, strict=True))
        kept = [(item.fetch, record) for item, record in bought if self._admitted(item, order)]
        standing: dict[bytes, StoredVector] = {}
        if kept:
            try:
                winners = self._vectors.put_many(kept, overwrite=order.overwrite)
                standing = {
                    key.fingerprint: winner
                    for (key, _), winner in zip(kept, winners, strict=True)
                    if winner is not None
                }
            except StoreUnavailable:
                self._telemetry.event("vector_store_unavailable", during="put")
            missed = len(kept) - len(standing)
            if missed:
                self._telemetry.count("VectorsNotStored", missed)
        if order.store and order.verdicts:
            self._hold(order, bought, standing)
        return {
            (fingerprint := item.fetch.fingerprint): self._bought(order, record, standing.get(fingerprint))
            for item, record in bought
        }

    @staticmethod
    def _admitted(item: Item, order: Order) -> bool:
        """Whether it is to be stored. What replaces a stored vector always is."""
        verdict = order.verdicts.get(item.fetch.fingerprint)
        return order.store and (verdict is None or verdict.keep or order.overwrite)

    def _hold(
        self,
        order: Order,
        bought: Sequence[tuple[Item, StoredVector]],
        standing: Mapping[bytes, StoredVector],
    ) -> None:
        """First sights. The sample is held as if it were not stored, which shows what holding is good for."""
        if self._held is None:
            return
        for item, record in bought:
            fingerprint = item.fetch.fingerprint
            verdict, stood = order.verdicts.get(fingerprint), standing.get(fingerprint)
            if stood is None and verdict is not None and not self._admitted(item, order):
                self._held.put(item.fetch, record, replace=order.overwrite)
            elif stood is not None and verdict is not None and verdict.sampled:
                self._held.put(item.fetch, stood)
            else:
                self._held.discard([item.fetch])

    @staticmethod
    def _bought(order: Order, record: StoredVector, stood: StoredVector | None) -> Bought:
        if stood is None or (order.fresh and stood != record):
            return Bought(record, stored=False, cost=record.cost)
        return Bought(stood, stored=True, cost=record.cost)
