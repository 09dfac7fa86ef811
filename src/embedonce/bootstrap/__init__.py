"""The composition root: from settings to a gateway. The only place that knows every adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from embedonce.access.authenticate import Authenticator
from embedonce.bootstrap.catalog import catalog_of
from embedonce.bootstrap.media import resolver_of
from embedonce.bootstrap.stores import Stores, open_access, open_stores
from embedonce.bootstrap.upstreams import order_of, upstreams_of
from embedonce.clock import SystemClock
from embedonce.config import Settings
from embedonce.core.catalog import Catalog
from embedonce.dialects.embedding import Embedder
from embedonce.dialects.google.routes import GoogleDialect
from embedonce.dialects.openai.routes import OpenAIDialect
from embedonce.dialects.segmind.routes import SegmindDialect
from embedonce.http import system
from embedonce.http.routes import Gateway
from embedonce.ports import Clock, Telemetry, Upstream
from embedonce.stores.memory import MemoryVectors
from embedonce.stores.tiered import LayeredVectors
from embedonce.telemetry import quieten_libraries
from embedonce.upstreams.router import Router
from embedonce.usecases.departure import Departures
from embedonce.usecases.embed import EmbedContents
from embedonce.usecases.flights import Flights
from embedonce.usecases.purchase import Buyer

LAMBDA_ANSWER_BYTES = 5_500_000
"""Lambda's limit for an answer is 6 MB; the rest is for headers and the escaping of the body as JSON."""
LOCAL_ANSWER_BYTES = 1 << 30
MEMORY_SECONDS = 60.0
"""How long a process believes its own memory: what is purged or refreshed elsewhere is gone within this."""
PURCHASE_THREADS = 64
"""Never more than an upstream's transport has connections."""


@dataclass(frozen=True, slots=True)
class App:
    gateway: Gateway
    router: Router
    catalog: Catalog
    clock: Clock
    max_body_bytes: int
    pool: ThreadPoolExecutor
    close: Callable[[], None]


def build(
    settings: Settings,
    telemetry: Telemetry,
    *,
    development_key: str | None = None,
    clock: Clock | None = None,
    stores: Stores | None = None,
    upstreams: Iterable[Upstream] | None = None,
) -> App:
    """`stores` and `upstreams` are given by tests only."""
    quieten_libraries()
    clock = clock or SystemClock()
    stores = stores or open_stores(settings, clock)
    catalog = catalog_of(settings)
    chosen = list(upstreams) if upstreams is not None else upstreams_of(settings, catalog, clock)
    order = order_of(settings, chosen, catalog)
    router = Router(chosen, clock, telemetry, attempt_timeout=settings.upstream_timeout, order=order)
    memory = MemoryVectors(max_bytes=settings.memory_mb << 20, max_age=MEMORY_SECONDS, clock=clock)
    vectors = LayeredVectors(memory, stores.vectors)
    flights = Flights(stores.flights, clock, telemetry)
    buyer = Buyer(
        router, vectors, flights, clock, telemetry, ttl_seconds=int(settings.vector_ttl_days * 86_400)
    )
    pool = ThreadPoolExecutor(PURCHASE_THREADS, thread_name_prefix="purchase")
    departures = Departures(buyer, vectors, flights, clock, pool, attempt_timeout=settings.upstream_timeout)
    media = resolver_of(settings, stores.validators, clock, telemetry)
    embed = EmbedContents(router, vectors, memory, departures, media, clock, telemetry)
    unlimited = settings.mode == "local" and settings.limits == "local"
    limit = LOCAL_ANSWER_BYTES if unlimited else LAMBDA_ANSWER_BYTES
    embedder = Embedder(embed, clock, max_answer_bytes=limit)
    openai = OpenAIDialect(embedder, catalog)
    google, segmind = GoogleDialect(embedder, catalog), SegmindDialect(embedder, catalog)
    gateway = Gateway(
        [*google.routes(), *openai.routes(), *segmind.routes(), *system.routes(openai)],
        Authenticator(stores.access, clock, telemetry, development_key=development_key),
        telemetry,
        default_dialect=openai,
        max_body_bytes=limit,
        spoken_under={"/v1beta": google, "/upload/v1beta": google, "/v2/": segmind},
    )

    def close() -> None:
        pool.shutdown(wait=True, cancel_futures=True)
        media.close()
        for upstream in chosen:
            upstream.close()
        stores.close()

    return App(gateway, router, catalog, clock, limit, pool, close)


__all__ = ["App", "Stores", "build", "open_access", "open_stores"]
