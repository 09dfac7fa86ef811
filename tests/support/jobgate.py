"""The routes of submit and poll, and of uploads, over a pipeline whose workers run when a test says so."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from embedonce.access.keys import SHARED, issue
from embedonce.core.deadline import HANDLER_SECONDS, Deadline
from embedonce.core.patience import Patience
from embedonce.dialects.segmind.jobs import SegmindJobs, https_only
from embedonce.dialects.segmind.routes import SegmindDialect
from embedonce.dialects.segmind.uploads import Uploads
from embedonce.http.message import Request
from embedonce.http.routes import Gateway
from embedonce.ports import BlobStore, QuotaStore
from support.clock import FakeClock
from support.gateway import Answer
from support.pipeline import KEY, Pipeline, Provider

BASE = "https://embed.example"
SLUG = "/v2/gemini-embedding-2"
NOTHING: Any = None


@dataclass(frozen=True)
class JobGate:
    pipeline: Pipeline
    gateway: Gateway
    clock: FakeClock

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        key: str = KEY,
        base_url: str = BASE,
        patience: Patience = Patience.PROVIDERS,
    ) -> Answer:
        return Answer(
            self.gateway.handle(
                Request(
                    method=method,
                    path=path.removeprefix(BASE),
                    headers={"x-api-key": key, **(headers or {})},
                    query={},
                    body=b"" if body is None else orjson.dumps(body),
                    request_id=uuid.uuid4().hex,
                    deadline=Deadline.after(HANDLER_SECONDS, self.clock.monotonic()),
                    patience=patience,
                    base_url=base_url,
                )
            )
        )

    def submit(self, path: str = SLUG, headers: Mapping[str, str] | None = None, **fields: Any) -> Answer:
        return self.request("POST", path, fields, headers)

    def submitted(self, **fields: Any) -> str:
        answer = self.submit(**fields)
        assert answer.status == 200, answer.response.body
        request_id: str = answer.body["request_id"]
        return request_id

    def status(self, request_id: str, **options: Any) -> Answer:
        return self.request("GET", f"/v2/requests/{request_id}/status", **options)

    def result(self, request_id: str, **options: Any) -> Answer:
        return self.request("GET", f"/v2/requests/{request_id}", **options)

    def new_key(self, scopes: frozenset[str] = frozenset({"embed"})) -> tuple[str, str]:
        """A key and its id."""
        key, record = issue("test", namespace=SHARED, scopes=scopes, isolated=False, now=self.clock.now())
        self.pipeline.stores.access.add(record)
        return key, record.id


@contextmanager
def jobgate(
    folder: Path,
    provider: Provider | None = None,
    *,
    blobs: BlobStore | None = None,
    quotas: QuotaStore | None = None,
    max_bytes: int = 1000,
    quota_bytes: int = 3000,
) -> Iterator[JobGate]:
    clock = FakeClock()
    pipeline = Pipeline(folder, provider or Provider(), clock)
    parts = pipeline.parts
    dialect = SegmindDialect(NOTHING, parts.catalog)
    jobs = SegmindJobs(
        dialect,
        pipeline.submit,
        pipeline.results,
        parts.catalog,
        clock,
        secret_of=lambda key_id: f"whsec_{key_id}",
        check_webhook=https_only,
    )
    uploads = Uploads(
        dialect,
        blobs or pipeline.stores.blobs,
        quotas or pipeline.stores.quotas,
        parts.catalog,
        clock,
        max_bytes=max_bytes,
        quota_bytes=quota_bytes,
    )
    gateway = Gateway(
        [*jobs.routes(), *uploads.routes()],
        parts.authenticator,
        parts.telemetry,
        clock,
        default_dialect=dialect,
        max_body_bytes=5_500_000,
    )
    try:
        yield JobGate(pipeline, gateway, clock)
    finally:
        parts.close()
