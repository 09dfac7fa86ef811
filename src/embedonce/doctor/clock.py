"""This machine's clock against the `Date` of somebody's answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from embedonce.doctor.check import Check, ok, problem, skipped

MOST_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Seen:
    """`date` as the answer had it, `at` this machine's time when it came."""

    who: str
    date: str
    at: float


def clock_check(seen: Sequence[Seen]) -> Check:
    """By whoever is nearest: a single server whose clock is off proves nothing about ours."""
    offsets = [(offset, each.who) for each in seen if (offset := _offset(each)) is not None]
    if not offsets:
        return skipped("clock", "nobody was asked whose answer has a date")
    offset, who = min(offsets, key=lambda each: abs(each[0]))
    if abs(offset) <= MOST_SECONDS:
        return ok("clock", f"within {MOST_SECONDS:g} s of {who}'s")
    which = "ahead of" if offset > 0 else "behind"
    return problem(
        "clock",
        f"{abs(offset):.0f} s {which} {who}'s",
        "set it (timedatectl set-ntp true): AWS refuses signatures from 300 s on, and leases shared with "
        "other machines end too early or too late",
    )


def _offset(seen: Seen) -> float | None:
    """Seconds that ours is ahead; a date has whole seconds."""
    try:
        date = parsedate_to_datetime(seen.date)
        return seen.at - date.replace(tzinfo=date.tzinfo or UTC).timestamp() - 0.5
    except (ValueError, OverflowError):
        return None
