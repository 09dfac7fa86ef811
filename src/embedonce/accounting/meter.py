"""Counting what was used: added up in the process, and written beside requests, never in their way.

What is lost with a process, or with a write whose answer was lost, was never reported: savings and hits are
under-reported, never over. Money is not counted here but by `accounting.purse`.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from embedonce.core import usage
from embedonce.core.answer import EmbedResult, Origin
from embedonce.core.content import Modality
from embedonce.core.days import day_of
from embedonce.core.errors import StoreUnavailable
from embedonce.core.record import StoredVector
from embedonce.ports import Clock, Telemetry, UsageStore

if TYPE_CHECKING:  # the cost model, which one machine has no use for
    from embedonce.accounting.operations import OperationCosts

FLUSH_SECONDS = 10.0
"""How often a busy process writes what it has counted, where a write costs money."""

_COUNTERS = {
    Origin.HIT: usage.HITS,
    Origin.DERIVED: usage.DERIVED,
    Origin.COLLAPSED: usage.COLLAPSED,
    Origin.MISS: usage.MISSES,
}


@dataclass(slots=True)
class _Singles:
    hits: int = 0
    saved: int = 0
    tokens: dict[Modality, int] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        counts = {usage.TOKENS[modality]: tokens for modality, tokens in self.tokens.items()}
        cached = sum(self.tokens.values())
        same = dict.fromkeys((usage.REQUESTS, usage.INPUTS, usage.HITS), self.hits)
        return counts | same | {usage.CACHED_TOKENS: cached, usage.SAVED: self.saved}


_Sums = dict[tuple[str, str], defaultdict[str, int]]


class Meter:
    """`operations`: what the cache's own operations cost; None: nothing, as on one machine. Written every
    `flush_seconds`."""

    def __init__(
        self,
        store: UsageStore,
        clock: Clock,
        telemetry: Telemetry,
        *,
        operations: OperationCosts | None = None,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> None:
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._operations = operations
        self._flush_seconds = flush_seconds
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._sums: _Sums = {}
        self._singles: dict[tuple[str, str], _Singles] = {}
        self._flushed = clock.monotonic()
        self._day = ("", 0.0, 0.0)

    def answered(self, owner: str, results: Sequence[EmbedResult], *, remembered: bool) -> None:
        """One request, all of whose inputs have their vector. `remembered`: from the process's own memory,
        so that no store was asked."""
        free = remembered or self._operations is None
        if free and len(results) == 1 and len(results[0].order) == 1:
            (answered,) = results[0].answers
            if answered.origin is Origin.HIT:
                self._remember(owner, answered.record)
                return
        counts: defaultdict[str, int] = defaultdict(int)
        counts[usage.REQUESTS] = 1
        for result in results:
            self._add(counts, result, remembered=remembered)
        self.count(owner, counts)

    def _remember(self, owner: str, record: StoredVector) -> None:
        """One input, found at no cost: the request that takes the least time takes the least counting."""
        where = (owner, self._today())
        with self._lock:
            single = self._singles.get(where)
            if single is None:
                single = self._singles[where] = _Singles()
            single.hits += 1
            single.saved += record.cost
            tokens = single.tokens
            tokens[record.modality] = tokens.get(record.modality, 0) + record.tokens

    def _add(self, counts: defaultdict[str, int], result: EmbedResult, *, remembered: bool) -> None:
        answers = result.answers
        paid: set[int] = set()
        for index in result.order:
            answered = answers[index]
            if answered.ticketed:
                continue
            record = answered.record
            counts[usage.TOKENS[record.modality]] += record.tokens
            counts[usage.INPUTS] += 1
            if answered.origin is Origin.MISS and index not in paid:
                paid.add(index)
                counts[usage.MISSES] += 1
                continue
            origin = Origin.HIT if answered.origin is Origin.MISS else answered.origin
            counts[_COUNTERS[origin]] += 1
            counts[usage.CACHED_TOKENS] += record.tokens
            counts[usage.SAVED] += record.cost
        if self._operations is not None and not remembered:
            counts[usage.AWS] += sum(
                self._operations.of(a.origin, a.record, stored=a.stored) for a in answers
            )

    def requested(self, owner: str) -> None:
        """One request that was answered with a ticket."""
        self.count(owner, {usage.REQUESTS: 1})

    def submitted(self, owner: str) -> None:
        """One ticket, whoever asked for it."""
        self.count(owner, {usage.JOBS_SUBMITTED: 1})

    def ticket(self, owner: str, record: StoredVector, origin: Origin) -> None:
        """One ticket is completed."""
        counts = {usage.TOKENS[record.modality]: record.tokens, usage.INPUTS: 1, usage.JOBS_COMPLETED: 1}
        counts[_COUNTERS[origin]] = 1
        if origin is not Origin.MISS:
            counts |= {usage.CACHED_TOKENS: record.tokens, usage.SAVED: record.cost}
        if self._operations is not None:
            counts[usage.AWS] = self._operations.of(origin, record)
        self.count(owner, counts)

    def called(self, upstream: str, seconds: float, outcome: str) -> None:
        """One call of an upstream. `outcome`: "ok", or why it failed (`upstreams.failure.Kind`)."""
        milliseconds = seconds * 1000.0
        counts = {
            usage.CALLS: 1,
            usage.MILLISECONDS: round(milliseconds),
            usage.latency_bucket(milliseconds): 1,
        }
        if outcome == "busy":
            counts[usage.RATE_LIMITED] = 1
        elif outcome != "ok":
            counts[usage.ERRORS] = 1
        self.count(usage.UPSTREAM_OWNER + upstream, counts)

    def count(self, owner: str, counts: Mapping[str, int]) -> None:
        """Never waits for a store."""
        where = (owner, self._today())
        with self._lock:
            sums = self._sums.get(where)
            if sums is None:
                sums = self._sums[where] = defaultdict(int)
            for name, amount in counts.items():
                sums[name] += amount

    @property
    def due(self) -> bool:
        """Whether it is time to `flush`."""
        waits = bool(self._sums or self._singles)
        return waits and self._clock.monotonic() - self._flushed >= self._flush_seconds

    def flush(self) -> None:
        """Write what was counted. Never fails."""
        with self._flushing:
            self._flushed = self._clock.monotonic()
            with self._lock:
                sums, self._sums = self._sums, {}
                singles, self._singles = self._singles, {}
            for where, single in singles.items():
                sums[where] = defaultdict(int, usage.summed((sums.get(where, {}), single.counts())))
            for (owner, day), counts in sums.items():
                if saved := counts.get(usage.SAVED):
                    self._telemetry.count("SavedMicroUSD", saved / 1e6)
                try:
                    self._store.add(owner, day, {name: n for name, n in counts.items() if n})
                except StoreUnavailable:
                    self._telemetry.count("UsageNotCounted")

    def _today(self) -> str:
        now = self._clock.now()
        day, begins, ends = self._day
        if not begins <= now < ends:
            begins = now // 86_400 * 86_400
            day = day_of(now)
            self._day = (day, begins, begins + 86_400)
        return day
