"""Embed contents: look up, derive, fly for what is missing, answer from the stored float32."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from embedonce.accounting.accounts import Accounts
from embedonce.core.answer import Answered, EmbedResult, Origin
from embedonce.core.cachecontrol import CacheControls
from embedonce.core.catalog import check_content, estimated_tokens
from embedonce.core.content import Content, TextPart
from embedonce.core.errors import (
    DeadlineExceeded,
    NotCached,
    ServiceUnavailable,
    WouldBlock,
)
from embedonce.core.fingerprint import Namespace
from embedonce.core.patience import Patience
from embedonce.core.plan import Item
from embedonce.ports import Clock, MediaResolver, Telemetry, VectorMemory, VectorStore
from embedonce.usecases.departure import Departures
from embedonce.usecases.finding import Asked, Finder
from embedonce.usecases.jobs.lane import Boarded, SlowLane, is_slow
from embedonce.usecases.jobs.submit import Parcel, parcel
from embedonce.usecases.planning import Planner
from embedonce.usecases.request import EmbedRequest
from embedonce.usecases.trip import Departure

if TYPE_CHECKING:
    from embedonce.usecases.admission import Admission

PARALLEL_PURCHASES = 32
"""Of what is answered together, at most as many are bought at a time."""


class EmbedContents:
    def __init__(
        self,
        planner: Planner,
        vectors: VectorStore,
        memory: VectorMemory,
        departures: Departures,
        media: MediaResolver,
        clock: Clock,
        telemetry: Telemetry,
        accounts: Accounts,
        *,
        lane: SlowLane | None = None,
        admission: Admission | None = None,
    ) -> None:
        """`admission`: what is kept under `pays`; None: everything."""
        self._lane = lane
        self._admission = admission
        self._planner = planner
        self._rates = accounts.rates
        self._meter = accounts.meter
        self._media = media
        self._finder = Finder(vectors, memory, clock, telemetry, admission)
        self._departures = departures
        self._clock = clock
        self._telemetry = telemetry

    def __call__(self, request: EmbedRequest) -> EmbedResult:
        """:raises EmbedonceError: the request as a whole fails; what was bought meanwhile is kept
        :raises WouldBlock: more is needed than the request has patience for
        """
        return self.together((request,))[0]

    def together(self, requests: Sequence[EmbedRequest]) -> list[EmbedResult]:
        """What came in as one request, and differs in `drafts` and `options` only, not in the model: media
        are resolved once, nothing is paid for one before all of them are known to be good, and what is
        missing is bought at the same time. Raises as above.
        """
        caller, patience = requests[0].caller, requests[0].patience
        limited, counted = caller.limits.rated, 0
        if limited:  # before media are fetched for it
            self._rates.admit(caller, 0, patience=patience)
        try:
            contents = self._apart(requests, whole=False)
            if limited:
                tokens = sum(estimated_tokens(content) for each in contents for content in each)
                self._rates.admit(caller, tokens, requests=0, patience=patience)
                counted = tokens
            results = self._answer(requests, contents)
        except WouldBlock:
            if limited:
                self._rates.forget(caller, counted)
            raise
        if results is None:  # something unchanged is not in the cache after all: its bytes are needed
            results = self._answer(requests, self._apart(requests, whole=True))
        assert results is not None
        self._meter.answered(caller.key_id, results, remembered=patience is Patience.MEMORY)
        return results

    def _apart(self, requests: Sequence[EmbedRequest], *, whole: bool) -> list[tuple[Content, ...]]:
        """The contents of each, within the limits of one request."""
        if len(requests) == 1:
            return [self._contents(requests[0], whole=whole)]
        drafts = tuple(draft for request in requests for draft in request.drafts)
        contents = iter(self._contents(replace(requests[0], drafts=drafts), whole=whole))
        return [tuple(islice(contents, len(request.drafts))) for request in requests]

    def _contents(self, request: EmbedRequest, *, whole: bool) -> tuple[Content, ...]:
        """The drafts as contents that the model takes."""
        drafts = request.drafts
        if request.contents is not None:
            contents = request.contents
        elif all(draft.is_text for draft in drafts):
            contents = tuple(Content(tuple(p for p in d.parts if isinstance(p, TextPart))) for d in drafts)
        elif request.patience < Patience.PROVIDERS:
            raise WouldBlock
        else:
            contents = self._media.resolve(
                drafts,
                namespace=self._namespace(request),
                owner=request.caller.key_id,
                deadline=request.deadline,
                whole=whole or not request.controls.reads,
                remember=not request.controls.no_store,
            )
        for draft, content in zip(drafts, contents, strict=True):
            check_content(request.options.model, content, draft.param)
        return contents

    @staticmethod
    def _namespace(request: EmbedRequest) -> Namespace:
        return Namespace(request.caller.namespace, request.namespace)

    def _answer(
        self, requests: Sequence[EmbedRequest], contents: Sequence[Sequence[Content]]
    ) -> list[EmbedResult] | None:
        """None: what is missing would have to be sent, and is not all loaded."""
        controls, patience = requests[0].controls, requests[0].patience
        plans = [self._plan(request, each) for request, each in zip(requests, contents, strict=True)]
        if patience is Patience.MEMORY:
            for plan in plans:
                plan.found = self._finder.remember(plan.items, controls)
            return [self._result(plan) for plan in plans]
        if controls.reads:
            self._finder.look_up(plans, controls)
        missing = [item for plan in plans for item in plan.missing]
        quick = [item for plan in plans for item in plan.missing if not self._rides(plan, item)]
        if not all(item.content.loaded for item in quick) and not controls.only_if_cached:
            return None
        if missing and controls.only_if_cached:
            items = sum(len(plan.items) for plan in plans)
            raise NotCached(f"{len(missing)} of {items} different inputs are not in the cache")
        if missing and patience < Patience.PROVIDERS:
            raise WouldBlock
        if missing:
            self._buy_all([plan for plan in plans if plan.missing], controls)
        return [self._result(plan) for plan in plans]

    def _plan(self, request: EmbedRequest, contents: Sequence[Content]) -> Asked:
        params = [draft.param for draft in request.drafts]
        plan = self._planner(contents, params, request.options, self._namespace(request), request.patience)
        verdicts = {}
        if self._admission is not None:
            model = request.options.model
            verdicts = {i.fetch.fingerprint: self._admission.verdict(i, model) for i in plan.items}
        return Asked(request, contents, plan.routes, plan.items, verdicts=verdicts)

    def _buy_all(self, plans: Sequence[Asked], controls: CacheControls) -> None:
        """At once, but for those of which something can be cut from what another one buys."""
        if len(plans) == 1:
            self._buy(plans[0])
            return
        coming: set[bytes] = set()
        if controls.reads and not controls.no_store:
            coming = {item.fetch.fingerprint for plan in plans for item in plan.missing}
        first: list[Asked] = []
        later: list[Asked] = []
        for plan in plans:
            sources = (item.source.fingerprint for item in plan.missing if item.source is not None)
            (first if coming.isdisjoint(sources) else later).append(plan)
        self._buy_at_once(first)
        if later:
            self._finder.look_up(later, controls)
            self._buy_at_once([plan for plan in later if plan.missing])

    def _buy_at_once(self, plans: Sequence[Asked]) -> None:
        """:raises EmbedonceError: the first failure; what was begun is waited for, what was not is left"""
        if len(plans) < 2:
            for plan in plans:
                self._buy(plan)
            return
        deadline = plans[0].request.deadline

        def left() -> float:
            return deadline.remaining(self._clock.monotonic())

        pool = ThreadPoolExecutor(min(len(plans), PARALLEL_PURCHASES), thread_name_prefix="together")
        try:
            futures = [pool.submit(self._buy, plan) for plan in plans]
            done, running = wait(futures, left(), FIRST_EXCEPTION)
            wait([future for future in running if not future.cancel()], left())
            for future in futures:
                if future in done:
                    future.result()
            if running:
                raise DeadlineExceeded(
                    "there was no answer in time; what has arrived is kept, so trying again continues",
                    retry_after=2,
                )
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _buy(self, plan: Asked) -> None:
        missing = plan.missing
        slow = [item for item in missing if self._rides(plan, item)]
        waiting: Sequence[Boarded] = ()
        live: Sequence[Item] = ()  # without a queue they are bought as long as the caller waits
        if slow and self._lane is not None:
            parcels = [(item, self._parcel(plan, item)) for item in slow]
            waiting, live = self._lane.depart(parcels, plan.request.caller)
            if not all(item.content.loaded for item in live):
                raise ServiceUnavailable("the request cannot be queued right now; try again", retry_after=2)
        queued = {boarded.item.fetch.fingerprint for boarded in waiting}
        quick = [item for item in missing if item.fetch.fingerprint not in queued]
        departure = Departure(
            routes=plan.routes,
            options=plan.request.options,
            controls=plan.request.controls,
            stale=frozenset(plan.stale),
            deadline=plan.request.deadline,
            once=frozenset(item.fetch.fingerprint for item in live),
            adopt=lambda item: self._adopt(plan, item),
            bought=plan.request.bought,
            payer=plan.request.caller,
            verdicts=plan.verdicts,
        )
        arrived = dict(self._departures.fly(quick, departure)) if quick else {}
        if waiting and self._lane is not None:
            arrived |= self._lane.arrive(waiting, plan.request.deadline)
        for fingerprint, landed in arrived.items():
            origin = Origin.MISS if landed.bought else Origin.COLLAPSED
            ticketed = fingerprint in queued
            plan.found[fingerprint] = Answered(
                landed.record, origin, landed.stored, landed.cost, ticketed=ticketed
            )

    def _adopt(self, plan: Asked, item: Item) -> None:
        """What a provider has accepted, and nobody asks for any more: a ticket sees to it."""
        if self._lane is not None and item.content.loaded:
            self._lane.depart([(item, self._parcel(plan, item))], plan.request.caller)

    def _rides(self, plan: Asked, item: Item) -> bool:
        """Whether it is bought through the queue: what is slow, and shares its flight with others."""
        c = plan.request.controls
        alone = c.no_store or not c.reads or item.fetch.fingerprint in plan.stale
        return self._lane is not None and is_slow(item.content) and not alone

    @staticmethod
    def _parcel(plan: Asked, item: Item) -> Parcel:
        position = item.positions[0]
        return parcel(plan.request.drafts[position], plan.contents[position], plan.request)

    def _result(self, plan: Asked) -> EmbedResult:
        self._finder.learn(plan)
        order = [0] * len(plan.contents)
        answers: list[Answered] = []
        for index, item in enumerate(plan.items):
            answered = plan.found[item.fetch.fingerprint]
            record = item.answer(answered.record)
            if record is not answered.record:
                answered = replace(answered, record=record)
            answers.append(answered)
            for position in item.positions:
                order[position] = index
        misses = sum(answered.origin is Origin.MISS for answered in answers)
        derived = sum(answered.origin is Origin.DERIVED for answered in answers)
        for name, number in (("Hits", len(answers) - misses), ("Misses", misses), ("Derived", derived)):
            if number:
                self._telemetry.count(name, number)
        made_up = frozenset().union(*(r.offer.made_up & m for m, r in plan.routes.items()))
        fingerprints = tuple(item.fetch.fingerprint for item in plan.items)
        return EmbedResult(tuple(answers), tuple(order), made_up, fingerprints)
