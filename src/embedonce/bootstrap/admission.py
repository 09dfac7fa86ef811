"""What a process keeps, by its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedonce.bootstrap.parts import Parts
from embedonce.stores.memory import MemoryVectors

if TYPE_CHECKING:
    from embedonce.core.catalog import Model
    from embedonce.core.content import Modality
    from embedonce.core.costcalls import Tier
    from embedonce.core.costworth import Unit
    from embedonce.core.prices import Prices
    from embedonce.usecases.admission import Admission

FOREVER = float("inf")
"""First sights are gone when they expire, when there are too many, or when something is purged."""


def admission_of(parts: Parts) -> Admission | None:
    """None: everything is kept, as always in local mode, where keeping costs nothing."""
    settings = parts.settings
    if settings.admission == "always" or settings.mode == "local":
        return None
    from embedonce.core.costcalls import Place, Tier
    from embedonce.core.prices import built_in

    tier = Tier("configured", Place.DYNAMODB, Place.S3, settings.s3_min_dimensions)
    return pays(parts, tier, built_in())


def pays(parts: Parts, tier: Tier, prices: Prices) -> Admission:
    """What is worth it where vectors are kept so, at these prices. First sights get as much memory as
    vectors that are stored."""
    from embedonce.core.costworth import unit
    from embedonce.core.repetition import Prior
    from embedonce.usecases.admission import Admission

    settings = parts.settings
    days = settings.vector_ttl_days

    def unit_of(modality: Modality, tokens: float, dimensions: int, model: Model) -> Unit:
        return unit(modality, tokens, dimensions, tier, prices, model=model, lifecycle_days=days)

    held = MemoryVectors(max_bytes=settings.memory_mb << 20, max_age=FOREVER, clock=parts.clock)
    parts.accounts.deployment.on_purge(held.clear)
    return Admission(unit_of, held, most_days=days, prior=Prior(settings.expected_hit_ratio))
