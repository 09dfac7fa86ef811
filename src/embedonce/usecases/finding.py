"""What of a request is there already: in the process's memories, in the stores, or to be cut from what is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from embedonce.core.answer import Answered, Origin
from embedonce.core.cachecontrol import CacheControls
from embedonce.core.content import Content, Modality
from embedonce.core.errors import StoreUnavailable, WouldBlock
from embedonce.core.plan import Item, VectorKey
from embedonce.core.record import StoredVector
from embedonce.core.verdict import Verdict
from embedonce.ports import Clock, Telemetry, VectorMemory, VectorStore
from embedonce.upstreams.router import Route
from embedonce.usecases.request import EmbedRequest

if TYPE_CHECKING:
    from embedonce.usecases.admission import Admission


@dataclass(slots=True)
class Asked:
    """A request on its way: what it needs and what of that is there. `stale`: too old for this caller.
    `verdicts`: where not everything is kept; `held`: of `found`, first sights."""

    request: EmbedRequest
    contents: Sequence[Content]
    routes: Mapping[frozenset[Modality], Route]
    items: tuple[Item, ...]
    found: dict[bytes, Answered] = field(default_factory=dict)
    stale: set[bytes] = field(default_factory=set)
    verdicts: Mapping[bytes, Verdict] = field(default_factory=dict)
    held: set[bytes] = field(default_factory=set)

    @property
    def missing(self) -> list[Item]:
        if len(self.found) == len(self.items):
            return []
        return [item for item in self.items if item.fetch.fingerprint not in self.found]


class Finder:
    """`admission`: what is kept under `pays`; None: everything."""

    def __init__(
        self,
        vectors: VectorStore,
        memory: VectorMemory,
        clock: Clock,
        telemetry: Telemetry,
        admission: Admission | None,
    ) -> None:
        self._vectors = vectors
        self._memory = memory
        self._clock = clock
        self._telemetry = telemetry
        self._admission = admission

    def remember(self, items: Sequence[Item], controls: CacheControls) -> dict[bytes, Answered]:
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

    def look_up(self, plans: Sequence[Asked], controls: CacheControls) -> None:
        """What is missing, and is there and young enough."""
        now = self._clock.now()
        second: list[tuple[Asked, Item]] = []
        if self._admission is not None:
            for plan in plans:
                second += self._take_held(plan, self._admission, controls)
        missing = [(plan, item) for plan in plans for item in plan.missing]
        asked = missing if self._admission is None else [each for each in missing if _is_asked(*each)]
        keys = [item.fetch for _, item in (*asked, *second)]
        exact = self._get(keys if len(plans) == 1 else _different(keys))
        sources: dict[bytes, StoredVector] = {}
        if len(exact) < len(keys):
            sources = self._get(
                _different(i.source for _, i in asked if i.source and i.fetch.fingerprint not in exact)
            )
        if len(asked) < len(missing):
            unasked = [item for plan, item in missing if not _is_asked(plan, item)]
            exact |= self._memory.get_many([item.fetch for item in unasked])
            sources |= self._memory.get_many([item.source for item in unasked if item.source is not None])
        for plan, item in missing:
            fingerprint = item.fetch.fingerprint
            record = exact.get(fingerprint)
            if record is None and item.source is not None:
                record = sources.get(item.source.fingerprint)
            if record is None:
                continue
            if not controls.accepts(record.created, now):
                plan.stale.add(fingerprint)
                continue
            plan.found[fingerprint] = Answered(record, _origin_of(item, record), stored=True, cost=0)
        if second and self._admission is not None:
            self._store_held(second, exact, self._admission)

    def learn(self, plan: Asked) -> None:
        """What became of the sample. What was cut from another one's vector says nothing of its own
        kind, nor does what another request was just buying."""
        admission = self._admission
        controls, model, now = plan.request.controls, plan.request.options.model, self._clock.now()
        if admission is None or not controls.reads or controls.no_store or controls.max_age is not None:
            return
        for item in plan.items:
            fingerprint = item.fetch.fingerprint
            if not plan.verdicts[fingerprint].sampled:
                continue
            answered = plan.found[fingerprint]
            match answered.origin:
                case Origin.MISS:
                    admission.bought(item, model)
                case Origin.HIT | Origin.DERIVED if item.source is None or answered.origin is Origin.HIT:
                    remembered = fingerprint in plan.held
                    admission.found(item, model, now - answered.record.created, remembered=remembered)
                    if not remembered:
                        admission.held.put(item.fetch, answered.record)

    def _take_held(
        self, plan: Asked, admission: Admission, controls: CacheControls
    ) -> list[tuple[Asked, Item]]:
        """First sights that this process holds; and of these, those whose second one is to store them."""
        missing = plan.missing
        keys = [key for item in missing for key in (item.fetch, item.source) if key is not None]
        held = admission.held.get_many(keys)
        now = self._clock.now()
        second: list[tuple[Asked, Item]] = []
        for item in missing if held else ():
            fingerprint = item.fetch.fingerprint
            record, verdict = held.get(fingerprint), plan.verdicts[fingerprint]
            own = record is not None
            if record is None and item.source is not None:
                record = held.get(item.source.fingerprint)
            if record is None:
                continue
            if not controls.accepts(record.created, now):
                plan.stale.add(fingerprint)
                continue
            stored = own and verdict.sampled
            plan.held.add(fingerprint)
            plan.found[fingerprint] = Answered(record, _origin_of(item, record), stored=stored, cost=0)
            if own and verdict.looks and not stored and not controls.no_store:
                second.append((plan, item))
        return second

    def _store_held(
        self,
        second: Sequence[tuple[Asked, Item]],
        standing: Mapping[bytes, StoredVector],
        admission: Admission,
    ) -> None:
        """All that are not `standing` in a store by another process: looking costs a fraction of writing in
        vain. What cannot be written is held on."""
        now = int(self._clock.now())
        entries: dict[bytes, tuple[VectorKey, StoredVector]] = {}
        for plan, item in second:
            fingerprint = item.fetch.fingerprint
            if fingerprint not in standing:
                record = plan.found[fingerprint].record
                expires = min(record.expires, now + plan.verdicts[fingerprint].ttl_seconds)
                entries[fingerprint] = (item.fetch, replace(record, expires=expires))
        stored = dict(standing)
        if entries:
            stored |= self._written(list(entries.values()))
        for plan, item in second:
            fingerprint = item.fetch.fingerprint
            winner = stored.get(fingerprint)
            if winner is not None and plan.request.controls.accepts(winner.created, now):
                plan.found[fingerprint] = replace(plan.found[fingerprint], record=winner, stored=True)
                admission.held.discard([item.fetch])

    def _written(self, entries: Sequence[tuple[VectorKey, StoredVector]]) -> dict[bytes, StoredVector]:
        try:
            winners = self._vectors.put_many(entries)
        except StoreUnavailable:
            self._telemetry.event("vector_store_unavailable", during="put")
            winners = [None] * len(entries)
        stored = {
            key.fingerprint: winner
            for (key, _), winner in zip(entries, winners, strict=True)
            if winner is not None
        }
        if missed := len(entries) - len(stored):
            self._telemetry.count("VectorsNotStored", missed)
        return stored

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


def _is_asked(plan: Asked, item: Item) -> bool:
    """Whether the stores are."""
    return plan.verdicts[item.fetch.fingerprint].looks


def _origin_of(item: Item, record: StoredVector) -> Origin:
    derived = item.dimensions is not None and record.dimensions != item.dimensions
    return Origin.DERIVED if derived else Origin.HIT


def _different(keys: Iterable[VectorKey]) -> list[VectorKey]:
    return list({key.fingerprint: key for key in keys}.values())
