"""Embed contents: look up, derive, fly for what is missing, answer from the stored float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from embedonce.access.authenticate import Caller
from embedonce.core.cachecontrol import CacheControls
from embedonce.core.catalog import check_content
from embedonce.core.content import Content, Draft, Modality, TextPart
from embedonce.core.deadline import Deadline
from embedonce.core.errors import NotCached, StoreUnavailable, WouldBlock
from embedonce.core.fingerprint import Namespace, Space, fingerprinter
from embedonce.core.options import EmbedOptions
from embedonce.core.patience import Patience
from embedonce.core.plan import Item, VectorKey, items_of
from embedonce.core.record import StoredVector
from embedonce.ports import Clock, MediaResolver, Telemetry, VectorMemory, VectorStore
from embedonce.upstreams.router import Route, Router
from embedonce.usecases.departure import Departure, Departures


class Origin(StrEnum):
    HIT = "hit"
    DERIVED = "derived"
    COLLAPSED = "collapsed"
    """Bought by another request at the same moment: this one waited for it."""
    MISS = "miss"


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    drafts: tuple[Draft, ...]
    options: EmbedOptions
    controls: CacheControls
    caller: Caller
    namespace: str
    deadline: Deadline
    patience: Patience = Patience.PROVIDERS


@dataclass(frozen=True, slots=True)
class Answered:
    """One different content's vector, at the size asked for. `cost` in pico-dollars, for this request."""

    record: StoredVector
    origin: Origin
    stored: bool
    cost: int


@dataclass(frozen=True, slots=True)
class EmbedResult:
    """`answers[order[i]]` belongs to input i; `made_up` names modalities whose vectors mean nothing."""

    answers: tuple[Answered, ...]
    order: tuple[int, ...]
    made_up: frozenset[Modality]


