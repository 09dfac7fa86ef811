"""A whole gateway in the test's process: real stores in a folder, a fake provider on loopback."""

from __future__ import annotations

import base64
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from embedonce.bootstrap import App, Stores, build
from embedonce.clock import SystemClock
from embedonce.config import Settings, env_of, load
from embedonce.core import vector
from embedonce.core.deadline import Deadline
from embedonce.http.message import Request, Response
from embedonce.local.loops import Loops
from embedonce.ports import Clock, Upstream
from embedonce.telemetry import LogTelemetry
from fakes.openrouter import FakeOpenRouter

DEV_KEY = "test-development-key"
MODEL = "google/gemini-embedding-2"


@dataclass(frozen=True)
class Answer:
    response: Response

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self.response.headers

    @property
    def body(self) -> Any:
        return orjson.loads(self.response.body)

    @property
    def error(self) -> Any:
        return self.body["error"]

    @property
    def usage(self) -> Any:
        return self.body["usage"]

    @property
    def detail(self) -> str:
        return self.headers["Cache-Status"].partition('detail="')[2].rstrip('"')

    @property
    def vectors(self) -> list[bytes]:
        """In the order of the answer, whose indexes must be 0..n-1; float32 from either encoding."""
        data = self.body["data"]
        assert [item["index"] for item in data] == list(range(len(data)))
        return [_float32(item["embedding"]) for item in data]


def _float32(embedding: Any) -> bytes:
    return base64.b64decode(embedding) if isinstance(embedding, str) else vector.pack(embedding)


@dataclass(frozen=True)
class TestGateway:
    __test__ = False

    app: App
    telemetry: LogTelemetry

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        seconds: float = 20.0,
    ) -> Answer:
        path, _, query = path.partition("?")
        return Answer(
            self.app.gateway.handle(
                Request(
                    method=method,
                    path=path,
                    headers={"authorization": f"Bearer {DEV_KEY}", **(headers or {})},
                    query=dict(pair.split("=") for pair in query.split("&") if pair),
                    body=body,
                    request_id=uuid.uuid4().hex,
                    deadline=Deadline.after(seconds, self.app.clock.monotonic()),
                )
            )
        )

    def embed(
        self,
        inputs: Any,
        *,
        model: str = MODEL,
        headers: Mapping[str, str] | None = None,
        path: str = "/v1/embeddings",
        seconds: float = 20.0,
        **fields: Any,
    ) -> Answer:
        body = orjson.dumps({"model": model, "input": inputs, **fields})
        return self.request("POST", path, body, headers, seconds=seconds)


@contextmanager
def gateway(
    folder: Path,
    fake: FakeOpenRouter | None = None,
    *,
    clock: Clock | None = None,
    stores: Stores | None = None,
    upstreams: Sequence[Upstream] | None = None,
    **settings: Any,
) -> Iterator[TestGateway]:
    """`settings` by their field names, as text; `fake` is reached as OpenRouter. Worker, poller and janitor
    run beside it from the first message on."""
    given = {"data_dir": str(folder), **settings}
    if fake is not None:
        given |= {"openrouter_api_key": fake.key, "openrouter_base_url": fake.base_url}
    telemetry = LogTelemetry()
    app = build(
        load({env_of(name): str(value) for name, value in given.items()}),
        telemetry,
        development_key=DEV_KEY,
        clock=clock,
        stores=stores,
        upstreams=upstreams,
    )
    with _loops(app):
        try:
            yield TestGateway(app, telemetry)
        finally:
            if fake is not None:
                fake.release()
    app.close()


@contextmanager
def _loops(app: App) -> Iterator[None]:
    loops = Loops(app.parts, app.parts.settings.loops)
    started = threading.Event()

    def starting(send: Callable[..., None]) -> Callable[..., None]:
        def sent(*arguments: Any, **named: Any) -> None:
            send(*arguments, **named)
            if not started.is_set():
                started.set()
                loops.start()

        return sent

    for queue in app.parts.stores.queues.values():
        queue.send = starting(queue.send)  # type: ignore[method-assign]
    try:
        yield
    finally:
        loops.stop()


class ImpatientClock(SystemClock):
    """Real time, but pauses between retries are cut to a hundredth."""

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / 100)


__all__ = ["DEV_KEY", "MODEL", "Answer", "ImpatientClock", "Settings", "TestGateway", "gateway"]
