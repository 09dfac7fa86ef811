"""What a rule's sources may cost in a day: taken once for each chunk, before anything of it is bought, and
given back never, so that it can only be too much."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from embedonce.core.catalog import most_tokens
from embedonce.core.content import Modality
from embedonce.core.errors import InvalidRequest, LimitExceeded
from embedonce.core.pricing import Price, usd_text
from embedonce.ports import QuotaStore, VectorStore
from embedonce.usecases.ingest.manifests import TAKEN, Manifests
from embedonce.usecases.ingest.media import Order
from embedonce.usecases.ingest.pieces import Piece
from embedonce.usecases.planning import Planner

KEPT_SECONDS = 2 * 86_400.0


class Ceiling:
    def __init__(
        self, manifests: Manifests, quotas: QuotaStore, vectors: VectorStore, planner: Planner
    ) -> None:
        self._manifests = manifests
        self._quotas = quotas
        self._vectors = vectors
        self._planner = planner

    def allows(self, order: Order, pieces: Sequence[Piece], now: float) -> bool:
        """Whether what is not in the cache may be bought today; hits are free. Allowed once, it stays so.

        :raises LimitExceeded: it could not be on any day
        :raises StoreUnavailable: nobody knows
        """
        limit = order.manifest.terms.daily
        if limit is None or self._manifests.blob(order.manifest.id, TAKEN, order.chunk) is not None:
            return True
        cost = self._cost(order, pieces)
        if cost > limit:
            most = f"{usd_text(limit)} USD a day for the rule"
            raise LimitExceeded("source", limit=most, value=f"up to {usd_text(cost)} USD for one part of it")
        day = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d")
        name = f"ingest/{order.manifest.rule}/{day}"
        if cost and not self._quotas.take(name, cost, limit=limit, expires=now + KEPT_SECONDS):
            return False
        self._manifests.put_blob(order.manifest.id, TAKEN, order.chunk, str(cost).encode())
        return True

    def _cost(self, order: Order, pieces: Sequence[Piece]) -> int:
        """Of what is not in the cache, at the very most, by the prices of whoever would embed it."""
        by_modality: dict[Modality, list[Piece]] = {}
        for piece in pieces:
            by_modality.setdefault(piece.segment.modality, []).append(piece)
        return sum(self._cost_of(order, group) for group in by_modality.values())

    def _cost_of(self, order: Order, pieces: Sequence[Piece]) -> int:
        contents = [piece.content() for piece in pieces]
        params = [f"segment {piece.index}" for piece in pieces]
        try:
            plan = self._planner(contents, params, order.options, order.namespace)
        except InvalidRequest:  # no upstream takes it, so it costs nothing
            return 0
        keys = [key for item in plan.items for key in (item.fetch, item.source) if key is not None]
        found = self._vectors.get_many(keys)
        return sum(
            plan.routes[item.modalities]
            .offer.prices.get(item.modality, Price.FREE)
            .of(most_tokens(item.content))
            for item in plan.items
            if item.fetch.fingerprint not in found
            and (item.source is None or item.source.fingerprint not in found)
        )
