"""What became of a request: a vector for each different content, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from embedonce.core.content import Modality
from embedonce.core.record import StoredVector


class Origin(StrEnum):
    HIT = "hit"
    DERIVED = "derived"
    COLLAPSED = "collapsed"
    """Bought by another request at the same moment: this one waited for it."""
    MISS = "miss"


@dataclass(frozen=True, slots=True)
class Answered:
    """One different content's vector, at the size asked for. `cost` in pico-dollars, for this request.
    `ticketed`: it came by a ticket, with which it is counted."""

    record: StoredVector
    origin: Origin
    stored: bool
    cost: int
    ticketed: bool = False


@dataclass(frozen=True, slots=True)
class EmbedResult:
    """`answers[order[i]]` belongs to input i; `made_up` names modalities whose vectors mean nothing.
    `fingerprints[j]` is what answer j was looked up by first."""

    answers: tuple[Answered, ...]
    order: tuple[int, ...]
    made_up: frozenset[Modality]
    fingerprints: tuple[bytes, ...] = ()
