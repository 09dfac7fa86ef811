"""Flights inside one process: threads that need the same vector wait for the one that is at it.

Across processes the flight rows do the same; this keeps N threads from each polling the store, and still
holds when the flight store is down.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from embedonce.core.errors import EmbedonceError
from embedonce.core.record import StoredVector

Outcome = StoredVector | EmbedonceError


@dataclass(slots=True)
class Ticket:
    """`outcome` None when set: the holder gave up without one; claim again. `stored`: a vector stands in a
    store."""

    done: threading.Event = field(default_factory=threading.Event)
    outcome: Outcome | None = None
    stored: bool = True


class Desk:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[bytes, Ticket] = {}

    def claim(self, fingerprints: Iterable[bytes]) -> tuple[list[bytes], dict[bytes, Ticket]]:
        """Split into what the caller now holds (and must `release`) and what somebody else holds."""
        mine: list[bytes] = []
        others: dict[bytes, Ticket] = {}
        with self._lock:
            for fingerprint in fingerprints:
                ticket = self._held.get(fingerprint)
                if ticket is None:
                    self._held[fingerprint] = Ticket()
                    mine.append(fingerprint)
                else:
                    others[fingerprint] = ticket
        return mine, others

    def release(self, fingerprint: bytes, outcome: Outcome | None, *, stored: bool = True) -> None:
        with self._lock:
            ticket = self._held.pop(fingerprint, None)
        if ticket is not None:
            ticket.outcome = outcome
            ticket.stored = stored
            ticket.done.set()
