"""What a month of traffic costs without and with the cache, line by line. Pico-dollars, pure.

Expected numbers of sights (`core.sights`) times exact unit costs (`core.costworth`, `core.costcalls`); each
line is rounded to a whole pico-dollar, and sums are of lines. docs/cost.md works an example by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from embedonce.core import costcalls as calls
from embedonce.core import costgateway
from embedonce.core import costtickets as tickets
from embedonce.core.costcalls import TIERS, Tier
from embedonce.core.costtraffic import Kind, Traffic
from embedonce.core.costworth import (
    Admission,
    Policy,
    Unit,
    Worth,
    admission,
    best_ttl,
    unit,
    worth_keeping,
    worth_looking,
)
from embedonce.core.prices import Prices
from embedonce.core.sights import Sights

__all__ = [
    "Admission",
    "Kind",
    "Month",
    "Policy",
    "TIERS",
    "Traffic",
    "Unit",
    "Worth",
    "admission",
    "best_ttl",
    "break_even",
    "monthly",
    "unit",
    "worth_keeping",
    "worth_looking",
]

CACHE = ("look-ups", "flights", "vector writes", "storage")
GATEWAY = ("HTTP API", "Lambda", "tickets", "egress", "keys", "at rest")


@dataclass(frozen=True)
class Month:
    """`lines` by name, in pico-dollars: `provider`, then those of CACHE and GATEWAY. `direct`: the same
    inputs at the provider, without any of this. `bought` and `found` of `inputs`: expected numbers."""

    lines: Mapping[str, int]
    direct: int
    inputs: float
    bought: float
    found: float

    @property
    def cache(self) -> int:
        return sum(self.lines[name] for name in CACHE)

    @property
    def gateway(self) -> int:
        """What any gateway costs that stands here. A hit spares it the wait and the ticket."""
        return sum(self.lines[name] for name in GATEWAY)

    @property
    def total(self) -> int:
        return self.lines["provider"] + self.cache + self.gateway

    @property
    def beside_gateway(self) -> int:
        """To compare with `direct` where a gateway stands there anyway."""
        return self.lines["provider"] + self.cache

    @property
    def saving(self) -> int:
        return self.direct - self.total


@dataclass
class _Sum:
    lines: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, pico: float) -> None:
        self.lines[name] += round(pico)


def monthly(traffic: Traffic, policy: Policy, tier: Tier, prices: Prices) -> Month:
    out = _Sum(Counter(dict.fromkeys(("provider", *CACHE, *GATEWAY), 0)))
    direct = 0
    bought = busy_ms = requests = 0.0
    for kind in traffic.kinds:
        one = _unit_of(traffic, kind, tier, prices)
        way = _way(traffic, kind, policy, one)
        direct += round(kind.repetition.inputs * one.upstream)
        bought += way.seen.bought
        _cache_lines(out, traffic, one, way, prices)
        if one.always_flown:
            out.add("tickets", way.seen.bought * _ticket(traffic, tier, one, prices))
        asked = way.seen.inputs / traffic.inputs_per_request
        requests += asked
        busy_ms += asked * costgateway.request_ms(
            traffic, tier, one, way.seen, flights=way.flights, looks=way.looks
        )
    for name, pico in costgateway.lines(traffic, prices, requests=requests, busy_ms=busy_ms):
        out.add(name, pico)
    return Month(dict(out.lines), direct, traffic.inputs, bought, traffic.inputs - bought)


def _unit_of(traffic: Traffic, kind: Kind, tier: Tier, prices: Prices) -> Unit:
    return unit(
        kind.modality,
        kind.tokens,
        traffic.dimensions,
        tier,
        prices,
        model=traffic.model,
        lifecycle_days=traffic.ttl_days,
    )


@dataclass(frozen=True, slots=True)
class _Way:
    """Of one kind under a policy: sights, flights, days that a vector is kept, whether the stores are
    asked."""

    seen: Sights
    flights: float
    days: float
    looks: bool


def _way(traffic: Traffic, kind: Kind, policy: Policy, one: Unit) -> _Way:
    law, share, days = kind.repetition, traffic.memory_share, traffic.ttl_days
    if policy is Policy.ALWAYS:
        seen = law.always(days, share)
        return _Way(seen, seen.bought, days, looks=True)
    admitted = admission(one, law, most=days, memory=share)
    if admitted.first:
        seen = law.always(admitted.ttl_days, share)
    elif admitted.ttl_days:
        seen = law.second(admitted.ttl_days, share)
    else:
        seen = law.never(share)
    flights = seen.bought if one.always_flown or (admitted.first and one.flies) else 0.0
    return _Way(seen, flights, admitted.ttl_days, admitted.looks)


def _cache_lines(out: _Sum, traffic: Traffic, one: Unit, way: _Way, prices: Prices) -> None:
    seen = way.seen
    cut = traffic.derived_share if one.size.source is not None else 0.0
    out.add("provider", seen.bought * one.upstream)
    if way.looks:
        found = seen.stores * ((1.0 - cut) * one.hit + cut * one.derived)
        out.add("look-ups", seen.bought * one.absent + found)
    out.add("vector writes", seen.written * one.write)
    out.add("storage", seen.written * one.storage(way.days))
    following = calls.cost(calls.flight_followed(one.size.kept, 2), prices)
    followed = traffic.followed_share * seen.stores if way.flights else 0.0
    out.add("flights", way.flights * one.flight + followed * following)


def _ticket(traffic: Traffic, tier: Tier, one: Unit, prices: Prices) -> int:
    """Of one input that is bought through the queue, what has no line of its own."""
    every = Counter(
        tickets.bought(tier, one.size, seconds=traffic.slow_ms / 1000, polls=traffic.polls)
    ) - Counter((*calls.looked_up(tier, one.size), *calls.kept(tier, one.size), *calls.flown(one.size)))
    worker_ms = costgateway.WORKER_MS + (0 if traffic.polls else traffic.slow_ms)
    invocations = 1 + traffic.polls
    worker = prices.of("lambda_million", invocations)
    gb_seconds = Fraction(worker_ms * costgateway.WORKER_MB / 1024 / 1000)
    worker += round(prices.pico["lambda_gb_second"] * gb_seconds)
    return calls.cost(tuple(every.elements()), prices) + worker


def break_even(
    traffic: Traffic, policy: Policy, tier: Tier, prices: Prices, *, gateway: bool = False
) -> float | None:
    """The share of repeats from which on it costs no more than asking the provider directly; None: at none
    below 0.999.

    Under `pays` the cache by itself never costs more: there it is the share from which on it keeps vectors.

    :param gateway: with all that the gateway costs, else what the cache adds to one that stands there anyway
    """

    def above(ratio: float) -> bool:
        month = monthly(traffic.at(ratio), policy, tier, prices)
        if policy is Policy.PAYS and not gateway:
            return not month.lines["vector writes"]
        return (month.total if gateway else month.beside_gateway) > month.direct

    return _first(above, 0.0, 0.999)


def _first(above: Callable[[float], bool], low: float, high: float) -> float | None:
    """By halving: what is saved only grows with repetition."""
    if not above(low):
        return low
    if above(high):
        return None
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (middle, high) if above(middle) else (low, middle)
    return high
