"""Buying one upstream batch, in a thread of its own: call, validate, store, land.

What was paid for is kept even when the request that wanted it has run out of time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
from embedonce.ports import Clock, Telemetry, UpstreamCall, VectorStore
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
    is left in doubt, not tried again. `keep`: seconds that the outcome stays in the rows.
    """

    route: Route
    items: tuple[Item, ...]
    flights: dict[bytes, Flight]
    options: EmbedOptions
    store: bool
    overwrite: bool
    fresh: bool
    boarded: float
    once: bool = False
    keep: float = OUTCOME_SECONDS


class Buyer:
    def __init__(
        self,
        router: Router,
        vectors: VectorStore,
        flights: Flights,
        clock: Clock,
        telemetry: Telemetry,
        *,
        ttl_seconds: int,
    ) -> None:
        self._router = router
        self._vectors = vectors
        self._flights = flights
        self._clock = clock
        self._telemetry = telemetry
        self._ttl = ttl_seconds

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
        try:
            purchase = self._router.embed(
                order.route,
                self._call(order),
                deadline,
                self._renewer(order.flights),
                once=order.once,
            )
        except UpstreamFailure as failure:
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
            self._flights.abandon(order.flights)
            raise
        except Exception:
            unknown = ServiceUnavailable("internal error while asking the provider")
            if order.once:
                self._flights.doubt(order.flights)
                raise
            self._flights.fail(order.flights, unknown, batch=batch, billed=True)
            raise
        bought = self._keep(order, self._records(order, purchase))
        landed = {fp: b.record for fp, b in bought.items()}
        self._flights.land(order.flights, landed, keep=order.keep)
        return bought

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

    def _renewer(self, flights: dict[bytes, Flight]) -> Callable[[float, bool], bool]:
        return lambda seconds, billed: self._flights.renew(flights, lease=seconds, billed=billed)

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
                expires=now + self._ttl,
                estimated=not said,
            )
            for data, count, share in zip(
                purchase.answer.vectors, tokens, apportion(cost, tokens), strict=True
            )
        ]

    def _keep(self, order: Order, records: Sequence[StoredVector]) -> dict[bytes, Bought]:
        standing: Sequence[StoredVector | None] = [None] * len(records)
        if order.store:
            entries = [(item.fetch, record) for item, record in zip(order.items, records, strict=True)]
            try:
                standing = self._vectors.put_many(entries, overwrite=order.overwrite)
            except StoreUnavailable:
                self._telemetry.event("vector_store_unavailable", during="put")
            missed = sum(record is None for record in standing)
            if missed:
                self._telemetry.count("VectorsNotStored", missed)
        return {
            item.fetch.fingerprint: self._bought(order, record, stood)
            for item, record, stood in zip(order.items, records, standing, strict=True)
        }

    @staticmethod
    def _bought(order: Order, record: StoredVector, stood: StoredVector | None) -> Bought:
        if stood is None or (order.fresh and stood != record):
            return Bought(record, stored=False, cost=record.cost)
        return Bought(stood, stored=True, cost=record.cost)
