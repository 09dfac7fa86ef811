"""Which upstream is asked, in which order, how often: routing, failover inside one lineage, retries.

At most `MAX_ATTEMPTS` calls a batch, failover included. Only what was certainly not accepted is tried again,
honouring Retry-After and the deadline; after a timeout or a broken answer a text is tried once more, media
never (they are the expensive ones, and the first attempt may have been billed). An upstream where every call
makes a new paid job (`Offer.retry_doubtful` False) is not asked again after such an answer, not even for a
text; another one may be.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from embedonce.core.catalog import Model
from embedonce.core.content import Modality
from embedonce.core.deadline import Deadline
from embedonce.core.errors import InvalidRequest, ServiceUnavailable, UpstreamInvalid
from embedonce.core.options import EmbedOptions
from embedonce.core.validation import checked_vectors, subject_of
from embedonce.ports import Clock, Offer, Telemetry, Upstream, UpstreamAnswer, UpstreamCall
from embedonce.upstreams.failure import CERTAINLY_NOT_ACCEPTED, Kind, UpstreamFailure
from embedonce.upstreams.repeats import Repeats

MAX_ATTEMPTS = 3
FIRST_WAIT_SECONDS = 0.25
LEAST_USEFUL_SECONDS = 1.0
"""With less than this left an attempt is not begun: it would most likely be billed for nothing."""


@dataclass(frozen=True, slots=True)
class Route:
    """Upstreams of one lineage for one model and set of modalities, in order of preference; never empty."""

    candidates: tuple[tuple[Upstream, Offer], ...]

    @property
    def offer(self) -> Offer:
        return self.candidates[0][1]

    def sending(self, options: EmbedOptions) -> Route:
        """The upstreams that pass on the most of what the client asked for (OpenRouter for its `input_type`,
        Google for its `taskType`), without those that would send other parameters: theirs is another key."""
        if len(self.candidates) == 1:
            return self
        sent = [offer.sends(options) for _, offer in self.candidates]
        best = max(sent, key=lambda each: len(each.keys() & options.parameters.keys()))
        return Route(tuple(c for c, each in zip(self.candidates, sent, strict=True) if each == best))


@dataclass(frozen=True, slots=True)
class Purchase:
    answer: UpstreamAnswer
    upstream: str
    offer: Offer


Observer = Callable[[str, float, str], None]
"""Told of every attempt: the upstream's name, seconds, and `ANSWERED` or the failure's kind."""
ANSWERED = "ok"


class Router:
    def __init__(
        self,
        upstreams: Sequence[Upstream],
        clock: Clock,
        telemetry: Telemetry,
        *,
        attempt_timeout: float,
        order: Mapping[Modality, Sequence[str]] | None = None,
        jitter: Callable[[], float] = random.random,
        observe: Observer | None = None,
    ) -> None:
        self.upstreams = tuple(upstreams)
        self.attempt_timeout = attempt_timeout
        self._order = order or {}
        self._clock = clock
        self._telemetry = telemetry
        self._jitter = jitter
        self._observe = observe
        self._routes: dict[tuple[str, frozenset[Modality]], Route] = {}
        self._repeats: dict[str, Repeats] = {}

    def with_timeout(self, attempt_timeout: float) -> Router:
        """The same upstreams, with another patience."""
        return Router(
            self.upstreams,
            self._clock,
            self._telemetry,
            attempt_timeout=attempt_timeout,
            order=self._order,
            jitter=self._jitter,
            observe=self._observe,
        )

    def route(self, model: Model, modalities: frozenset[Modality], param: str = "input") -> Route:
        """`param` names what has these modalities, for a refusal.

        :raises ServiceUnavailable: no upstream is configured for the model
        :raises InvalidRequest: none of the model's upstreams takes all of these modalities
        """
        known = self._routes.get((model.id, modalities))
        if known is not None:
            return known
        offers = [(u, o) for u in self.upstreams if (o := u.offer(model)) is not None]
        if not offers:
            raise ServiceUnavailable(f"no upstream is configured for {model.id}", retry_after=60)
        preferred = self._preferred(offers, modalities)
        able = [(u, o) for u, o in preferred if modalities <= o.modalities]
        if not able:
            names = ", ".join(u.name for u, _ in preferred) or "any upstream it is routed to"
            what = " with ".join(sorted(modalities))
            raise InvalidRequest(f"{param}: {what} is not taken by {names} for {model.id}", param=param)
        lineage = able[0][1].lineage
        route = Route(tuple((u, o) for u, o in able if o.lineage == lineage))
        self._routes[model.id, modalities] = route
        return route

    def _preferred(
        self, offers: list[tuple[Upstream, Offer]], modalities: frozenset[Modality]
    ) -> list[tuple[Upstream, Offer]]:
        """By the operator's order for a modality among these; media count before text."""
        for modality in sorted(modalities - {Modality.TEXT}) or [Modality.TEXT]:
            if names := self._order.get(modality):
                chosen = [(u, o) for u, o in offers if u.name in names]
                return sorted(chosen, key=lambda c: names.index(c[0].name))
        return offers

    def embed(
        self,
        route: Route,
        call: UpstreamCall,
        deadline: Deadline,
        renew: Callable[[float, bool], bool],
        *,
        once: bool = False,
    ) -> Purchase:
        """Buy one batch. `renew(seconds, billed)` is asked before each further attempt to keep the lead for
        that long, and told whether the last attempt may have been billed; False ends the matter. `once`: what
        may have been accepted is not tried again anywhere.

        :raises UpstreamFailure: the last attempt's; its vectors were never believed
        """
        turns = list(route.candidates)
        resting: dict[str, float] = {}
        text_only = not once and all(content.is_text for content in call.contents)
        attempt, doubted = 0, False
        while True:
            upstream, offer = turns[0]
            try:
                return self._attempt(upstream, offer, call, deadline, alone=len(turns) == 1)
            except UpstreamFailure as failure:
                attempt, gone = attempt + (not failure.unsaid), failure.unsaid
                self._telemetry.count("UpstreamFailures", upstream=upstream.name)
                self._telemetry.event(
                    "upstream_failure", upstream=upstream.name, kind=failure.kind.value, said=failure.message
                )
                match failure.kind:
                    case kind if kind in CERTAINLY_NOT_ACCEPTED:
                        again = True
                    case Kind.TIMEOUT | Kind.BROKEN:
                        gone = not offer.retry_doubtful
                        again, doubted = text_only and not doubted and (not gone or len(turns) > 1), True
                    case Kind.MISCONFIGURED:
                        gone, again = True, len(turns) > 1
                    case _:
                        again = failure.unsaid and len(turns) > 1
                if not again or attempt >= MAX_ATTEMPTS:
                    raise
                now = self._clock.monotonic()
                resting[upstream.name] = now + self._rest(attempt, failure)
                turns = turns[1:] if gone else [*turns[1:], turns[0]]
                wait = max(0.0, resting.get(turns[0][0].name, now) - now)
                left = deadline.remaining(now)
                if wait + LEAST_USEFUL_SECONDS > left or not renew(
                    wait + self.attempt_timeout, failure.billed
                ):
                    raise
                if wait:
                    self._clock.sleep(wait)

    def _attempt(
        self, upstream: Upstream, offer: Offer, call: UpstreamCall, deadline: Deadline, *, alone: bool
    ) -> Purchase:
        left = deadline.remaining(self._clock.monotonic())
        if left < LEAST_USEFUL_SECONDS:
            raise UpstreamFailure(Kind.REFUSED, "no time was left to ask the provider", retry_after=1)
        self._telemetry.count("UpstreamCalls", upstream=upstream.name)
        started = self._clock.monotonic()
        try:
            purchase = self._ask(upstream, offer, call, min(left, self.attempt_timeout), alone=alone)
        except UpstreamFailure as failure:
            self._observed(upstream.name, started, failure.kind.value)
            if failure.kind is Kind.BUSY:
                self._telemetry.count("UpstreamRateLimited", upstream=upstream.name)
            raise
        except ServiceUnavailable:
            self._observed(upstream.name, started, Kind.MISCONFIGURED.value)
            raise
        self._observed(upstream.name, started, ANSWERED)
        return purchase

    def _observed(self, upstream: str, started: float, outcome: str) -> None:
        seconds = self._clock.monotonic() - started
        self._telemetry.measure("UpstreamLatency", 1000 * seconds, "Milliseconds", upstream=upstream)
        if self._observe is not None:
            self._observe(upstream, seconds, outcome)

    def _ask(
        self, upstream: Upstream, offer: Offer, call: UpstreamCall, timeout: float, *, alone: bool
    ) -> Purchase:
        try:
            answer = upstream.embed(call, timeout=timeout)
        except ServiceUnavailable as no_key:
            if alone:
                raise
            raise UpstreamFailure(Kind.MISCONFIGURED, no_key.message) from None
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as odd:
            # An answer of a shape that no reader expected: as bad as any other wrong answer, and no crash.
            self._telemetry.event("upstream_answer_unread", upstream=upstream.name, kind=type(odd).__name__)
            message = f"{upstream.name} gave an answer that cannot be read"
            raise UpstreamFailure(Kind.INVALID, message) from None
        try:
            checked_vectors(
                answer.vectors,
                call.contents,
                call.dimensions,
                upstream=upstream.name,
                distinct=offer.distinct,
            )
            if offer.distinct:
                subjects = [subject_of(content) for content in call.contents]
                self._check_repeats(upstream.name, answer.vectors, subjects)
        except UpstreamInvalid as invalid:
            raise UpstreamFailure(Kind.INVALID, invalid.message) from None
        return Purchase(answer, upstream.name, offer)

    def check_one(
        self, upstream: str, answer: UpstreamAnswer, dimensions: int | None, subject: bytes
    ) -> None:
        """The same for what was submitted before: one vector, whose content is not at hand any more.

        :raises UpstreamInvalid: it must be neither stored nor returned
        """
        checked_vectors(answer.vectors, (None,), dimensions, upstream=upstream, distinct=False)
        self._check_repeats(upstream, answer.vectors, (subject,))

    def _check_repeats(self, upstream: str, vectors: Sequence[bytes], subjects: Sequence[bytes]) -> None:
        repeats = self._repeats.setdefault(upstream, Repeats())
        for vector, subject in zip(vectors, subjects, strict=True):
            repeats.check(vector, subject, upstream)

    def _rest(self, attempt: int, failure: UpstreamFailure) -> float:
        """Seconds before the same upstream is asked again; another one need not wait for that."""
        backoff = FIRST_WAIT_SECONDS * 2.0 ** (attempt - 1) * (0.5 + self._jitter())
        return max(backoff, failure.retry_after or 0.0)
