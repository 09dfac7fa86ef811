"""What is counted for each key and day: names, sums, and what is reserved or lapsed. Pure.

Money in pico-dollars. `settled` is what providers billed for certain, `unknown` what they may have billed.
What is reserved is kept by when it lapses, in counters of their own (`reserved_until`): past that time it
counts as unknown, whoever died.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from embedonce.core.content import Modality

REQUESTS: Final = "requests"
INPUTS: Final = "inputs"
HITS: Final = "hits"
DERIVED: Final = "derived"
COLLAPSED: Final = "collapsed"
"""Answered by a purchase of somebody else at the same moment."""
MISSES: Final = "misses"
CACHED_TOKENS: Final = "cached_tokens"
SETTLED: Final = "settled"
UNKNOWN: Final = "unknown"
SAVED: Final = "saved"
AWS: Final = "aws"
"""Of the cache's own operations, by the cost model."""
JOBS_SUBMITTED: Final = "jobs_submitted"
JOBS_COMPLETED: Final = "jobs_completed"
JOBS_FAILED: Final = "jobs_failed"
CALLS: Final = "calls"
ERRORS: Final = "errors"
RATE_LIMITED: Final = "rate_limited"
MILLISECONDS: Final = "ms"
"""Of upstreams: what all their calls took together."""
LATENCY_BOUNDS = (100, 250, 500, 1000, 2500, 5000, 10_000)
"""Milliseconds; a call counts under the first bound that it does not exceed, else under the last."""

_RESERVED: Final = "r"
BUCKET_SECONDS = 300
"""Reservations lapse at multiples of this (seconds since 1970): so few counters hold them all."""

TOKENS = {modality: f"tokens_{modality.value}" for modality in Modality}

UPSTREAM_OWNER: Final = "upstream/"
"""Owners that begin so are upstreams, not keys."""


def latency_bucket(milliseconds: float) -> str:
    """The counter that a call of that length counts under."""
    bound = next((bound for bound in LATENCY_BOUNDS if milliseconds <= bound), LATENCY_BOUNDS[-1] * 10)
    return f"le{bound}"


def latency_quantile(counts: Mapping[str, int], share: float) -> int | None:
    """Milliseconds that this share of the calls did not exceed, by the bucket they fall into; what was longer
    than all bounds counts as ten times the last. None: no calls."""
    bounds = (*LATENCY_BOUNDS, LATENCY_BOUNDS[-1] * 10)
    calls = sum(counts.get(f"le{bound}", 0) for bound in bounds)
    reached = 0
    for bound in bounds:
        reached += counts.get(f"le{bound}", 0)
        if calls and reached >= share * calls:
            return bound
    return None


def lapse_after(when: float) -> int:
    """The first multiple of `BUCKET_SECONDS` that is not before `when`."""
    return -int(-when // BUCKET_SECONDS) * BUCKET_SECONDS


def reserved_until(lapse: int) -> str:
    """The counter of what lapses then."""
    return f"{_RESERVED}{lapse // BUCKET_SECONDS}"


@dataclass(frozen=True, slots=True)
class Spent:
    """Pico-dollars: billed for certain; promised to purchases on their way; perhaps billed."""

    settled: int
    reserved: int
    unknown: int


def spent(counts: Mapping[str, int], now: float) -> Spent:
    reserved, lapsed = 0, 0
    for name, amount in counts.items():
        if name.startswith(_RESERVED) and name[1:].isdigit():
            if int(name[1:]) * BUCKET_SECONDS > now:
                reserved += amount
            else:
                lapsed += amount
    return Spent(
        counts.get(SETTLED, 0), max(0, reserved), max(0, counts.get(UNKNOWN, 0) + lapsed + min(0, reserved))
    )


def summed(each: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for counts in each:
        for name, amount in counts.items():
            total[name] = total.get(name, 0) + amount
    return total
