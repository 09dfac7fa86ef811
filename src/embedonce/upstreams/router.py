"""Which upstream is asked, in which order, how often: routing, failover inside one lineage, retries.

At most `MAX_ATTEMPTS` calls a batch, failover included. Only what was certainly not accepted is tried again,
honouring Retry-After and the deadline; after a timeout or a broken answer a text is tried once more, media
never (they are the expensive ones, and the first attempt may have been billed).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embedonce.core.catalog import Model
from embedonce.core.content import Modality
from embedonce.core.deadline import Deadline
from embedonce.core.errors import InvalidRequest, ServiceUnavailable, UpstreamInvalid
from embedonce.core.validation import checked_vectors
from embedonce.ports import Clock, Offer, Telemetry, Upstream, UpstreamAnswer, UpstreamCall
from embedonce.upstreams.failure import CERTAINLY_NOT_ACCEPTED, Kind, UpstreamFailure

MAX_ATTEMPTS = 3
FIRST_WAIT_SECONDS = 0.25
LEAST_USEFUL_SECONDS = 1.0
"""With less than this left an attempt is not begun: it would most likely be billed for nothing."""


@dataclass(frozen=True, slots=True)
class Route:
    """Upstreams of one lineage for one model and modality, in order of preference; never empty."""

    candidates: tuple[tuple[Upstream, Offer], ...]

    @property
    def offer(self) -> Offer:
        return self.candidates[0][1]

    def sendable(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Of a caller's parameters those that are sent, and so are part of the key."""
        return {k: v for k, v in parameters.items() if k in self.offer.parameters}


@dataclass(frozen=True, slots=True)
class Purchase:
    answer: UpstreamAnswer
    upstream: str
    offer: Offer


class Router:
    def __init__(
        self,
        upstreams: Sequence[Upstream],
        clock: Clock,
        telemetry: Telemetry,
        *,
        attempt_timeout: float,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.upstreams = tuple(upstreams)
        self.attempt_timeout = attempt_timeout
        self._clock = clock
        self._telemetry = telemetry
        self._jitter = jitter
        self._routes: dict[tuple[str, Modality], Route] = {}

    def route(self, model: Model, modality: Modality) -> Route:
        """:raises ServiceUnavailable: no upstream is configured for the model
        :raises InvalidRequest: the model's upstreams do not take this modality
        """
        known = self._routes.get((model.id, modality))
        if known is not None:
            return known
        offers = [(u, o) for u in self.upstreams if (o := u.offer(model)) is not None]
        if not offers:
            raise ServiceUnavailable(f"no upstream is configured for {model.id}", retry_after=60)
        able = [(u, o) for u, o in offers if modality in o.modalities]
        if not able:
            names = ", ".join(u.name for u, _ in offers)
            raise InvalidRequest(f"input: {modality} is not taken by {names} for {model.id}", param="input")
        lineage = able[0][1].lineage
        route = Route(tuple((u, o) for u, o in able if o.lineage == lineage))
        self._routes[model.id, modality] = route
        return route

    def embed(
        self, route: Route, call: UpstreamCall, deadline: Deadline, renew: Callable[[float, bool], bool]
    ) -> Purchase:
        """Buy one batch. `renew(seconds, billed)` is asked before each further attempt to keep the lead for
        that long, and told whether the last attempt may have been billed; False ends the matter.

        :raises UpstreamFailure: the last attempt's; its vectors were never believed
        """
        needed = frozenset(call.parameters)
        turns = [c for c in route.candidates if needed <= c[1].parameters]
        text_only = all(content.is_text for content in call.contents)
        attempt, doubted = 0, False
        while True:
            upstream, offer = turns[0]
            try:
                return self._attempt(upstream, offer, call, deadline)
            except UpstreamFailure as failure:
                attempt += 1
                self._telemetry.count("UpstreamFailures")
                self._telemetry.event(
                    "upstream_failure", upstream=upstream.name, kind=failure.kind.value, said=failure.message
                )
                match failure.kind:
                    case kind if kind in CERTAINLY_NOT_ACCEPTED:
                        again = True
                    case Kind.TIMEOUT | Kind.BROKEN:
                        again, doubted = text_only and not doubted, True
                    case Kind.MISCONFIGURED:
                        again = len(turns) > 1
                    case _:
                        again = False
                if not again or attempt >= MAX_ATTEMPTS:
                    raise
                wait = self._wait(attempt, failure, others=len(turns) > 1)
                turns = turns[1:] if failure.kind is Kind.MISCONFIGURED else [*turns[1:], turns[0]]
                left = deadline.remaining(self._clock.monotonic())
                if wait + LEAST_USEFUL_SECONDS > left or not renew(
                    wait + self.attempt_timeout, failure.billed
                ):
                    raise
                if wait:
                    self._clock.sleep(wait)

    def _attempt(self, upstream: Upstream, offer: Offer, call: UpstreamCall, deadline: Deadline) -> Purchase:
        left = deadline.remaining(self._clock.monotonic())
        if left < LEAST_USEFUL_SECONDS:
            raise UpstreamFailure(Kind.REFUSED, "no time was left to ask the provider", retry_after=1)
        self._telemetry.count("UpstreamCalls")
        answer = upstream.embed(call, timeout=min(left, self.attempt_timeout))
        try:
            checked_vectors(
                answer.vectors,
                call.contents,
                call.dimensions,
                upstream=upstream.name,
                distinct=offer.distinct,
            )
        except UpstreamInvalid as invalid:
            raise UpstreamFailure(Kind.INVALID, invalid.message) from None
        return Purchase(answer, upstream.name, offer)

    def _wait(self, attempt: int, failure: UpstreamFailure, *, others: bool) -> float:
        """Seconds before the next attempt: none when another upstream takes it."""
        if others:
            return 0.0
        backoff = FIRST_WAIT_SECONDS * 2.0 ** (attempt - 1) * (0.5 + self._jitter())
        return max(backoff, failure.retry_after or 0.0)
