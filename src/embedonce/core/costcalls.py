"""What the code asks of AWS for one input, call by call, in the units that AWS bills.

Read off `stores/aws` and the use cases; tests/integration/test_cost_operations.py runs them over moto and
compares every call and its units, so that this cannot drift.

DynamoDB on demand: a write is a unit for each KB of the larger of the old and the new item, also where its
condition fails; a read is a unit for each 4 KB strongly consistent, half of that otherwise, and as for 4 KB
where there is nothing. S3: a call is a call, whether it finds something or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from embedonce.core.prices import Prices
from embedonce.core.vector import BYTES_PER_DIMENSION

VECTOR_BYTES_BESIDES = 150
"""Key and metadata of a stored vector (docs/storage-format.md), about."""
LEADING_BYTES = 260
"""A flight's row while somebody is at it, at most."""
LANDED_BYTES_BESIDES = 500
"""A landed flight's row without the vector, about: `core.flightrow`'s JSON text."""
DYNAMODB_BYTES_BESIDES = 100
"""What DynamoDB adds to an item's stored size."""
FLIGHT_ROW_DAYS = 2
"""DynamoDB removes expired items within some days: how long a landed row is assumed to be billed."""


class Place(StrEnum):
    """Where vectors are kept."""

    DYNAMODB = "dynamodb"
    S3 = "s3"
    EXPRESS = "express"

    @property
    def honours_ttl(self) -> bool:
        """Whether what has expired stops costing. The bucket's lifecycle rule knows one age for all
        (VectorTtlDays), so an object with a shorter TTL is paid for until then."""
        return self is Place.DYNAMODB


@dataclass(frozen=True, slots=True)
class Tier:
    """Vectors of `large_from` dimensions or more in `large`, all others in `small` (`stores/tiered.py`)."""

    name: str
    small: Place
    large: Place
    large_from: int = 1537

    def place(self, dimensions: int) -> Place:
        return self.large if dimensions >= self.large_from else self.small


DEPLOYED = Tier("deployed", Place.DYNAMODB, Place.S3)
"""As template.yaml and config.py have it without settings: S3MinDimensions 1537."""
DYNAMODB = Tier("dynamodb", Place.DYNAMODB, Place.DYNAMODB)
S3 = Tier("s3", Place.S3, Place.S3)
EXPRESS = Tier("express", Place.EXPRESS, Place.EXPRESS)
TIERS = {tier.name: tier for tier in (DEPLOYED, DYNAMODB, S3, EXPRESS)}


@dataclass(frozen=True, slots=True)
class Call:
    """One call: `units` of what `price` (a name in prices.json) is the price of, and bytes where they count.

    DynamoDB's reads are in half units, as `half`.
    """

    service: str
    name: str
    price: str
    units: int = 1
    half: bool = False
    per_byte: str = ""
    bytes: int = 0

    def cost(self, prices: Prices) -> int:
        """Pico-dollars."""
        whole = prices.pico[self.price] * self.units / (2 if self.half else 1)
        return round(whole + (prices.pico[self.per_byte] * self.bytes if self.per_byte else 0))


Calls = tuple[Call, ...]


def cost(calls: Calls, prices: Prices) -> int:
    """Pico-dollars."""
    return sum(call.cost(prices) for call in calls)


# ---- single calls


