"""Which stores a mode has. Each mode's adapters are imported only when it is the mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedonce.config import ConfigError, Settings, env_of
from embedonce.core.errors import StoreUnavailable
from embedonce.core.task import IngestQueue, Task
from embedonce.core.ticket import Stage, TicketRef
from embedonce.ports import (
    AccessStore,
    BlobStore,
    Clock,
    FlightStore,
    ManifestStore,
    Queue,
    QuotaStore,
    ResultStore,
    SourceStore,
    TicketStore,
    UsageStore,
    ValidatorStore,
    VectorScan,
    VectorSink,
    VectorStore,
)
from embedonce.stores.breaker import BreakingAccess, BreakingFlights, BreakingVectors
from embedonce.stores.messages import TASKS, TICKETS

if TYPE_CHECKING:
    from pathlib import Path

    from embedonce.local.uploads import UploadSigner
    from embedonce.stores.aws.clients import AwsClients
    from embedonce.stores.embedded.database import Database

DATABASE_FILE = "embedonce.sqlite3"
BLOB_FOLDER = "blobs"
SEGMENT_FOLDER = "segments"
INBOX_FOLDER = "inbox"
RESULT_FOLDER = "results"
INBOX = "inbox"
"""What sources say that their bucket is where they lie in the inbox."""
VISIBILITY_SECONDS = {Stage.WORK: 330.0, Stage.POLL: 60.0}
INGEST_VISIBILITY = 330.0
MAX_RECEIVES = 5
"""The embedded queues'; those on AWS have their own (template.yaml)."""


@dataclass(frozen=True, slots=True)
class IngestStores:
    """`queues` by name: of sources to be cut, of chunks to be embedded and results to be published."""

    manifests: ManifestStore
    queues: Mapping[IngestQueue, Queue[Task]]
    blobs: BlobStore
    sources: SourceStore
    results: ResultStore
    sink: VectorSink | None = None
    """None: rules with one are refused at start-up."""


@dataclass(frozen=True, slots=True)
class Stores:
    vectors: VectorStore
    flights: FlightStore
    access: AccessStore
    tickets: TicketStore
    queues: Mapping[Stage, Queue[TicketRef]]
    blobs: BlobStore
    quotas: QuotaStore
    usage: UsageStore
    scan: VectorScan
    """Past the breakers; functions on AWS may not."""
    close: Callable[[], None]
    validators: ValidatorStore | None = None
    """None: every URL is downloaded every time."""
    ingest: IngestStores | None = None
    """None: nothing is picked up."""


def open_stores(settings: Settings, clock: Clock) -> Stores:
    """:raises ConfigError: AWS mode without its tables, buckets and queues"""
    return _aws_stores(settings, clock) if settings.mode == "aws" else _embedded_stores(settings, clock)


def open_access(settings: Settings, clock: Clock) -> tuple[AccessStore, Callable[[], None]]:
    """The keys alone, and how to close them.

    :raises ConfigError: AWS mode without the table
    """
    if settings.mode == "aws":
        from embedonce.stores.aws.access import DynamoAccess
        from embedonce.stores.aws.clients import AwsClients

        clients = AwsClients()
        return DynamoAccess(clients, _required(settings, "access_table"), clock), clients.close
    from embedonce.stores.embedded.access import EmbeddedAccess

    database = _database(settings)
    return EmbeddedAccess(database), database.close


def _database(settings: Settings) -> Database:
    """:raises ConfigError: the file cannot be used at all"""
    from embedonce.stores.embedded.database import Database, IncompatibleDatabase

    try:
        return Database(settings.data_dir / DATABASE_FILE)
    except (StoreUnavailable, IncompatibleDatabase, OSError) as error:
        raise ConfigError(f"{env_of('data_dir')}: {settings.data_dir}: {error}") from None


def _embedded_stores(settings: Settings, clock: Clock) -> Stores:
    from embedonce.stores.embedded.access import EmbeddedAccess
    from embedonce.stores.embedded.blobs import DirectoryBlobs
    from embedonce.stores.embedded.flights import EmbeddedFlights
    from embedonce.stores.embedded.queue import EmbeddedQueue
    from embedonce.stores.embedded.quotas import EmbeddedQuotas
    from embedonce.stores.embedded.tickets import EmbeddedTickets
    from embedonce.stores.embedded.usage import EmbeddedUsage
    from embedonce.stores.embedded.validators import EmbeddedValidators
    from embedonce.stores.embedded.vectors import EmbeddedVectors

    database = _database(settings)
    vectors = EmbeddedVectors(database, clock)
    return Stores(
        BreakingVectors(vectors, clock),
        BreakingFlights(EmbeddedFlights(database, clock), clock),
        BreakingAccess(EmbeddedAccess(database), clock),
        # Without breakers: what handles tickets must see for itself that a store fails.
        tickets=EmbeddedTickets(database, clock),
        queues={
            stage: EmbeddedQueue(
                database, clock, stage.value, TICKETS, visibility=visibility, max_receives=MAX_RECEIVES
            )
            for stage, visibility in VISIBILITY_SECONDS.items()
        },
        blobs=DirectoryBlobs(settings.data_dir / BLOB_FOLDER, clock, sign=_signer(settings, clock)),
        quotas=EmbeddedQuotas(database, clock),
        usage=EmbeddedUsage(database, clock),
        scan=vectors,
        close=database.close,
        validators=EmbeddedValidators(database, clock),
        ingest=embedded_ingest(
            settings.data_dir,
            database,
            clock,
            folders={INBOX: settings.data_dir / INBOX_FOLDER},
            results=settings.data_dir / RESULT_FOLDER,
        ),
    )


