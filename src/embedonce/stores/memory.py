"""An in-process LRU of vectors, bounded in bytes, in front of a shared store."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from sys import getsizeof

from embedonce.core.plan import VectorKey
from embedonce.core.record import StoredVector
from embedonce.ports import Clock

CONTAINER_BYTES = 400
"""An entry's share of the map (its node and up to three times its slot, as tables grow by doubling), its
tuple and the record's own object. Measured by tests/contract/test_memory_vectors.py."""


def cost_of(fingerprint: bytes, record: StoredVector) -> int:
    """Bytes of memory that keeping `record` takes, not only its vector."""
    return (
        CONTAINER_BYTES
        + getsizeof(fingerprint)
        + getsizeof(record.data)
        + getsizeof(record.model)
        + getsizeof(record.lineage)
        + getsizeof(record.upstream)
        + getsizeof(record.tokens)
        + getsizeof(record.cost)
        + getsizeof(record.created)
        + getsizeof(record.expires)
    )


class MemoryVectors:
    """Thread-safe. An entry older than `max_age` seconds is not answered: a purge or refresh by another
    process takes effect here in that time. Ages are measured on the wall clock, because the monotonic one may
    stand still while a Lambda is frozen; a clock that was set back drops entries."""

    def __init__(self, *, max_bytes: int, max_age: float, clock: Clock) -> None:
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, tuple[StoredVector, float, int]] = OrderedDict()
        self._bytes = 0

    @property
    def bytes_held(self) -> int:
        return self._bytes

    def __len__(self) -> int:
        return len(self._entries)

    def get_many(self, keys: Iterable[VectorKey]) -> dict[bytes, StoredVector]:
        now = self._clock.now()
        found: dict[bytes, StoredVector] = {}
        entries = self._entries
        with self._lock:
            for key in keys:
                fingerprint = key.fingerprint
                entry = entries.get(fingerprint)
                if entry is None:
                    continue
                record, since, _ = entry
                if now < record.expires and 0.0 <= now - since < self._max_age:
                    entries.move_to_end(fingerprint)
                    found[fingerprint] = record
                else:
                    self._drop(fingerprint)
        return found

    def put(self, key: VectorKey, record: StoredVector, *, replace: bool = True) -> None:
        """`replace=False` lets a live entry stand: what was read before a write may not undo it."""
        fingerprint = key.fingerprint
        cost = cost_of(fingerprint, record)
        now = self._clock.now()
        with self._lock:
            entry = self._entries.get(fingerprint)
            if entry is not None:
                standing, since, _ = entry
                if not replace and standing.live(now) and 0.0 <= now - since < self._max_age:
                    return
                self._drop(fingerprint)
            if cost > self._max_bytes or not record.live(now):
                return
            self._entries[fingerprint] = (record, now, cost)
            self._bytes += cost
            while self._bytes > self._max_bytes:
                _, (_, _, freed) = self._entries.popitem(last=False)
                self._bytes -= freed

    def discard(self, keys: Iterable[VectorKey]) -> None:
        with self._lock:
            for key in keys:
                self._drop(key.fingerprint)

    def clear(self) -> None:
        """Something was purged, and it is not known here what."""
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    def _drop(self, fingerprint: bytes) -> None:
        entry = self._entries.pop(fingerprint, None)
        if entry is not None:
            self._bytes -= entry[2]
