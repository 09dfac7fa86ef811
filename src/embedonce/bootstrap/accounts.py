"""What counts in a process, by its settings."""

from __future__ import annotations

from embedonce.accounting.accounts import Accounts
from embedonce.accounting.deployment import DeploymentView
from embedonce.accounting.meter import FLUSH_SECONDS, Meter
from embedonce.accounting.purse import Purse
from embedonce.accounting.rates import Rates
from embedonce.bootstrap.stores import Stores
from embedonce.config import Settings
from embedonce.core.catalog import Catalog
from embedonce.core.pricing import from_usd
from embedonce.ports import Clock, Telemetry

WRITES_WORTH = 20
"""On AWS what was settled is written when it is as many times what its write costs: so accounting stays
under 5% of what it counts."""
LOCAL_FLUSH_SECONDS = 1.0
"""On one machine a write costs nothing, and other processes read what was counted (`embedonce savings`)."""


def accounts_of(
    settings: Settings, stores: Stores, catalog: Catalog, clock: Clock, telemetry: Telemetry
) -> Accounts:
    deployment = DeploymentView(stores.access, clock, telemetry)
    operations, write_worth, flush_seconds = None, 0, LOCAL_FLUSH_SECONDS
    if settings.mode == "aws":
        from embedonce.accounting.operations import OperationCosts
        from embedonce.core.costcalls import Place, Tier
        from embedonce.core.prices import built_in

        prices = built_in()
        flush_seconds = FLUSH_SECONDS
        write_worth = WRITES_WORTH * prices.of("dynamodb_write_unit_million")
        operations = OperationCosts(
            Tier("configured", Place.DYNAMODB, Place.S3, settings.s3_min_dimensions),
            prices,
            catalog.find,
            ttl_days=settings.vector_ttl_days,
        )
    purse = Purse(
        stores.quotas,
        stores.usage,
        deployment,
        clock,
        telemetry,
        daily=from_usd(settings.daily_usd),
        write_worth=write_worth,
    )
    meter = Meter(stores.usage, clock, telemetry, operations=operations, flush_seconds=flush_seconds)
    return Accounts(deployment, meter, purse, Rates(stores.quotas, clock, telemetry))
