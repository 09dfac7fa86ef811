"""What a rule's sources may cost in a day: taken before anything is bought, given back never, so that it can
only be too much."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from embedonce.core.catalog import most_cost
from embedonce.ports import QuotaStore, VectorStore
from embedonce.upstreams.router import Router
from embedonce.usecases.ingest.media import Order
from embedonce.usecases.ingest.pieces import Piece
from embedonce.usecases.planning import planned

KEPT_SECONDS = 2 * 86_400.0


class Ceiling:
    def __init__(self, quotas: QuotaStore, vectors: VectorStore, router: Router) -> None:
        self._quotas = quotas
        self._vectors = vectors
        self._router = router

    def allows(self, order: Order, pieces: Sequence[Piece], now: float) -> bool:
        """Whether what is not in the cache may be bought today; hits are free. A chunk that is begun again
        is counted again.

        :raises StoreUnavailable: nobody knows
        """
        limit = order.manifest.terms.daily
        if limit is None:
            return True
        contents = [piece.content() for piece in pieces]
        params = [f"segment {piece.index}" for piece in pieces]
        items = planned(self._router, contents, params, order.options, order.namespace).items
        keys = [key for item in items for key in (item.fetch, item.source) if key is not None]
        found = self._vectors.get_many(keys)
        missing = [
            item
            for item in items
            if item.fetch.fingerprint not in found
            and (item.source is None or item.source.fingerprint not in found)
        ]
        cost = sum(most_cost(item.content, order.options.model) for item in missing)
        if not cost:
            return True
        day = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d")
        name = f"ingest/{order.manifest.rule}/{day}"
        return self._quotas.take(name, cost, limit=limit, expires=now + KEPT_SECONDS)
