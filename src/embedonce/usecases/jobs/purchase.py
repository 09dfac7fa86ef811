"""Buying for a ticket: handed over once, or bought at once, and never a second time without knowing.

`Submitting` stands in the flight's row before anything is sent, so that a crash, a time-out or an unreadable
answer leaves a row that says: perhaps accepted. Only what was certainly not accepted is tried again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from embedonce.access.authenticate import Caller
from embedonce.accounting.claim import Claim, most_of
from embedonce.accounting.purse import Purse
from embedonce.core import flight as machine
from embedonce.core.catalog import estimated_tokens
from embedonce.core.deadline import Deadline
from embedonce.core.errors import EmbedonceError, ServiceUnavailable, StoreUnavailable
from embedonce.core.flight import (
    JOB_OUTCOME_SECONDS,
    UNSTORED_SECONDS,
    Flight,
    Leading,
    Submitting,
    Waybill,
)
from embedonce.core.options import EmbedOptions
from embedonce.core.plan import Item
from embedonce.core.record import StoredVector
from embedonce.core.validation import subject_of
from embedonce.ports import Clock, SubmittingUpstream, Telemetry, UpstreamCall
from embedonce.upstreams.failure import CERTAINLY_NOT_ACCEPTED, Kind, UpstreamFailure
from embedonce.upstreams.router import LEAST_USEFUL_SECONDS, Route
from embedonce.usecases.flights import Flights, batch_id
from embedonce.usecases.purchase import Buyer, Order

CLAIM_SECONDS = 7200.0
"""How long the money of a job is held before it counts as perhaps billed: providers are done long before."""
WRITE_PAUSES = (0.1, 0.5, 2.0, 5.0)
"""Seconds between attempts to write down what a provider has accepted: it is known nowhere else."""


@dataclass(frozen=True, slots=True)
class Errand:
    """One content to buy. `once`: the upstream it is handed to once, as `Submitting` says it; None: a text
    that may be bought again when whoever buys it dies."""

    item: Item
    route: Route
    options: EmbedOptions
    keep: bool
    overwrite: bool
    payer: Caller

    @property
    def submits(self) -> bool:
        return self.route.offer.submits

    @property
    def once(self) -> str | None:
        if self.submits or not (self.item.content.is_text or self._free):
            return self.route.candidates[0][0].name
        return None

    @property
    def _free(self) -> bool:
        """It may be asked again for nothing: the offline model."""
        return all(price.per_token == 0 for price in self.route.offer.prices.values())

    def may_be_bought_again(self, below: int | None) -> bool:
        """By price: `below` in pico-dollars; None: never."""
        if below is None:
            return False
        price = self.route.offer.prices.get(self.item.modality)
        return price is not None and price.of(estimated_tokens(self.item.content)) < below


class Shopper:
    def __init__(
        self,
        buyer: Buyer,
        flights: Flights,
        clock: Clock,
        telemetry: Telemetry,
        purse: Purse,
        *,
        submit_timeout: float,
    ) -> None:
        self._buyer = buyer
        self._flights = flights
        self._clock = clock
        self._telemetry = telemetry
        self._purse = purse
        self._submit_timeout = submit_timeout

    def lease(self, errand: Errand, attempt_timeout: float) -> float:
        """Seconds that one attempt may take."""
        return self._submit_timeout if errand.submits else attempt_timeout

    def go(self, errand: Errand, led: Flight, deadline: Deadline) -> StoredVector | None:
        """The vector, or None where a provider has the job now. `led` is the row this process leads with.

        :raises EmbedonceError: as the row says by then
        """
        if not errand.submits:
            return self._buy(errand, errand.route, led, deadline)
        try:
            self._submit(errand, led, deadline)
        except UpstreamFailure as failure:
            elsewhere = failure.unsaid or failure.kind in {*CERTAINLY_NOT_ACCEPTED, Kind.MISCONFIGURED}
            if elsewhere and len(errand.route.candidates) > 1:
                return self._elsewhere(errand, led, deadline)
            raise self._failed(errand, led, failure) from None
        return None

    def give_up(self, led: Flight) -> None:
        """Nothing was sent: say so, or the row would be taken for one that nobody knows about."""
        try:
            self._write_down(machine.abandon(led, now=self._clock.now()), led)
        except ServiceUnavailable:
            self._telemetry.event("flight_not_abandoned")

    def _elsewhere(self, errand: Errand, led: Flight, deadline: Deadline) -> StoredVector:
        """At the other upstreams of the lineage, under a lease that is theirs."""
        flights = {led.fingerprint: led}
        lease = min(self._buyer.attempt_timeout, deadline.remaining(self._clock.monotonic()))
        if not self._flights.renew(flights, lease=lease, billed=False):
            raise ServiceUnavailable("another worker is at this input now", retry_after=1)
        return self._buy(errand, Route(errand.route.candidates[1:]), flights[led.fingerprint], deadline)

    def _left(self, led: Flight, deadline: Deadline) -> float:
        """Seconds in which a call may be made: of the process's time, and of the lease on the wall clock,
        which goes on while a machine sleeps.

        :raises UpstreamFailure: REFUSED, none
        """
        state = led.state
        lease = state.lease_until - self._clock.now() if isinstance(state, Leading | Submitting) else 0.0
        left = min(deadline.remaining(self._clock.monotonic()), lease)
        if left < LEAST_USEFUL_SECONDS:
            raise UpstreamFailure(Kind.REFUSED, "no time was left to hand it to the provider", retry_after=1)
        return left

    def _buy(self, errand: Errand, route: Route, led: Flight, deadline: Deadline) -> StoredVector:
        try:
            self._left(led, deadline)
        except UpstreamFailure as late:
            raise self._failed(errand, led, late) from None
        name = errand.item.fetch.fingerprint
        flights = {name: led}
        order = Order(
            route=route,
            items=(errand.item,),
            flights=flights,
            options=errand.options,
            store=errand.keep,
            overwrite=errand.overwrite,
            payer=errand.payer,
            fresh=led.fingerprint != name,
            boarded=self._clock.monotonic(),
            once=errand.once is not None,
            keep=JOB_OUTCOME_SECONDS if errand.keep else UNSTORED_SECONDS,
        )
        bought = self._buyer.buy(order, deadline)[name]
        row = flights[name]
        if not isinstance(row.state, machine.Landed):
            stored = errand.keep and bought.stored
            keep = JOB_OUTCOME_SECONDS if stored else UNSTORED_SECONDS
            try:
                self._write_down(machine.land(row, bought.record, now=self._clock.now(), keep=keep), row)
            except ServiceUnavailable:
                if not stored:
                    raise
        return bought.record

    def _submit(self, errand: Errand, led: Flight, deadline: Deadline) -> None:
        """:raises UpstreamFailure: it was not accepted, or nobody knows"""
        left = self._left(led, deadline)
        claim = self._claim(errand, led)
        try:
            self._hand_over(errand, led, left, claim)
        except UpstreamFailure as failure:
            if claim is not None:
                (self._purse.doubt_claim if failure.billed else self._purse.release_claim)(claim)
            raise
        except ServiceUnavailable:  # accepted, and not written down
            if claim is not None:
                self._purse.doubt_claim(claim)
            raise

    def _claim(self, errand: Errand, led: Flight) -> Claim | None:
        """The money, until the provider's answer.

        :raises EmbedonceError: the payer may not spend it
        """
        offer = errand.route.offer
        most = most_of((errand.item.content,), errand.options.model, (offer,))
        try:
            return self._purse.claim(errand.payer, most, until=self._clock.now() + CLAIM_SECONDS)
        except EmbedonceError:
            self.give_up(led)
            raise

    def _hand_over(self, errand: Errand, led: Flight, left: float, claim: Claim | None) -> None:
        upstream = cast("SubmittingUpstream", errand.route.candidates[0][0])
        self._telemetry.count("UpstreamCalls", upstream=upstream.name)
        try:
            handle = upstream.submit(_call(errand), timeout=min(left, self._submit_timeout))
        except ServiceUnavailable as no_key:
            raise UpstreamFailure(Kind.REFUSED, no_key.message, retry_after=no_key.retry_after) from None
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError):
            raise UpstreamFailure(
                Kind.INVALID, f"{upstream.name} gave an answer that cannot be read"
            ) from None
        now = self._clock.now()
        self._telemetry.count("JobsSubmitted")
        self._write_down(machine.submitted(led, handle, _waybill(errand, claim), now=now), led)

    def _write_down(self, changed: Flight, over: Flight) -> None:
        """:raises ServiceUnavailable: in vain; the row says that the outcome is unknown"""
        for pause in (*WRITE_PAUSES, None):
            try:
                if not self._flights.swap(changed, over):
                    self._telemetry.count("FlightsLost")
                return
            except StoreUnavailable:
                self._telemetry.count("FlightStoreErrors")
                if pause is not None:
                    self._clock.sleep(pause)
        self._telemetry.count("JobsNotWrittenDown")
        raise ServiceUnavailable("what the provider accepted could not be written down", retry_after=5)

    def _failed(self, errand: Errand, led: Flight, failure: UpstreamFailure) -> EmbedonceError:
        name = errand.route.candidates[0][0].name
        self._telemetry.count("UpstreamFailures", upstream=name)
        if failure.kind is Kind.BUSY:
            self._telemetry.count("UpstreamRateLimited", upstream=name)
        self._telemetry.event(
            "upstream_failure", upstream=name, kind=failure.kind.value, said=failure.message
        )
        flights = {errand.item.fetch.fingerprint: led}
        error = failure.error()
        if failure.billed:
            self._flights.doubt(flights)  # whoever joins next is told so, or buys again by policy
            return error
        wait = self._flights.fail(flights, error, batch=batch_id(flights), billed=False)
        if error.retryable:
            error.retry_after = max(1.0, wait, error.retry_after or 0.0)
        return error


def _call(errand: Errand) -> UpstreamCall:
    options = errand.options
    return UpstreamCall(
        model=options.model,
        contents=(errand.item.content,),
        dimensions=errand.item.fetch.dimensions,
        parameters=errand.route.offer.sends(options),
        passthrough=options.passthrough,
        headers=options.headers,
    )


def _waybill(errand: Errand, claim: Claim | None) -> Waybill:
    item = errand.item
    return Waybill(
        model=errand.options.model.id,
        lineage=errand.route.offer.lineage,
        modality=item.modality,
        dimensions=item.fetch.dimensions,
        subject=subject_of(item.content),
        tokens=estimated_tokens(item.content),
        fingerprint=item.fetch.fingerprint,
        key_dimensions=item.fetch.dimensions,
        keep=errand.keep,
        overwrite=errand.overwrite,
        claim="" if claim is None else claim.encode(),
    )
