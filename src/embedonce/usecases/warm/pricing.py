"""What a batch would cost, bought now: nothing is bought, and nothing written."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from embedonce.core.catalog import estimated_tokens, most_tokens
from embedonce.core.errors import EmbedonceError, StoreUnavailable
from embedonce.core.fingerprint import Namespace
from embedonce.core.plan import Item
from embedonce.core.pricing import Price as Rate
from embedonce.ports import VectorStore
from embedonce.usecases.planning import Planned, Planner
from embedonce.usecases.warm.buying import Order, failure_of
from embedonce.usecases.warm.entry import Outcome, Slot, Stop, Tally

DIGEST_BYTES = 16
"""Kept of each different input: two of a billion are taken for one with a chance of 1 in 10**20."""


@dataclass(slots=True)
class Bill:
    """`tokens` of what is new, estimated; `likely` pico-dollars by them, and `most` by the most tokens that
    it can have."""

    distinct: int = 0
    cached: int = 0
    tokens: int = 0
    likely: int = 0
    most: int = 0

    @property
    def new(self) -> int:
        return self.distinct - self.cached


class Price:
    """Adds up `bill`. Holds about 100 bytes for each different input. Thread-safe."""

    def __init__(self, order: Order, planner: Planner, vectors: VectorStore) -> None:
        self.bill = Bill()
        self._order = order
        self._planner = planner
        self._vectors = vectors
        self._seen: set[bytes] = set()
        self._lock = threading.Lock()

    def __call__(self, slots: Sequence[Slot]) -> Outcome:
        out = Outcome()
        order = self._order
        namespace = Namespace(order.caller.namespace, order.namespace)
        contents = [slot.given for slot in slots]
        try:
            plan = self._planner(contents, [slot.entry.where for slot in slots], order.options, namespace)
            fresh = self._unseen(plan)
            keys = [key for item in fresh for key in (item.fetch, item.source) if key is not None]
            found = self._vectors.get_many(keys) if keys else {}
        except EmbedonceError as error:
            out.failed = [(slot, failure_of(slot, error)) for slot in slots]
            return out
        except StoreUnavailable:
            out.stop = Stop("the cache cannot be read right now")
            return out
        tallies = [Tally(repeats=1) for _ in slots]
        with self._lock:
            for item in fresh:
                kept = {item.fetch.fingerprint} | ({item.source.fingerprint} if item.source else set())
                cached = not kept.isdisjoint(found)
                self._add(plan, item, cached=cached)
                tallies[item.positions[0]] = Tally(hits=int(cached), misses=int(not cached))
        out.done = list(zip(slots, tallies, strict=True))
        return out

    def _unseen(self, plan: Planned) -> list[Item]:
        with self._lock:
            fresh = [i for i in plan.items if i.fetch.fingerprint[:DIGEST_BYTES] not in self._seen]
            self._seen.update(i.fetch.fingerprint[:DIGEST_BYTES] for i in fresh)
        return fresh

    def _add(self, plan: Planned, item: Item, *, cached: bool) -> None:
        bill = self.bill
        bill.distinct += 1
        if cached:
            bill.cached += 1
            return
        rate = plan.routes[item.modalities].offer.prices.get(item.modality, Rate.FREE)
        tokens = estimated_tokens(item.content)
        bill.tokens += tokens
        bill.likely += rate.of(tokens)
        bill.most += rate.of(most_tokens(item.content))
