"""What a ticket asks of AWS: audio, video and PDFs that are not in the cache, and whatever is submitted.

As `embedonce.core.costcalls`, and held by the same test. A medium that came inside its request: its payload
is one object, for a day. A row of a ticket is up to 1 KB; the index `due` takes two writes where its time
moves, one where it comes or goes."""

from __future__ import annotations

from embedonce.core.costcalls import (
    Call,
    Calls,
    Size,
    Tier,
    flight_landed,
    flight_led,
    hit,
    kept,
    looked_up,
    message,
    read,
    written,
)

ROW_BYTES = 1000
LOOK_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds between the looks of a caller who waits (`usecases/jobs/lane.py`); the last one repeats."""


def submitted(tier: Tier, size: Size) -> Calls:
    """`jobs/submit.py`: not in the cache, payload, row (and its index), message."""
    return (
        *looked_up(tier, size),
        _payload("PutObject"),
        written(ROW_BYTES, index=1),
        message("SendMessage"),
    )


def worked(tier: Tier, size: Size) -> Calls:
    """`jobs/work.py`, the provider answers at once: bought, stored, landed, completed."""
    return (
        *_begun(tier, size),
        flight_led(),
        written(ROW_BYTES),
        *kept(tier, size),
        flight_landed(size.kept),
        written(ROW_BYTES, index=1),
    )


def handed_over(tier: Tier, size: Size) -> Calls:
    """`jobs/work.py`, the provider takes the job: the flight's row before and after, the ticket to the
    poller."""
    row = (flight_led(), written(ROW_BYTES), flight_led(), written(ROW_BYTES, index=2))
    return (*_begun(tier, size), *row, message("SendMessage"))


def polled() -> Calls:
    """`jobs/poll.py`, it is not done yet."""
    return (*_asked(), written(ROW_BYTES, index=2), message("SendMessage"))


def harvested(tier: Tier, size: Size) -> Calls:
    """`jobs/harvest.py`, it is done."""
    return (*_asked(), *kept(tier, size), flight_landed(size.kept), written(ROW_BYTES, index=1))


def looked(*, handed_over: bool) -> Calls:
    """`jobs/results.py`, a question for an open ticket; one that a provider has is read with its flight."""
    row = read("GetItem", ROW_BYTES, strongly=True)
    return (row, read("BatchGetItem", ROW_BYTES, strongly=True)) if handed_over else (row,)


def result(tier: Tier, size: Size) -> Calls:
    """A completed one's: the row, and the vector."""
    return (read("GetItem", ROW_BYTES, strongly=True), *hit(tier, size))


def looks(seconds: float) -> int:
    """How often a caller looks who waits that long, before the look that finds it done."""
    count, at = 1, 0.0
    while (at := at + LOOK_PAUSES[min(count, len(LOOK_PAUSES)) - 1]) < seconds:
        count += 1
    return count


def bought(tier: Tier, size: Size, *, seconds: float, polls: int) -> Calls:
    """From a miss to the answer, for a caller who waits `seconds`. `polls`: 0 where the provider answers at
    once, else how often it is asked."""
    way = worked(tier, size) if not polls else handed_over(tier, size) + polled() * (polls - 1)
    end = harvested(tier, size) if polls else ()
    waiting = looked(handed_over=polls > 0) * looks(seconds)
    return (*submitted(tier, size), *way, *end, *waiting, *result(tier, size))


def _payload(name: str) -> Call:
    return Call("s3", name, "s3_put_million" if name == "PutObject" else "s3_get_million")


def _begun(tier: Tier, size: Size) -> Calls:
    """Its message, its row, the key that pays (two reads), the payload, and the cache once more."""
    row = read("GetItem", ROW_BYTES, strongly=True)
    begun = (*_delivered(), row, row, row, written(ROW_BYTES, index=2))
    return (*begun, _payload("GetObject"), *looked_up(tier, size))


def _asked() -> Calls:
    row = read("GetItem", ROW_BYTES, strongly=True)
    return (*_delivered(), row, read("BatchGetItem", ROW_BYTES, strongly=True), flight_led())


def _delivered() -> Calls:
    """Lambda's own: one message at a time."""
    return (message("ReceiveMessage"), message("DeleteMessage"))
