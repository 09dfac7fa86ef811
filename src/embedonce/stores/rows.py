"""What every store's rows have in common, whatever keeps them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from embedonce.core import flightrow, ticketrow
from embedonce.core.content import Modality
from embedonce.core.errors import StoreUnavailable
from embedonce.core.fingerprint import Namespace
from embedonce.core.flight import Flight, Leading
from embedonce.core.plan import VectorKey
from embedonce.core.record import StoredVector
from embedonce.core.ticket import Ticket, TicketRef
from embedonce.ports import Validator

if TYPE_CHECKING:
    from embedonce.core.manifest import Head, Manifest

NAMES = ("f", "m", "l", "u", "k", "d", "t", "n", "p", "c", "e")
"""The names of `StoredVector.metadata()`."""
NUMBERS = frozenset("dtpce")
"""Those that are kept as numbers where a store knows numbers; the others are text."""

Swapped = TypeVar("Swapped", "Ticket", "Manifest", "Head")
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError)


def chunks(fingerprints: Iterable[bytes], size: int) -> list[tuple[bytes, ...]]:
    """Each different one once, in order, `size` at a time."""
    different = tuple(dict.fromkeys(fingerprints))
    return [different[at : at + size] for at in range(0, len(different), size)]


def flight_of(fingerprint: bytes, version: int, state: str, vector: bytes | None) -> Flight:
    """The flight of a row. One that cannot be read (damaged, or a later version's) counts as expired, so that
    `join` leads over its version instead of colliding with it for ever."""
    try:
        return flightrow.decode(fingerprint, version, state, vector)
    except (ValueError, TypeError):
        return Flight(fingerprint, version, Leading("", 0.0), expires=0.0)


def vanished(wanted: Flight) -> Flight:
    """The answer of `FlightStore.swap_many` where the row to be replaced is gone."""
    return replace(wanted, version=0)


def ticket_of(ref: TicketRef, version: int, row: str) -> Ticket | None:
    """The ticket of a row; None where it cannot be read (damaged, or a later version's)."""
    try:
        return ticketrow.decode(ref, version, row)
    except (ValueError, TypeError):
        return None


def in_the_way(standing: Swapped | None, wanted: Swapped) -> Swapped:
    """The answer of a `swap` where the row has another version, or is gone or unreadable."""
    return standing if standing is not None else replace(wanted, version=0)


Entry = tuple[VectorKey, StoredVector]


def settle(
    entries: Sequence[Entry],
    put: Callable[[Sequence[Entry]], Sequence[StoredVector | StoreUnavailable]],
    *,
    overwrite: bool,
    now: float,
) -> list[StoredVector | None]:
    """`put_many` for stores that write one at a time: each fingerprint is put once (of several entries the
    first, of several to overwrite the last), and its outcome answers all its entries. Expired entries are
    not put."""
    chosen: dict[bytes, Entry] = {}
    for key, record in entries:
        if record.live(now) and (overwrite or key.fingerprint not in chosen):
            chosen[key.fingerprint] = (key, record)
    outcomes = dict(zip(chosen, put(tuple(chosen.values())), strict=True))
    standing = (outcomes.get(key.fingerprint) for key, _ in entries)
    return [None if isinstance(each, StoreUnavailable) else each for each in standing]


def validator_key(namespace: Namespace, url: bytes) -> bytes:
    """SHA-256 over length-prefixed fields, so it never meets a fingerprint in the table they share."""
    fields = (b"embedonce/validator/1", namespace.owner.encode(), namespace.inner.encode(), url)
    return hashlib.sha256(b"".join(len(each).to_bytes(8, "big") + each for each in fields)).digest()


def validator_text(validator: Validator) -> str:
    """The row's text; `expires` has a column of its own."""
    v = validator
    row = [v.source.hex(), v.etag, v.modified, v.sha256.hex(), v.size, v.modality, v.media_type]
    return json.dumps([*row, v.seconds, v.pages], separators=(",", ":"))


def validator_of(text: str, expires: int) -> Validator | None:
    """None: damaged, or a later version's."""
    try:
        source, etag, modified, sha256, size, modality, media_type, seconds, pages = json.loads(text)
        return Validator(
            bytes.fromhex(source),
            None if etag is None else str(etag),
            None if modified is None else str(modified),
            bytes.fromhex(sha256),
            int(size),
            Modality(modality),
            str(media_type),
            float(seconds),
            int(pages),
            expires,
        )
    except (ValueError, TypeError):
        return None