def embedded_ingest(
    data_dir: Path, database: Database, clock: Clock, *, folders: Mapping[str, Path], results: Path
) -> IngestStores:
    """:param folders: sources by bucket"""
    from embedonce.stores.embedded.blobs import DirectoryBlobs
    from embedonce.stores.embedded.manifests import EmbeddedManifests
    from embedonce.stores.embedded.queue import EmbeddedQueue
    from embedonce.stores.embedded.results import DirectoryResults
    from embedonce.stores.embedded.sources import DirectorySources

    return IngestStores(
        manifests=EmbeddedManifests(database, clock),
        queues={
            name: EmbeddedQueue(
                database, clock, name.value, TASKS, visibility=INGEST_VISIBILITY, max_receives=MAX_RECEIVES
            )
            for name in IngestQueue
        },
        blobs=DirectoryBlobs(data_dir / SEGMENT_FOLDER, clock),
        sources=DirectorySources(folders),
        results=DirectoryResults(results, clock),
    )


def _signer(settings: Settings, clock: Clock) -> UploadSigner:
    """:raises ConfigError: the folder cannot keep a secret"""
    from embedonce.local.uploads import UploadSigner, signing_secret

    try:
        return UploadSigner(signing_secret(settings.data_dir), clock)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{env_of('data_dir')}: {settings.data_dir}: {error}") from None


def _aws_stores(settings: Settings, clock: Clock) -> Stores:
    from embedonce.stores.aws.access import DynamoAccess
    from embedonce.stores.aws.blobs import S3Blobs
    from embedonce.stores.aws.clients import AwsClients
    from embedonce.stores.aws.flights import DynamoFlights
    from embedonce.stores.aws.queue import SqsQueue
    from embedonce.stores.aws.quotas import DynamoQuotas
    from embedonce.stores.aws.s3_vectors import S3Vectors
    from embedonce.stores.aws.tickets import DynamoTickets
    from embedonce.stores.aws.usage import DynamoUsage
    from embedonce.stores.aws.validators import DynamoValidators
    from embedonce.stores.aws.vectors import DynamoVectors
    from embedonce.stores.tiered import TieredScan, TieredVectors

    clients = AwsClients()
    small = DynamoVectors(clients, _required(settings, "vectors_table"), clock)
    large = S3Vectors(clients, _required(settings, "cache_bucket"), clock)
    vectors = TieredVectors(
        BreakingVectors(small, clock),
        BreakingVectors(large, clock),
        large_from=settings.s3_min_dimensions,
    )
    flights_table = _required(settings, "flights_table")
    flights = DynamoFlights(clients, flights_table, clock)
    validators = DynamoValidators(clients, flights_table, clock)
    access = DynamoAccess(clients, _required(settings, "access_table"), clock)
    jobs_table = _required(settings, "jobs_table")
    return Stores(
        vectors,
        BreakingFlights(flights, clock),
        BreakingAccess(access, clock),
        tickets=DynamoTickets(clients, jobs_table),
        queues={
            Stage.WORK: SqsQueue(clients, _required(settings, "work_queue_url"), TICKETS),
            Stage.POLL: SqsQueue(clients, _required(settings, "poll_queue_url"), TICKETS),
        },
        blobs=S3Blobs(clients, _required(settings, "blob_bucket")),
        quotas=DynamoQuotas(clients, jobs_table, clock),
        usage=DynamoUsage(clients, _required(settings, "usage_table"), clock),
        scan=TieredScan(small, large, large_from=settings.s3_min_dimensions),
        close=clients.close,
        validators=validators,
        ingest=_aws_ingest(settings, clients),
    )


def _aws_ingest(settings: Settings, clients: AwsClients) -> IngestStores | None:
    """None: without a bucket, as for functions that have nothing to do with it."""
    if not settings.ingest_bucket:
        return None
    from embedonce.stores.aws.blobs import S3Blobs
    from embedonce.stores.aws.manifests import DynamoManifests
    from embedonce.stores.aws.queue import SqsQueue
    from embedonce.stores.aws.results import S3Results
    from embedonce.stores.aws.s3_index import S3VectorsSink
    from embedonce.stores.aws.sources import S3Sources

    return IngestStores(
        manifests=DynamoManifests(clients, _required(settings, "jobs_table")),
        queues={
            IngestQueue.SOURCES: SqsQueue(clients, _required(settings, "ingest_queue_url"), TASKS),
            IngestQueue.CHUNKS: SqsQueue(clients, _required(settings, "chunk_queue_url"), TASKS),
        },
        blobs=S3Blobs(clients, _required(settings, "blob_bucket")),
        sources=S3Sources(
            clients,
            settings.ingest_bucket,
            settings.ingest_prefix,
            spool_bytes=settings.ingest_spool_mb << 20,
        ),
        results=S3Results(
            clients, settings.results_bucket or settings.ingest_bucket, settings.results_prefix
        ),
        sink=S3VectorsSink(clients),
    )


def _required(settings: Settings, name: str) -> str:
    value = getattr(settings, name)
    if not value:
        raise ConfigError(f"{env_of(name)}: required in AWS mode")
    return str(value)