def written(size: int, *, index: int = 0) -> Call:
    """PutItem of an item of `size` bytes; `index`: entries of a secondary index that come or go by it."""
    return Call("dynamodb", "PutItem", "dynamodb_write_unit_million", max(1, -(-size // 1024)) + index)


def read(name: str, size: int, *, strongly: bool) -> Call:
    """One key of a GetItem or BatchGetItem; `size` 0: there is none."""
    units = max(1, -(-size // 4096)) * (2 if strongly else 1)
    return Call("dynamodb", name, "dynamodb_read_unit_million", units, half=True)


def message(name: str) -> Call:
    """A call of SQS, for up to 64 KB."""
    return Call("sqs", name, "sqs_million")


def vector_bytes(dimensions: int) -> int:
    return dimensions * BYTES_PER_DIMENSION + VECTOR_BYTES_BESIDES


def vector_found(place: Place, dimensions: int) -> Call:
    """`DynamoVectors.get_many` (eventually consistent), `S3Vectors.get_many`."""
    size = vector_bytes(dimensions)
    if place is Place.DYNAMODB:
        return read("BatchGetItem", size, strongly=False)
    return _object(place, "GetObject", "get", size)


def vector_absent(place: Place) -> Call:
    """The same where there is nothing: half a unit, or a GET that is answered 404."""
    if place is Place.DYNAMODB:
        return read("BatchGetItem", 0, strongly=False)
    return _object(place, "GetObject", "get", 0)


def vector_written(place: Place, dimensions: int) -> Call:
    """`put_many` of a new vector: one conditional write."""
    size = vector_bytes(dimensions)
    return written(size) if place is Place.DYNAMODB else _object(place, "PutObject", "put", size)


def vector_lost(place: Place, dimensions: int) -> Calls:
    """`put_many` where another's vector stands: the failed condition is billed; S3 is read besides, DynamoDB
    returns the item with its refusal."""
    write = vector_written(place, dimensions)
    return (write,) if place is Place.DYNAMODB else (write, vector_found(place, dimensions))


def flight_led() -> Call:
    """Take-off: a conditional write of a small row where there was none, without a read before."""
    return written(LEADING_BYTES)


def flight_landed(dimensions: int) -> Call:
    """The row again, with the vector in it (ADR 7)."""
    return written(dimensions * BYTES_PER_DIMENSION + LANDED_BYTES_BESIDES)


def flight_followed(dimensions: int, looks: int) -> Calls:
    """Another process is at it: the take-off's failed condition, `looks` at its row (`trip.POLL_SECONDS`),
    and the one that finds it landed."""
    row = dimensions * BYTES_PER_DIMENSION + LANDED_BYTES_BESIDES
    looked = (read("BatchGetItem", LEADING_BYTES, strongly=True),) * looks
    return (flight_led(), *looked, read("BatchGetItem", row, strongly=True))


def key_found() -> Call:
    """`DynamoAccess.find`: once a minute for each key and process (`access.authenticate.FRESH_SECONDS`)."""
    return read("GetItem", 1, strongly=True)


def _object(place: Place, name: str, kind: str, size: int) -> Call:
    if place is Place.S3:
        return Call("s3", name, f"s3_{kind}_million")
    return Call("s3", name, f"express_{kind}_million", per_byte=f"express_{kind}_gb", bytes=size)


# ---- one input


@dataclass(frozen=True, slots=True)
class Size:
    """At what size an input is asked for, kept, and looked for besides (`core.plan.items_of`).

    Media are kept at the model's full size; a text at what was asked for, and where that missed it is looked
    for at the full size, which it could be cut from.
    """

    kept: int
    source: int | None

    @classmethod
    def of(cls, dimensions: int, full: int | None, *, text: bool) -> Size:
        """`full`: the size smaller ones are cut from; None: they are not."""
        if full is None or dimensions >= full:
            return cls(dimensions, None)
        return cls(dimensions, full) if text else cls(full, None)


def hit(tier: Tier, size: Size) -> Calls:
    return (vector_found(tier.place(size.kept), size.kept),)


def derived(tier: Tier, size: Size) -> Calls:
    """Cut from the full size: the exact one misses first. Media: kept at the full size, one look-up."""
    if size.source is None:
        return hit(tier, size)
    found = vector_found(tier.place(size.source), size.source)
    return (vector_absent(tier.place(size.kept)), found)


def looked_up(tier: Tier, size: Size) -> Calls:
    """A miss before anything is bought."""
    exact = vector_absent(tier.place(size.kept))
    return (exact,) if size.source is None else (exact, vector_absent(tier.place(size.source)))


def kept(tier: Tier, size: Size) -> Calls:
    """The vector's own write."""
    return (vector_written(tier.place(size.kept), size.kept),)


def flown(size: Size) -> Calls:
    """The flight's row, at take-off and landing. (A later process that takes over a dead row, or a renewed
    lease, costs another write: failures, not counted here.)"""
    return (flight_led(), flight_landed(size.kept))


def miss(tier: Tier, size: Size) -> Calls:
    """As the code is: looked up, led, stored, landed. Two of the writes carry the vector."""
    led, landed = flown(size)
    return (*looked_up(tier, size), led, *kept(tier, size), landed)


# ---- storage


def stored_bytes(place: Place, dimensions: int) -> int:
    """What keeping one vector is billed by."""
    return vector_bytes(dimensions) + (DYNAMODB_BYTES_BESIDES if place is Place.DYNAMODB else 0)


def month_of_storage(place: Place, dimensions: int, prices: Prices) -> int:
    """Pico-dollars for 30 days."""
    return prices.of(f"{place.value}_gb_month", stored_bytes(place, dimensions))
