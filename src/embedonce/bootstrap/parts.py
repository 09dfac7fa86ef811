"""What the API and the functions behind the queues have in common, made once in a process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from embedonce.access.authenticate import Authenticator
from embedonce.accounting.accounts import Accounts
from embedonce.bootstrap.accounts import accounts_of
from embedonce.bootstrap.catalog import catalog_of
from embedonce.bootstrap.media import resolver_of
from embedonce.bootstrap.stores import Stores, open_stores
from embedonce.bootstrap.upstreams import order_of, upstreams_of
from embedonce.clock import SystemClock
from embedonce.config import Settings
from embedonce.core.catalog import Catalog
from embedonce.media.resolve import Resolver
from embedonce.ports import Clock, Telemetry, Upstream
from embedonce.stores.memory import MemoryVectors
from embedonce.stores.tiered import LayeredVectors
from embedonce.telemetry import quieten_libraries
from embedonce.upstreams.router import Router
from embedonce.usecases.flights import Flights
from embedonce.usecases.jobs.tickets import Tickets
from embedonce.usecases.planning import Planner

MEMORY_SECONDS = 60.0
"""How long a process believes its own memory: what is purged or refreshed elsewhere is gone within this."""


@dataclass(frozen=True, slots=True)
class Parts:
    settings: Settings
    clock: Clock
    telemetry: Telemetry
    stores: Stores
    catalog: Catalog
    router: Router
    memory: MemoryVectors
    vectors: LayeredVectors
    flights: Flights
    tickets: Tickets
    media: Resolver
    authenticator: Authenticator
    accounts: Accounts
    planner: Planner
    close: Callable[[], None]

    @property
    def ttl_seconds(self) -> int:
        return int(self.settings.vector_ttl_days * 86_400)


def parts_of(
    settings: Settings,
    telemetry: Telemetry,
    *,
    development_key: str | None = None,
    clock: Clock | None = None,
    stores: Stores | None = None,
    upstreams: Iterable[Upstream] | None = None,
) -> Parts:
    """`stores` and `upstreams` are given by tests only.

    :raises ConfigError: settings that cannot work
    """
    quieten_libraries()
    clock = clock or SystemClock()
    stores = stores or open_stores(settings, clock)
    catalog = catalog_of(settings)
    chosen = list(upstreams) if upstreams is not None else upstreams_of(settings, catalog, clock)
    order = order_of(settings, chosen, catalog)
    memory = MemoryVectors(max_bytes=settings.memory_mb << 20, max_age=MEMORY_SECONDS, clock=clock)
    media = resolver_of(settings, stores.validators, stores.blobs, clock, telemetry)

    accounts = accounts_of(settings, stores, catalog, clock, telemetry)
    accounts.deployment.on_purge(memory.clear)
    router = Router(
        chosen,
        clock,
        telemetry,
        attempt_timeout=settings.upstream_timeout,
        order=order,
        observe=accounts.meter.called,
    )

    def close() -> None:
        accounts.settle_up()
        media.close()
        for upstream in chosen:
            upstream.close()
        stores.close()

    return Parts(
        settings=settings,
        clock=clock,
        telemetry=telemetry,
        stores=stores,
        catalog=catalog,
        router=router,
        memory=memory,
        vectors=LayeredVectors(memory, stores.vectors),
        flights=Flights(stores.flights, clock, telemetry),
        tickets=Tickets(stores.tickets, stores.queues, stores.blobs, clock, telemetry, accounts.meter),
        media=media,
        authenticator=Authenticator(stores.access, clock, telemetry, development_key=development_key),
        accounts=accounts,
        planner=Planner(router, accounts.deployment.current),
        close=close,
    )
