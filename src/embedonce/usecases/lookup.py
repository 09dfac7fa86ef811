"""One content's vector, if the cache has it."""

from __future__ import annotations

from embedonce.core.errors import StoreUnavailable
from embedonce.core.plan import Item
from embedonce.core.record import StoredVector
from embedonce.ports import Telemetry, VectorStore


def look_up(vectors: VectorStore, item: Item, telemetry: Telemetry) -> StoredVector | None:
    """At the size that is stored, or a larger one. A store that cannot be read is a miss."""
    keys = [key for key in (item.fetch, item.source) if key is not None]
    try:
        found = vectors.get_many(keys)
    except StoreUnavailable:
        telemetry.count("VectorStoreErrors")
        telemetry.event("vector_store_unavailable", during="get")
        return None
    return next((found[key.fingerprint] for key in keys if key.fingerprint in found), None)
