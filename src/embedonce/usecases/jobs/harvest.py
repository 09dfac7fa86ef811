"""Asking a provider for what it accepted, and landing what it answers. One asks at a time, whoever dies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

from embedonce.accounting.claim import Claim
from embedonce.accounting.purse import Purse
from embedonce.core import flight as machine
from embedonce.core.catalog import Model
from embedonce.core.deadline import Deadline
from embedonce.core.errors import (
    EmbedonceError,
    NotFound,
    StoreUnavailable,
    UpstreamInvalid,
    UpstreamJobFailed,
)
from embedonce.core.flight import (
    JOB_OUTCOME_SECONDS,
    UNSTORED_SECONDS,
    Flight,
    Submitted,
    Waybill,
)
from embedonce.core.plan import VectorKey
from embedonce.core.record import StoredVector
from embedonce.ports import (
    Clock,
    JobFailed,
    JobUnknown,
    Pending,
    SubmittingUpstream,
    Telemetry,
    Upstream,
    UpstreamAnswer,
    VectorStore,
)
from embedonce.upstreams.failure import Kind, UpstreamFailure
from embedonce.upstreams.router import Router
from embedonce.usecases.flights import Flights, batch_id

SWAP_ROUNDS = 4


class Harvester:
    """`poll_timeout`: seconds that one question to a provider may take."""

    def __init__(
        self,
        router: Router,
        flights: Flights,
        vectors: VectorStore,
        find_model: Callable[[str], Model],
        clock: Clock,
        telemetry: Telemetry,
        purse: Purse,
        *,
        ttl_seconds: int,
        poll_timeout: float,
    ) -> None:
        self._router = router
        self._flights = flights
        self._vectors = vectors
        self._find_model = find_model
        self._clock = clock
        self._telemetry = telemetry
        self._purse = purse
        self._ttl = ttl_seconds
        self._poll_timeout = poll_timeout

    def ask(self, flight: Flight, deadline: Deadline, *, at_once: bool = False) -> Flight:
        """If it is time (or `at_once`), and nobody else is at it. The row as it stands then, as far as is
        known here.

        :raises StoreUnavailable: the provider may have answered; it will be asked again
        """
        state = flight.state
        assert isinstance(state, Submitted)
        now = self._clock.now()
        if now < state.poll_at and not at_once:
            return flight
        asking = machine.polled(flight, now=now)
        if not self._flights.swap(asking, flight):
            return flight
        answer = self._answer(state, deadline)
        match answer:
            case UpstreamAnswer():
                return self._land(asking, state, answer)
            case Pending():
                if answer.wait is None and not state.misses:
                    return asking
                return self._swapped(
                    machine.polled(asking, now=self._clock.now(), wait=answer.wait or 0.0), asking
                )
            case JobFailed():
                self._telemetry.count("JobsFailedUpstream")
                self._telemetry.event("upstream_job_failed", upstream=state.upstream, handle=state.handle)
                return self._fail(asking, state.waybill, _could_not(state.upstream))
            case JobUnknown():
                return self._missed(asking)

    def _answer(
        self, state: Submitted, deadline: Deadline
    ) -> UpstreamAnswer | Pending | JobFailed | JobUnknown:
        """A question that failed says nothing about the job."""
        upstream = self._upstream(state.upstream)
        if upstream is None:
            self._telemetry.event("upstream_gone", upstream=state.upstream)
            return Pending()
        bill = state.waybill
        try:
            model = self._find_model(bill.model)
            timeout = min(self._poll_timeout, deadline.remaining(self._clock.monotonic()))
            self._telemetry.count("UpstreamPolls")
            return upstream.poll(state.handle, model, bill.dimensions, timeout=timeout)
        except UpstreamFailure as failure:
            if failure.kind is Kind.INVALID:
                return UpstreamAnswer(vectors=())
            self._telemetry.count("UpstreamPollFailures")
            self._telemetry.event(
                "upstream_poll_failed", upstream=state.upstream, kind=failure.kind.value, said=failure.message
            )
            return Pending(failure.retry_after)
        except (EmbedonceError, NotFound):
            return Pending()
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as odd:
            self._telemetry.event("upstream_answer_unread", upstream=state.upstream, kind=type(odd).__name__)
            return UpstreamAnswer(vectors=())

    def _upstream(self, name: str) -> SubmittingUpstream | None:
        found: Sequence[Upstream] = [u for u in self._router.upstreams if u.name == name]
        return cast("SubmittingUpstream", found[0]) if found else None

    def _land(self, flight: Flight, state: Submitted, answer: UpstreamAnswer) -> Flight:
        bill = state.waybill
        try:
            self._router.check_one(state.upstream, answer, bill.dimensions, bill.subject)
        except UpstreamInvalid as invalid:
            self._telemetry.count("UpstreamFailures", upstream=state.upstream)
            # Paid, and the same question has the same answer: it is not bought again by itself.
            return self._fail(flight, bill, UpstreamJobFailed(invalid.message))
        record = self._record(state, answer)
        kept = record
        stored = False
        if bill.keep:
            entry = (VectorKey(bill.fingerprint, bill.key_dimensions), record)
            try:
                (stood,) = self._vectors.put_many((entry,), overwrite=bill.overwrite)
            except StoreUnavailable:
                stood = None
            stored = stood is not None
            if stood is not None and flight.fingerprint == bill.fingerprint:
                kept = stood
            if not stored:
                self._telemetry.count("VectorsNotStored")
        keep = JOB_OUTCOME_SECONDS if stored else UNSTORED_SECONDS
        landed = machine.land(flight, kept, now=self._clock.now(), keep=keep)
        try:
            standing = self._swapped(landed, flight)
        except StoreUnavailable:
            if not stored:
                raise
            return landed
        if standing.state is landed.state:
            self._settle(bill, record.cost)
        return standing

    def _settle(self, bill: Waybill, cost: int | None) -> None:
        """By whoever wrote the flight's end. `cost` None: it was perhaps billed, perhaps not."""
        if not bill.claim:
            return
        claim = Claim.decode(bill.claim)
        if cost is None:
            self._purse.doubt_claim(claim)
        else:
            self._purse.settle_claim(claim, cost)

    def _record(self, state: Submitted, answer: UpstreamAnswer) -> StoredVector:
        bill = state.waybill
        now = int(self._clock.now())
        tokens = answer.tokens or bill.tokens
        cost = answer.cost
        if cost is None:
            price = self._find_model(bill.model).price(bill.modality)
            cost = price.of(tokens) if price else 0
        return StoredVector(
            data=answer.vectors[0],
            model=bill.model,
            lineage=bill.lineage,
            upstream=state.upstream,
            modality=bill.modality,
            tokens=tokens,
            cost=cost,
            created=now,
            expires=now + self._ttl,
            estimated=not answer.tokens,
        )

    def _missed(self, flight: Flight) -> Flight:
        """Not believed at once: what was accepted a moment ago may not be known everywhere there."""
        state = flight.state
        assert isinstance(state, Submitted)
        self._telemetry.count("JobsUnknownUpstream")
        now = self._clock.now()
        if machine.is_lost(state, now=now):
            self._telemetry.event("upstream_job_lost", upstream=state.upstream, handle=state.handle)
            lost = machine.lost(flight, now=now)
            standing = self._swapped(lost, flight)
            if standing.state is lost.state:
                self._settle(state.waybill, None)
            return standing
        return self._swapped(machine.polled(flight, now=now, missed=True), flight)

    def _fail(self, flight: Flight, bill: Waybill, error: EmbedonceError) -> Flight:
        failed = machine.fail(
            flight,
            error,
            batch=batch_id((bill.fingerprint,)),
            billed=True,
            now=self._clock.now(),
            keep=JOB_OUTCOME_SECONDS,
        )
        standing = self._swapped(failed, flight)
        if standing.state is failed.state:
            self._settle(bill, None)
        return standing

    def _swapped(self, changed: Flight, over: Flight) -> Flight:
        """Also over what somebody else wrote meanwhile, as long as that only says that the provider is asked:
        an answer is not thrown away because another question was on its way."""
        for _ in range(SWAP_ROUNDS):
            if self._flights.swap(changed, over):
                return changed
            stood = self._flights.find(over.fingerprint)
            before = over.state
            if (
                stood is None
                or isinstance(changed.state, Submitted)
                or not isinstance(stood.state, Submitted)
                or not isinstance(before, Submitted)
                or stood.state.handle != before.handle
            ):
                return stood or over
            changed, over = replace(changed, version=stood.version + 1), stood
        return over


def _could_not(upstream: str) -> UpstreamJobFailed:
    return UpstreamJobFailed(
        f"{upstream} took the job and could not do it: blocked content, or an input it does not understand"
    )