class EmbedContents:
    def __init__(
        self,
        router: Router,
        vectors: VectorStore,
        memory: VectorMemory,
        departures: Departures,
        media: MediaResolver,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._router = router
        self._media = media
        self._vectors = vectors
        self._memory = memory
        self._departures = departures
        self._clock = clock
        self._telemetry = telemetry

    def __call__(self, request: EmbedRequest) -> EmbedResult:
        """:raises EmbedonceError: the request as a whole fails; what was bought meanwhile is kept
        :raises WouldBlock: more is needed than the request has patience for
        """
        result = self._answer(request, self._contents(request, whole=False))
        if result is None:  # something unchanged is not in the cache after all: its bytes are needed
            result = self._answer(request, self._contents(request, whole=True))
        assert result is not None
        return result

    def _contents(self, request: EmbedRequest, *, whole: bool) -> tuple[Content, ...]:
        """The drafts as contents that the model takes."""
        drafts = request.drafts
        if all(draft.is_text for draft in drafts):
            contents = tuple(Content(tuple(p for p in d.parts if isinstance(p, TextPart))) for d in drafts)
        elif request.patience < Patience.PROVIDERS:
            raise WouldBlock
        else:
            contents = self._media.resolve(
                drafts, namespace=self._namespace(request), deadline=request.deadline, whole=whole
            )
        for draft, content in zip(drafts, contents, strict=True):
            check_content(request.options.model, content, draft.param)
        return contents

    @staticmethod
    def _namespace(request: EmbedRequest) -> Namespace:
        return Namespace(request.caller.namespace, request.namespace)

    def _answer(self, request: EmbedRequest, contents: Sequence[Content]) -> EmbedResult | None:
        """None: what is missing would have to be sent, and is not all loaded."""
        options, controls = request.options, request.controls
        routes = {m: self._router.route(options.model, m) for m in {c.modalities for c in contents}}
        routes = {m: route.sending(options) for m, route in routes.items()}
        items = self._items(request, contents, routes)
        if request.patience is Patience.MEMORY:
            return self._result(contents, items, self._remembered(items, controls), routes)
        found, stale = self._look_up(items, controls) if controls.reads else ({}, frozenset())
        missing = [item for item in items if item.fetch.fingerprint not in found]
        if not all(item.content.loaded for item in missing) and not controls.only_if_cached:
            return None
        if missing and controls.only_if_cached:
            raise NotCached(f"{len(missing)} of {len(items)} different inputs are not in the cache")
        if missing and request.patience < Patience.PROVIDERS:
            raise WouldBlock
        if missing:
            departure = Departure(
                routes=routes, options=options, controls=controls, stale=stale, deadline=request.deadline
            )
            for fingerprint, landed in self._departures.fly(missing, departure).items():
                origin = Origin.MISS if landed.bought else Origin.COLLAPSED
                found[fingerprint] = Answered(landed.record, origin, landed.stored, landed.cost)
        return self._result(contents, items, found, routes)

    def _items(
        self,
        request: EmbedRequest,
        contents: Sequence[Content],
        routes: Mapping[frozenset[Modality], Route],
    ) -> tuple[Item, ...]:
        options = request.options
        makers = {
            modalities: fingerprinter(
                self._namespace(request),
                Space(route.offer.lineage, options.model.id),
                route.offer.sends(options),
            )
            for modalities, route in routes.items()
        }
        sent = [routes[c.modalities].offer.recipe(c, options) for c in contents]
        return items_of(sent, [makers[c.modalities] for c in sent], options)

    def _remembered(self, items: Sequence[Item], controls: CacheControls) -> dict[bytes, Answered]:
        """All from the process's own memory, at exactly the sizes that are stored.

        :raises WouldBlock: something is not there
        """
        records = self._memory.get_many([item.fetch for item in items]) if controls.reads else {}
        if len(records) < len(items):
            raise WouldBlock
        now = self._clock.now()
        found: dict[bytes, Answered] = {}
        for item in items:
            record = records[item.fetch.fingerprint]
            if not controls.accepts(record.created, now):
                raise WouldBlock
            found[item.fetch.fingerprint] = Answered(record, _origin_of(item, record), stored=True, cost=0)
        return found

    def _look_up(
        self, items: Sequence[Item], controls: CacheControls
    ) -> tuple[dict[bytes, Answered], frozenset[bytes]]:
        """What is there and young enough, and fingerprints of what is too old for this caller."""
        now = self._clock.now()
        found: dict[bytes, Answered] = {}
        exact = self._get([item.fetch for item in items])
        sources = self._get(
            [i.source for i in items if i.source is not None and i.fetch.fingerprint not in exact]
        )
        stale: set[bytes] = set()
        for item in items:
            fingerprint = item.fetch.fingerprint
            record = exact.get(fingerprint)
            if record is None and item.source is not None:
                record = sources.get(item.source.fingerprint)
            if record is None:
                continue
            if not controls.accepts(record.created, now):
                stale.add(fingerprint)
                continue
            found[fingerprint] = Answered(record, _origin_of(item, record), stored=True, cost=0)
        return found, frozenset(stale)

    def _get(self, keys: Sequence[VectorKey]) -> dict[bytes, StoredVector]:
        """A store that cannot be read is a miss: the request is answered live."""
        if not keys:
            return {}
        try:
            return self._vectors.get_many(keys)
        except StoreUnavailable:
            self._telemetry.count("VectorStoreErrors")
            self._telemetry.event("vector_store_unavailable", during="get")
            return {}

    def _result(
        self,
        contents: Sequence[Content],
        items: Sequence[Item],
        found: Mapping[bytes, Answered],
        routes: Mapping[frozenset[Modality], Route],
    ) -> EmbedResult:
        order = [0] * len(contents)
        answers: list[Answered] = []
        for index, item in enumerate(items):
            answered = found[item.fetch.fingerprint]
            record = item.answer(answered.record)
            if record is not answered.record:
                answered = Answered(record, answered.origin, answered.stored, answered.cost)
            answers.append(answered)
            for position in item.positions:
                order[position] = index
        misses = sum(answered.origin is Origin.MISS for answered in answers)
        for name, number in (("Hits", len(answers) - misses), ("Misses", misses)):
            if number:
                self._telemetry.count(name, number)
        made_up = frozenset().union(*(r.offer.made_up & m for m, r in routes.items()))
        return EmbedResult(tuple(answers), tuple(order), made_up)


def _origin_of(item: Item, record: StoredVector) -> Origin:
    derived = item.dimensions is not None and record.dimensions != item.dimensions
    return Origin.DERIVED if derived else Origin.HIT
