"""One content's vector, if the cache has it."""

from __future__ import annotations

from dataclasses import dataclass

from embedonce.core.errors import StoreUnavailable
from embedonce.core.plan import Item, VectorKey
from embedonce.core.record import StoredVector
from embedonce.ports import Telemetry, VectorStore


@dataclass(frozen=True, slots=True)
class Found:
    """`key`: under which it lies, which may be that of a larger size."""

    key: VectorKey
    record: StoredVector


def look_up(vectors: VectorStore, item: Item, telemetry: Telemetry) -> Found | None:
    """At the size that is stored, or a larger one. A store that cannot be read is a miss."""
    keys = [key for key in (item.fetch, item.source) if key is not None]
    try:
        found = vectors.get_many(keys)
    except StoreUnavailable:
        telemetry.count("VectorStoreErrors")
        telemetry.event("vector_store_unavailable", during="get")
        return None
    hits = (Found(key, found[key.fingerprint]) for key in keys if key.fingerprint in found)
    return next(hits, None)
