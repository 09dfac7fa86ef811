"""The composition root: from settings to a gateway. The only place that knows every adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from embedonce.bootstrap.admission import admission_of
from embedonce.bootstrap.embedding import embedder_of, results_of, submit_of
from embedonce.bootstrap.parts import Parts, parts_of
from embedonce.bootstrap.reporting import usage_of
from embedonce.bootstrap.stores import Stores, open_access, open_stores
from embedonce.bootstrap.webhooks import webhooks_of
from embedonce.config import Settings
from embedonce.core.catalog import Catalog
from embedonce.dialects.embedding import Embedder
from embedonce.dialects.google.routes import GoogleDialect
from embedonce.dialects.openai.routes import OpenAIDialect
from embedonce.dialects.segmind.jobs import SegmindJobs
from embedonce.dialects.segmind.routes import SegmindDialect
from embedonce.dialects.segmind.uploads import Uploads
from embedonce.http import pages, system
from embedonce.http.routes import Gateway, Route
from embedonce.ports import Clock, Telemetry, Upstream
from embedonce.upstreams.router import Router
from embedonce.usecases.jobs.lane import SlowLane
from embedonce.usecases.jobs.results import Results
from embedonce.usecases.jobs.submit import Submit

LAMBDA_ANSWER_BYTES = 5_500_000
"""Lambda's limit for an answer is 6 MB; the rest is for headers and the escaping of the body as JSON."""
LOCAL_ANSWER_BYTES = 1 << 30
PURCHASE_THREADS = 64
"""Never more than an upstream's transport has connections."""
REPORT_THREADS = 8
"""Of their own: purchases may hold all others for as long as providers take."""


@dataclass(frozen=True, slots=True)
class App:
    gateway: Gateway
    parts: Parts
    max_body_bytes: int
    pool: ThreadPoolExecutor
    close: Callable[[], None]

    @property
    def router(self) -> Router:
        return self.parts.router

    @property
    def catalog(self) -> Catalog:
        return self.parts.catalog

    @property
    def clock(self) -> Clock:
        return self.parts.clock


def build(
    settings: Settings,
    telemetry: Telemetry,
    *,
    development_key: str | None = None,
    clock: Clock | None = None,
    stores: Stores | None = None,
    upstreams: Iterable[Upstream] | None = None,
) -> App:
    """`stores` and `upstreams` are given by tests only.

    :raises ConfigError: settings that cannot work
    """
    parts = parts_of(
        settings,
        telemetry,
        development_key=development_key,
        clock=clock,
        stores=stores,
        upstreams=upstreams,
    )
    pool = ThreadPoolExecutor(PURCHASE_THREADS, thread_name_prefix="purchase")
    unlimited = settings.mode == "local" and settings.limits == "local"
    limit = LOCAL_ANSWER_BYTES if unlimited else LAMBDA_ANSWER_BYTES
    readers = ThreadPoolExecutor(REPORT_THREADS, thread_name_prefix="report")
    gateway = _gateway(parts, pool, readers, limit)

    def close() -> None:
        readers.shutdown(wait=True, cancel_futures=True)
        pool.shutdown(wait=True, cancel_futures=True)
        parts.close()

    return App(gateway, parts, limit, pool, close)


def _gateway(parts: Parts, pool: ThreadPoolExecutor, readers: ThreadPoolExecutor, limit: int) -> Gateway:
    submit, results = submit_of(parts), results_of(parts)
    embedder = Embedder(
        embedder_of(parts, pool, lane=SlowLane(submit, results, parts.clock), admission=admission_of(parts)),
        parts.clock,
        max_answer_bytes=limit,
    )
    openai = OpenAIDialect(embedder, parts.catalog)
    google, segmind = GoogleDialect(embedder, parts.catalog), SegmindDialect(embedder, parts.catalog)
    routes: list[Route] = [*google.routes(), *openai.routes(), *segmind.routes()]
    routes += [
        *_job_routes(parts, segmind, submit, results),
        *usage_of(parts, readers, openai).routes(),
        *system.routes(openai),
        *pages.routes(openai),
    ]
    return Gateway(
        routes,
        parts.authenticator,
        parts.telemetry,
        parts.clock,
        default_dialect=openai,
        max_body_bytes=limit,
        spoken_under={"/v1beta": google, "/upload/v1beta": google, "/v2/": segmind},
    )


def _job_routes(parts: Parts, segmind: SegmindDialect, submit: Submit, results: Results) -> list[Route]:
    settings = parts.settings
    webhooks = webhooks_of(settings, parts.clock, parts.telemetry)
    jobs = SegmindJobs(
        segmind,
        submit,
        results,
        parts.catalog,
        parts.clock,
        secret_of=webhooks.secret_of,
        check_webhook=webhooks.check,
    )
    uploads = Uploads(
        segmind,
        parts.stores.blobs,
        parts.stores.quotas,
        parts.catalog,
        parts.clock,
        max_bytes=settings.upload_mb << 20,
        quota_bytes=settings.upload_quota_mb << 20,
    )
    return [*uploads.routes(), *jobs.routes()]


__all__ = ["App", "Stores", "build", "open_access", "open_stores"]
