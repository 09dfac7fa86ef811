"""What the cache's own operations at AWS cost for one answer, by the cost model."""

from __future__ import annotations

from collections.abc import Callable

from embedonce.core import costcalls as calls
from embedonce.core.answer import Origin
from embedonce.core.catalog import Model
from embedonce.core.content import Modality
from embedonce.core.costcalls import Tier
from embedonce.core.costworth import Unit, unit
from embedonce.core.errors import NotFound
from embedonce.core.prices import Prices
from embedonce.core.record import StoredVector


class OperationCosts:
    """`ttl_days`: for which a vector that was written is paid for. Look-ups and writes of other answers of
    the same request do not make one cheaper."""

    def __init__(
        self, tier: Tier, prices: Prices, find_model: Callable[[str], Model], *, ttl_days: float
    ) -> None:
        self._tier = tier
        self._prices = prices
        self._find_model = find_model
        self._ttl_days = ttl_days
        self._known: dict[tuple[Origin, str, Modality, int, bool], int] = {}

    def of(self, origin: Origin, record: StoredVector, *, stored: bool = True) -> int:
        """Pico-dollars; `record` as answered, at the size asked for. `stored` False: it was bought and not
        kept."""
        key = (origin, record.model, record.modality, len(record.data), stored)
        cost = self._known.get(key)
        if cost is None:
            cost = self._known[key] = self._cost(origin, record, stored=stored)
        return cost

    def _cost(self, origin: Origin, record: StoredVector, *, stored: bool) -> int:
        try:
            model = self._find_model(record.model)
        except NotFound:
            return 0
        one = unit(
            record.modality,
            1,
            record.dimensions,
            self._tier,
            self._prices,
            model=model,
            lifecycle_days=self._ttl_days,
        )
        match origin:
            case Origin.HIT:
                return one.hit
            case Origin.DERIVED:
                return one.derived
            case Origin.COLLAPSED:
                return one.absent + calls.cost(calls.flight_followed(one.size.kept, 1), self._prices)
            case Origin.MISS:
                return self._bought(one) if stored else one.absent

    def _bought(self, one: Unit) -> int:
        return one.absent + one.flight + one.write + one.storage(self._ttl_days)
