"""How often the same input is seen, and what of that is bought, written and found. Expected numbers, pure.

The law without a sample: after each sight another one comes with the chance `ratio`, after a time that is
exponential with the mean `gap_days`, and never else. So an input is seen 1 / (1 - ratio) times on average,
and `ratio` is the share of hits where nothing is ever forgotten.

A vector lives `ttl` days from its purchase; a hit does not prolong that (`usecases/purchase.py`). With
E = exp(-(1 - ratio) * ttl / gap): of what was just bought, ratio / (1 - ratio) * (1 - E) hits come in time,
and with the chance ratio * E a next sight comes too late and buys again.

`memory`: the share of repeats that reach a process which still remembers the last sight.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Sights:
    """Of `inputs`: `bought`, found in a process's `memory`, found in the `stores`. Of the vectors
    `written`."""

    inputs: float
    bought: float
    memory: float
    stores: float
    written: float


class Repetition(Protocol):
    """`always`: every vector is written when it is bought. `second`: at its second sight, if the process that
    sees it remembers the first; else it is bought and remembered anew. `never`: none is written."""

    @property
    def inputs(self) -> float: ...
    @property
    def ratio(self) -> float: ...
    @property
    def gap_days(self) -> float: ...
    def always(self, ttl: float, memory: float) -> Sights: ...
    def second(self, ttl: float, memory: float) -> Sights: ...
    def never(self, memory: float) -> Sights: ...


@dataclass(frozen=True, slots=True)
class Geometric:
    """The law above. `gap_days` 0: repeats come at once, nothing expires before them."""

    inputs: float
    ratio: float
    gap_days: float

    @property
    def distinct(self) -> float:
        return self.inputs * (1.0 - self.ratio)

    def _late(self, ttl: float) -> float:
        """E."""
        if ttl <= 0:
            return 1.0
        return math.exp(-(1.0 - self.ratio) * ttl / self.gap_days) if self.gap_days > 0 else 0.0

    def always(self, ttl: float, memory: float) -> Sights:
        bought = self.distinct / (1.0 - self.ratio * self._late(ttl))
        hits = self.inputs - bought
        return Sights(self.inputs, bought, memory * hits, (1.0 - memory) * hits, bought)

    def second(self, ttl: float, memory: float) -> Sights:
        late = self._late(ttl)
        bought = 1.0 / (1.0 - self.ratio * (1.0 - memory))
        written = memory * self.ratio * bought
        times = self.distinct / (1.0 - written * self.ratio * late)
        found = times * written * self.ratio / (1.0 - self.ratio) * (1.0 - late)
        return Sights(
            self.inputs,
            times * bought,
            times * written + memory * found,
            (1.0 - memory) * found,
            times * written,
        )

    def never(self, memory: float) -> Sights:
        remembered = memory * (self.inputs - self.distinct)
        return Sights(self.inputs, self.inputs - remembered, remembered, 0.0, 0.0)


@dataclass(frozen=True)
class Sample:
    """Counted: for each different input the days at which it was seen, in order (all 0 where not known).
    `scale` times that is a month. `always` follows the days; `second` and `never` take it that nothing
    expires."""

    seen: Sequence[tuple[float, ...]]
    scale: float = 1.0
    gap_days: float = 0.0
    _counts: Counter[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_counts", Counter(len(days) for days in self.seen))

    @property
    def total(self) -> int:
        return sum(n * contents for n, contents in self._counts.items())

    @property
    def inputs(self) -> float:
        return self.total * self.scale

    @property
    def ratio(self) -> float:
        return 1.0 - len(self.seen) / self.total

    def always(self, ttl: float, memory: float) -> Sights:
        bought = sum(_purchases(days, ttl) for days in self.seen) * self.scale
        hits = self.inputs - bought
        return Sights(self.inputs, bought, memory * hits, (1.0 - memory) * hits, bought)

    def second(self, ttl: float, memory: float) -> Sights:
        if ttl <= 0 or memory <= 0:
            return self.never(memory)
        bought = self._sum((1.0 - (1.0 - memory) ** n) / memory for n in self._counts)
        written = self._sum(1.0 - (1.0 - memory) ** (n - 1) for n in self._counts)
        found = self.inputs - bought - written
        return Sights(self.inputs, bought, written + memory * found, (1.0 - memory) * found, written)

    def never(self, memory: float) -> Sights:
        remembered = memory * (self.total - len(self.seen)) * self.scale
        return Sights(self.inputs, self.inputs - remembered, remembered, 0.0, 0.0)

    def _sum(self, each: Iterable[float]) -> float:
        return self.scale * sum(a * c for a, c in zip(each, self._counts.values(), strict=True))


def _purchases(days: Sequence[float], ttl: float) -> int:
    if days[-1] - days[0] < ttl:
        return 1
    bought, until = 0, -math.inf
    for day in days:
        if day >= until:
            bought, until = bought + 1, day + ttl
    return bought
