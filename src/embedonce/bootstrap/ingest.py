"""Ingest: who cuts has no provider's key and writes no vectors, who embeds runs no parser of files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from embedonce.access.authenticate import DEVELOPMENT
from embedonce.bootstrap.catalog import catalog_of
from embedonce.bootstrap.embedding import embedder_of, results_of, submit_of
from embedonce.bootstrap.jobs import Handler
from embedonce.bootstrap.parts import Parts, parts_of
from embedonce.bootstrap.stores import IngestStores, open_stores
from embedonce.bootstrap.tending import manifests_of
from embedonce.clock import SystemClock
from embedonce.config import ConfigError, Settings, env_of
from embedonce.core.catalog import Catalog
from embedonce.core.deadline import Deadline
from embedonce.core.errors import NotFound
from embedonce.core.rule import Rule
from embedonce.core.task import Step, Task
from embedonce.ingestrules import RuleSetting
from embedonce.ports import Clock, Segmenter, Telemetry
from embedonce.stores.aws.s3events import News
from embedonce.telemetry import quieten_libraries
from embedonce.usecases.ingest.arrivals import Arrivals
from embedonce.usecases.ingest.chunk import EmbedChunk
from embedonce.usecases.ingest.cut import CutSource
from embedonce.usecases.ingest.manifests import Manifests
from embedonce.usecases.ingest.media import SlowMedia
from embedonce.usecases.ingest.pricing import Ceiling
from embedonce.usecases.ingest.publish import Publish

CHUNK_THREADS = 16
"""Upstream calls at once for all chunks of a process."""


def rules_of(settings: Settings, catalog: Catalog) -> tuple[Rule, ...]:
    """On one machine there is one for everything, unless others are given; on AWS none.

    :raises ConfigError: rules that cannot be kept
    """
    local = settings.mode == "local"
    given: Sequence[RuleSetting] = settings.ingest_rules
    if local and not given:
        given = (RuleSetting(),)
    variable = env_of("ingest_rules")
    seen: set[tuple[str, str]] = set()
    rules = []
    for each in given:
        where = f"{variable}: the rule for {each.prefix}*{each.suffix}"
        if not each.key and not local:
            raise ConfigError(f"{where}: `key` is required, the id of the access key that pays")
        if each.sink is not None and local:
            raise ConfigError(f"{where}: `sink` is for AWS only")
        if (each.prefix, each.suffix) in seen:
            raise ConfigError(f"{where} is there twice")
        seen.add((each.prefix, each.suffix))
        try:
            model = catalog.find(each.model)
        except NotFound as error:
            raise ConfigError(f"{where}: {error.message}") from None
        sizes = model.dimensions
        if each.dimensions is not None and not sizes.smallest <= each.dimensions <= sizes.largest:
            raise ConfigError(f"{where}: `dimensions` must be {sizes.smallest} to {sizes.largest}")
        rules.append(each.rule(DEVELOPMENT.key_id))
    return tuple(rules)


@dataclass(frozen=True, slots=True)
class Ingest:
    """What one process does of it: `cut` and `chunks` handle the messages of their queues."""

    arrivals: Arrivals
    manifests: Manifests
    cut: Callable[[Task, Deadline], None]


def ingest_of(
    settings: Settings,
    stores: IngestStores,
    catalog: Catalog,
    clock: Clock,
    telemetry: Telemetry,
    *,
    watched: bool = True,
    segmenter: Segmenter | None = None,
) -> Ingest:
    """:param watched: whether a janitor looks after what stands still
    :param segmenter: given by tests only
    :raises ConfigError: rules that cannot be kept
    """
    rules = rules_of(settings, catalog)
    prefix = settings.ingest_prefix if settings.mode == "aws" else ""
    manifests = manifests_of(stores, clock, telemetry, watched=watched)
    cut = CutSource(
        manifests,
        stores.sources,
        segmenter or _segmenter(),
        rules,
        catalog.find,
        clock,
        telemetry,
        prefix=prefix,
        most_segments=settings.ingest_max_segments,
    )
    return Ingest(Arrivals(manifests, rules, clock, telemetry, prefix=prefix), manifests, cut.handle)


def _segmenter() -> Segmenter:
    """Imported where it is used: who embeds has neither parsers nor what starts them in its package."""
    from embedonce.segmenting.segmenter import ChildSegmenter

    return ChildSegmenter()


def chunks_of(
    parts: Parts, stores: IngestStores, pool: ThreadPoolExecutor, *, watched: bool = True
) -> Callable[[Task, Deadline], None]:
    """Embeds chunks, and publishes results."""
    settings, clock, telemetry = parts.settings, parts.clock, parts.telemetry
    manifests = manifests_of(stores, clock, telemetry, watched=watched)
    # With the patience of callers who wait: after a crash, its leases have to lapse before others go on.
    embed = embedder_of(parts, pool, lane=None)
    slow = SlowMedia(
        manifests,
        parts.tickets,
        submit_of(parts),
        results_of(parts),
        parts.vectors,
        parts.planner,
        clock,
        telemetry,
    )
    ceiling = Ceiling(manifests, parts.stores.quotas, parts.vectors, parts.planner)
    chunk = EmbedChunk(
        manifests, embed, slow, ceiling, parts.authenticator, parts.catalog.find, clock, telemetry
    )
    prefix = settings.ingest_prefix if settings.mode == "aws" else ""
    publish = Publish(manifests, stores.results, stores.sink, clock, telemetry, prefix=prefix)

    def handle(task: Task, deadline: Deadline) -> None:
        step = publish if task.step is Step.ASSEMBLE else chunk
        step.handle(task, deadline)

    return handle


def build_ingest(settings: Settings, telemetry: Telemetry) -> Handler[News]:
    """The function that hears of sources and cuts them: without upstreams, keys or vectors.

    :raises ConfigError: settings that cannot work
    """
    quieten_libraries()
    clock = SystemClock()
    stores = open_stores(settings, clock)
    ingest = ingest_of(settings, _required(stores.ingest), catalog_of(settings), clock, telemetry)

    def handle(news: News, deadline: Deadline) -> None:
        """:raises ValueError: some records could not be read: the message ends among the dead letters"""
        if isinstance(news, Task):
            ingest.cut(news, deadline)
            return
        for source in news.sources:
            if source.bucket == settings.ingest_bucket and source.key.startswith(settings.ingest_prefix):
                if not source.key.endswith("/"):  # a folder, as the console makes them
                    ingest.arrivals.arrived(source)
            else:
                telemetry.count("SourcesRefused")
                telemetry.event("source_refused", why="another bucket or prefix than ours")
        if news.odd:
            telemetry.count("RecordsUnreadable", news.odd)
            raise ValueError("records that are none of S3's")

    return Handler(handle, clock, stores.close)


def build_chunks(settings: Settings, telemetry: Telemetry) -> Handler[Task]:
    """:raises ConfigError: settings that cannot work"""
    parts = parts_of(settings, telemetry)
    pool = ThreadPoolExecutor(CHUNK_THREADS, thread_name_prefix="purchase")
    handle = chunks_of(parts, _required(parts.stores.ingest), pool)

    def close() -> None:
        pool.shutdown(wait=True, cancel_futures=True)
        parts.close()

    return Handler(handle, parts.clock, close, parts.accounts.settle_up)


def _required(stores: IngestStores | None) -> IngestStores:
    if stores is None:
        raise ConfigError(f"{env_of('ingest_bucket')}: required for ingest")
    return stores
