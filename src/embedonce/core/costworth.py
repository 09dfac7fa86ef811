"""What one input of a kind costs, whether its vector is worth keeping, and for how long. Pico-dollars, pure.

These are what an admission policy asks for each input, so they are cheap and need no traffic.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from embedonce.core import costcalls as calls
from embedonce.core.catalog import GEMINI_EMBEDDING_2, Model
from embedonce.core.content import Modality
from embedonce.core.costcalls import Size, Tier
from embedonce.core.prices import Prices
from embedonce.core.sights import Geometric, Repetition

DAYS_OF_MONTH = 30.0
"""What storage is counted by; AWS's month of 730 hours is 1.4% longer, so this is too much, not too
little."""
SLOW = frozenset({Modality.AUDIO, Modality.VIDEO, Modality.PDF})
"""What is bought through the queue (`usecases/jobs/lane.py`)."""
TTL_DAYS = (1, 2, 3, 5, 7, 10, 14, 21, 30, 45, 60, 90, 120, 180, 270, 365)
"""What `best_ttl` chooses from, within the configured one."""


class Policy(StrEnum):
    """`ALWAYS`: every miss flies and is written, for the configured TTL.

    `PAYS`: what is not worth keeping at its first sight is bought without a flight's row and held in the
    process; it is written at its second sight, if that pays by then. What is kept is kept for `best_ttl`,
    with a flight if its row costs less than the input. Where nothing of a kind is worth keeping, the stores
    are not asked for it."""

    ALWAYS = "always"
    PAYS = "pays"


@dataclass(frozen=True, slots=True)
class Unit:
    """One input of a kind, in pico-dollars. `absent`: look-ups that find nothing; `flight`: its row, twice
    written, and kept until DynamoDB removes it; `write`: the vector's; `month`: keeping it for 30 days.

    `fixed_days`: how long it is paid for whatever its TTL says; None: as long as its TTL. `always_flown`: it
    goes through the queue, where nothing is bought without a row (ADR 17)."""

    upstream: int
    absent: int
    hit: int
    derived: int
    flight: int
    write: int
    month: int
    size: Size
    fixed_days: float | None
    always_flown: bool

    @property
    def flies(self) -> bool:
        """Whether a flight's row can pay: it costs less than the purchase that it may spare another
        process."""
        return self.always_flown or self.upstream > self.flight

    def storage(self, ttl_days: float) -> int:
        """Of one vector from its write until it is gone."""
        days = ttl_days if self.fixed_days is None else max(ttl_days, self.fixed_days)
        return round(self.month * days / DAYS_OF_MONTH)


def unit(
    modality: Modality,
    tokens: float,
    dimensions: int,
    tier: Tier,
    prices: Prices,
    *,
    model: Model = GEMINI_EMBEDDING_2,
    lifecycle_days: float = 180.0,
) -> Unit:
    """`lifecycle_days`: after which the bucket removes objects (VectorTtlDays)."""
    full = model.dimensions.default if model.derivable else None
    size = Size.of(dimensions, full, text=modality is Modality.TEXT)
    upstream = round(model.price(modality).per_token * tokens)
    place = tier.place(size.kept)
    row = calls.stored_bytes(calls.Place.DYNAMODB, size.kept)
    lingers = prices.of("dynamodb_gb_month", row) * calls.FLIGHT_ROW_DAYS / DAYS_OF_MONTH
    return Unit(
        upstream=upstream,
        absent=calls.cost(calls.looked_up(tier, size), prices),
        hit=calls.cost(calls.hit(tier, size), prices),
        derived=calls.cost(calls.derived(tier, size), prices),
        flight=calls.cost(calls.flown(size), prices) + round(lingers),
        write=calls.cost(calls.kept(tier, size), prices),
        month=calls.month_of_storage(place, size.kept, prices),
        size=size,
        fixed_days=None if place.honours_ttl else lifecycle_days,
        always_flown=modality in SLOW,
    )


def simple_break_even(one: Unit) -> float:
    """The share of hits from which on a cache pays that looks every input up and writes each miss once: no
    flights, no storage. The real one is `core.costmodel.break_even`."""
    return (one.write + one.hit) / (one.upstream + one.write)


@dataclass(frozen=True, slots=True)
class Worth:
    """`cost` of keeping one vector, and what its expected hits save."""

    cost: int
    saving: int

    @property
    def keep(self) -> bool:
        return self.saving > self.cost


def worth_keeping(one: Unit, ttl_days: float, expected_hits: float, *, flight: bool = True) -> Worth:
    """Flight, write and storage against the later sights that are found and not bought.

    :param expected_hits: within the TTL
    :param flight: False at a second sight, which is found in the process and not bought
    """
    cost = one.write + one.storage(ttl_days) + (one.flight if flight else 0)
    return Worth(cost, round(expected_hits * (one.upstream + one.absent - one.hit)))


def worth_looking(one: Unit, chance: float) -> bool:
    """Whether the stores should be asked at all, where `chance` is that of a hit: below, the look-ups that
    find nothing cost more than the hits save."""
    return chance * (one.upstream - one.hit) > (1.0 - chance) * one.absent


def best_ttl(
    one: Unit,
    ratio: float,
    gap_days: float,
    *,
    most: float = 180.0,
    second: bool = False,
    memory: float = 0.0,
) -> float:
    """Days (of `TTL_DAYS` within `most`) after which an input costs least by the law of `core.sights`; 0: it
    is not to be written at all.

    :param ratio: the chance that a next sight comes at all
    :param second: written at its second sight only
    """
    law = Geometric(1.0, min(ratio, 0.999_999), gap_days)
    return best_ttl_of(one, law, most=most, second=second, memory=memory)


def best_ttl_of(
    one: Unit, repetition: Repetition, *, most: float, second: bool = False, memory: float = 0.0
) -> float:
    """The same of counted sights."""
    chosen, least = 0.0, _expected(one, repetition, 0.0, memory, second=second)
    for days in (*(float(d) for d in TTL_DAYS if d < most), float(most)):
        cost = _expected(one, repetition, days, memory, second=second)
        if cost < least:
            chosen, least = days, cost
    return chosen


def _expected(one: Unit, repetition: Repetition, days: float, memory: float, *, second: bool) -> float:
    """All that depends on the TTL."""
    if not days:
        seen = repetition.never(memory)
        return seen.bought * (one.upstream + (one.flight if one.always_flown else 0))
    seen = repetition.second(days, memory) if second else repetition.always(days, memory)
    flights = seen.bought * one.flight if one.always_flown or (one.flies and not second) else 0.0
    stored = seen.written * (one.write + one.storage(days))
    return seen.bought * (one.upstream + one.absent) + seen.stores * one.hit + flights + stored


@dataclass(frozen=True, slots=True)
class Admission:
    """What `PAYS` does with one kind of input. `first`: kept at its first sight. `ttl_days` 0: never kept."""

    first: bool
    ttl_days: float

    @property
    def looks(self) -> bool:
        """Whether the stores are asked. (Somebody has to go on looking for a few, to see when that
        changes.)"""
        return self.ttl_days > 0


def admission(one: Unit, repetition: Repetition, *, most: float, memory: float) -> Admission:
    """Kept at once where that costs less than waiting for a second sight, or not keeping it."""
    ways = []
    for first in (True, False):
        days = best_ttl_of(one, repetition, most=most, second=not first, memory=memory)
        ways.append((_expected(one, repetition, days, memory, second=not first), not first, days))
    _, second, days = min(ways)
    return Admission(not second and days > 0, days)
