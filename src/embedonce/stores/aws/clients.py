"""The AWS clients of one process: made at first use, shared by all adapters and threads.

From botocore rather than boto3: the same low-level clients, without the resource layer and its transfer
manager, which is some tens of ms of a cold start. Region, credentials and AWS_ENDPOINT_URL come from the
environment as always.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

import botocore.session
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_s3.client import S3Client

THREADS = 16
CONFIG = Config(
    connect_timeout=1,
    read_timeout=2,
    # The first call and one retry: a store that does not answer may cost a request 4 s, not its deadline.
    retries={"mode": "standard", "total_max_attempts": 2},
    max_pool_connections=32,
    tcp_keepalive=True,
)
ONCE = Config(retries={"mode": "standard", "total_max_attempts": 1})
"""For what must not be done twice: botocore would send again what may have been done."""
SLOWER = Config(connect_timeout=2, read_timeout=10)
"""For all but vectors, flights and tickets: what asks for it works in the background, or moves megabytes."""
SIGNING = Config(
    # Left to itself, botocore signs URLs with version 2, which signs no header but two, and for the global
    # endpoint, which answers with redirects.
    signature_version="s3v4",
    s3={"addressing_style": "virtual", "us_east_1_regional_endpoint": "regional"},
)


class AwsClients:
    """`pool` is for single calls to AWS only: work that itself waits for the pool would deadlock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._session: botocore.session.Session | None = None
        self._made: dict[str, Any] = {}
        self.pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="aws")

    def dynamodb(self) -> DynamoDBClient:
        return cast("DynamoDBClient", self._client("dynamodb", "dynamodb", lambda: CONFIG))

    def dynamodb_once(self) -> DynamoDBClient:
        """Sends nothing twice; see `calls.sent_once`."""
        return cast("DynamoDBClient", self._client("dynamodb-once", "dynamodb", lambda: CONFIG.merge(ONCE)))

    def s3(self) -> S3Client:
        return cast("S3Client", self._client("s3", "s3", lambda: CONFIG))

    def blobs(self) -> S3Client:
        """S3 again, in the one way that URLs for others may be signed. (Not for Express One Zone.)"""
        return cast("S3Client", self._client("blobs", "s3", lambda: CONFIG.merge(SLOWER).merge(SIGNING)))

    def transfers(self) -> S3Client:
        """S3 for megabytes, in buckets of any name (a dot in it breaks TLS where URLs are signed)."""
        return cast("S3Client", self._client("transfers", "s3", lambda: CONFIG.merge(SLOWER)))

    def s3vectors(self) -> Any:
        """Untyped: its stubs are not among our dependencies."""
        return self._client("s3vectors", "s3vectors", lambda: CONFIG.merge(SLOWER))

    def sqs(self) -> Any:
        """Untyped: its stubs are not among our dependencies."""
        return self._client("sqs", "sqs", lambda: CONFIG.merge(SLOWER))

    def close(self) -> None:
        self.pool.shutdown()
        with self._lock:
            made, self._made = self._made, {}
        for client in made.values():
            client.close()

    def _client(self, name: str, service: str, config: Callable[[], Config]) -> Any:
        client = self._made.get(name)
        if client is None:
            with self._lock:
                client = self._made.get(name)
                if client is None:
                    if self._session is None:
                        self._session = botocore.session.get_session()
                    client = self._made[name] = self._session.create_client(service, config=config())
        return client
