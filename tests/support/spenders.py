"""What the processes of the money test run, which spend one budget together; and their provider, who keeps
the books."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import orjson

from embedonce.bootstrap import build
from embedonce.bootstrap.stores import Stores, open_stores
from embedonce.config import load
from embedonce.core.deadline import Deadline
from embedonce.core.pricing import PICO, from_usd
from embedonce.http.message import Request
from embedonce.telemetry import LogTelemetry
from fakes.answers import USD_PER_TOKEN, Planned, tokens_for
from fakes.behaviour import NOT_BILLED, Behaviour, delay, status
from fakes.openrouter import FakeOpenRouter
from support.gateway import ImpatientClock

FORKED = multiprocessing.get_context("forkserver")
"""What a process imports is imported once, before it begins; they are many, and short-lived."""
FORKED.set_forkserver_preload(
    [
        "support.spenders",
        "embedonce.stores.embedded.database",
        "embedonce.stores.aws.clients",
        "embedonce.upstreams.openrouter",
        "embedonce.upstreams.transport",
    ]
)
THREADS = 3
REQUESTS = 5
TEXTS = 400
"""So many different ones are asked for: most are misses, some hits, and some bought by two at once."""
TOKEN = from_usd(USD_PER_TOKEN)

CALM = (Behaviour(), delay(0.01), status(429, retry_after="1"), status(503), status(400))
"""All of it is known to be billed, or not to be."""
STORMY = (
    *(Behaviour(),) * 6,
    delay(0.02),
    *CALM,
    status(500),
    Behaviour("hang"),
    Behaviour("disconnect"),
    Behaviour("truncate"),
    Behaviour("zero"),
    Behaviour("invalid_json"),
)


class Ledger(FakeOpenRouter):
    """Behaves as one of `moods`, by chance; `kill` is called now and then while it is at a call. It bills
    what it accepts, and half of what it then fails to do with a 500."""

    def __init__(
        self, moods: tuple[Behaviour, ...], seed: int, kill: Callable[[], None] | None = None
    ) -> None:
        self._moods = moods
        self._rng = random.Random(seed)
        self._kill = kill
        self._dice = threading.Lock()
        super().__init__()

    def plan(self, path: str, headers: Mapping[str, str], raw: bytes) -> tuple[Planned, threading.Event]:
        with self._dice:
            self.always(self._rng.choice(self._moods))
            deadly = self._kill is not None and self._rng.random() < 0.04
            planned = super().plan(path, headers, raw)
            if planned[0].behaviour.code == 500 and self._rng.random() < 0.5:
                with self._lock:
                    self.billed.update(
                        "\n".join(map(str, parts)) for parts in self.contents(path, orjson.loads(raw))
                    )
        if deadly and self._kill is not None:
            self._kill()
        return planned

    @property
    def bill(self) -> int:
        """Pico-dollars."""
        with self._lock:
            return sum(times * tokens_for(text) * TOKEN for text, times in self.billed.items())


@dataclass(frozen=True)
class Spender:
    """`die_at`: at which call to a store from the start it kills itself; None: it ends orderly. `seconds`: of
    patience with each request."""

    environment: Mapping[str, str]
    key: str
    seed: int
    die_at: int | None
    seconds: float


def spend(pipe: Connection, spender: Spender) -> None:
    """Sends how often it was answered with which status, once everything is written down."""
    os.environ.update(spender.environment)
    if "AWS_ENDPOINT_URL" in spender.environment:
        from support.motoserver import be_patient

        be_patient()
    settings, clock = load(os.environ), ImpatientClock()
    fate = _Fate(spender.die_at)
    app = build(settings, LogTelemetry(), clock=clock, stores=fate.over(open_stores(settings, clock)))
    rng = random.Random(spender.seed)
    asks = [
        [f"text {rng.randrange(TEXTS)}" for _ in range(rng.choice((1, 1, 2, 5)))]
        for _ in range(THREADS * REQUESTS)
    ]

    def ask(inputs: list[str]) -> int:
        fields = {"model": "google/gemini-embedding-2", "dimensions": 128, "encoding_format": "base64"}
        answer = app.gateway.handle(
            Request(
                method="POST",
                path="/v1/embeddings",
                headers={"authorization": f"Bearer {spender.key}"},
                query={},
                body=orjson.dumps({"input": inputs, **fields}),
                request_id=uuid.uuid4().hex,
                deadline=Deadline.after(spender.seconds, clock.monotonic()),
            )
        )
        if rng.random() < 0.1:
            app.parts.accounts.tick()
        return answer.status

    with ThreadPoolExecutor(THREADS) as pool:
        statuses = Counter(pool.map(ask, asks))
    app.close()
    pipe.send(statuses)


class _Fate:
    def __init__(self, die_at: int | None) -> None:
        self._left = die_at
        self._lock = threading.Lock()

    def over(self, stores: Stores) -> Stores:
        names = ("quotas", "usage", "vectors", "flights")
        return replace(stores, **{name: _Counted(getattr(stores, name), self) for name in names})

    def call(self, work: Callable[[], Any]) -> Any:
        with self._lock:
            if self._left is not None:
                self._left -= 1
            mine = self._left is not None and self._left <= 0
        if mine and self._left == 0 and os.getpid() % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        result = work()
        if mine:
            os.kill(os.getpid(), signal.SIGKILL)
        return result


class _Counted:
    def __init__(self, inner: Any, fate: _Fate) -> None:
        self._inner = inner
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value):
            return value
        return lambda *a, **k: self._fate.call(lambda: value(*a, **k))


__all__ = ["CALM", "FORKED", "NOT_BILLED", "PICO", "STORMY", "Ledger", "Spender", "spend"]
