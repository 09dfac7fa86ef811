"""The whole pipeline in a test's process, which may die at any call to anything outside of it, and be started
anew over the same stores."""

from __future__ import annotations

import base64
import hashlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedonce.access.authenticate import DEVELOPMENT, Caller
from embedonce.accounting.claim import day_account
from embedonce.bootstrap.jobs import janitor_of, poller_of, worker_of
from embedonce.bootstrap.parts import Parts, parts_of
from embedonce.bootstrap.stores import Stores, open_stores
from embedonce.config import env_of, load
from embedonce.core import usage, vector
from embedonce.core.cachecontrol import DEFAULT, CacheControls
from embedonce.core.catalog import GEMINI_EMBEDDING_2, Model, estimated_tokens
from embedonce.core.content import Draft, InlineMedia, Modality, Source, TextPart
from embedonce.core.days import day_of
from embedonce.core.deadline import Deadline
from embedonce.core.options import EmbedOptions
from embedonce.core.ticket import Completed, Failed, Stage, Ticket, TicketRef
from embedonce.ports import (
    JobFailed,
    JobUnknown,
    Offer,
    Pending,
    UpstreamAnswer,
    UpstreamCall,
)
from embedonce.telemetry import LogTelemetry
from embedonce.usecases.jobs.results import Results
from embedonce.usecases.jobs.submit import Submit
from embedonce.usecases.request import EmbedRequest
from support.clock import START, FakeClock

SECONDS = 300.0
KEY = "test-development-key"


class Killed(BaseException):
    """What `kill -9` is to a process, in a thread."""


@dataclass
class Fate:
    """Counts calls to what is outside, and ends the process at the `at`-th (from 1): `before` it has an
    effect, or after that. From then on nothing of that process has an effect any more."""

    at: int | None = None
    before: bool = True
    calls: int = 0
    dead: bool = False
    seen: list[str] = field(default_factory=list)

    def call(self, name: str, work: Callable[[], Any]) -> Any:
        if self.dead:
            raise Killed
        self.calls += 1
        self.seen.append(name)
        mine = self.calls == self.at
        if mine and self.before:
            self.dead = True
            raise Killed
        result = work()
        if mine:
            self.dead = True
            raise Killed
        return result


class Outside:
    """Something outside of the process, whose calls are counted by its fate."""

    def __init__(self, inner: Any, name: str, fate: Fate) -> None:
        self._inner = inner
        self._name = name
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value) or name in ("offer", "close", "presign_get", "presign_put"):
            return value
        return lambda *a, **k: self._fate.call(f"{self._name}.{name}", lambda: value(*a, **k))


class Provider:
    """An upstream that takes jobs, or (`submits` False) answers at once; vectors follow from the input."""

    name = "fake"

    def __init__(self, *, submits: bool = True, pending: int = 2, max_inputs: int = 1) -> None:
        self.submits = submits
        self.max_inputs = max_inputs
        self.pending = pending
        self.submissions: Counter[str] = Counter()
        self.billed = 0
        """Pico-dollars, for all that was accepted."""
        self.polls = 0
        self.jobs: dict[str, tuple[UpstreamCall, int]] = {}
        self.on_submit: Callable[[UpstreamCall], None] = lambda call: None
        self.on_poll: Callable[[str], Pending | JobFailed | JobUnknown | UpstreamAnswer | None] = (
            lambda handle: None
        )

    def offer(self, model: Model) -> Offer | None:
        return Offer(
            lineage="fake:1",
            model=model.id,
            modalities=frozenset(Modality),
            max_inputs=self.max_inputs,
            max_bytes=1 << 30,
            recipe=lambda content, options: content,
            sends=lambda options: {},
            prices={modality: model.price(modality) for modality in Modality},
            retry_doubtful=not self.submits,
            submits=self.submits,
        )

    def embed(self, call: UpstreamCall, *, timeout: float) -> UpstreamAnswer:
        self.on_submit(call)
        self._count(call)
        return _answer(call)

    def submit(self, call: UpstreamCall, *, timeout: float) -> str:
        self.on_submit(call)
        self._count(call)
        handle = f"job-{len(self.jobs)}"
        self.jobs[handle] = (call, 0)
        return handle

    def poll(
        self, handle: str, model: Model, dimensions: int | None, *, timeout: float
    ) -> UpstreamAnswer | Pending | JobFailed | JobUnknown:
        self.polls += 1
        if (said := self.on_poll(handle)) is not None:
            return said
        call, asked = self.jobs[handle]
        self.jobs[handle] = (call, asked + 1)
        return Pending() if asked < self.pending else _answer(call)

    def close(self) -> None:
        pass

    def _count(self, call: UpstreamCall) -> None:
        for content in call.contents:
            data = b"".join(part.sent_bytes for part in content.parts)
            self.submissions[hashlib.sha256(data).hexdigest()] += 1
            self.billed += call.model.price(content.modality).of(estimated_tokens(content))


def _answer(call: UpstreamCall) -> UpstreamAnswer:
    return UpstreamAnswer(tuple(_vector(c.parts[0].sent_bytes, call.dimensions) for c in call.contents))


def _vector(data: bytes, dimensions: int | None) -> bytes:
    numbers = random.Random(hashlib.sha256(data).digest())
    return vector.pack([numbers.uniform(-1, 1) for _ in range(dimensions or 3072)])


class Pipeline:
    """One process. `settings` by field name, as text."""

    def __init__(
        self,
        folder: Path,
        provider: Provider,
        clock: FakeClock,
        *,
        fate: Fate | None = None,
        stores: Stores | None = None,
        **settings: str,
    ) -> None:
        self.fate = fate or Fate()
        self.clock = clock
        self.telemetry = LogTelemetry()
        given = {"data_dir": str(folder), "upstreams": "embedded", **settings}
        loaded = load({env_of(name): value for name, value in given.items()})
        self.stores = stores or open_stores(loaded, clock)
        self.parts: Parts = parts_of(
            loaded,
            self.telemetry,
            development_key=KEY,
            clock=clock,
            stores=self._outside(self.stores),
            upstreams=[Outside(provider, "provider", self.fate)],
        )
        self.worker = worker_of(self.parts)
        self.poller = poller_of(self.parts)
        self.janitor = janitor_of(self.parts)
        self.submit = Submit(
            self.parts.tickets,
            self.parts.planner,
            self.parts.vectors,
            self.parts.media,
            clock,
            self.telemetry,
            self.parts.accounts,
            patience=loaded.job_timeout,
        )
        parts = self.parts
        self.results = Results(
            parts.tickets, parts.flights, parts.vectors, parts.router, parts.catalog.find, clock
        )

    def _outside(self, stores: Stores) -> Stores:
        return Stores(
            vectors=Outside(stores.vectors, "vectors", self.fate),  # type: ignore[arg-type]
            flights=Outside(stores.flights, "flights", self.fate),  # type: ignore[arg-type]
            access=stores.access,
            tickets=Outside(stores.tickets, "tickets", self.fate),  # type: ignore[arg-type]
            queues={
                stage: Outside(queue, f"{stage}-queue", self.fate)  # type: ignore[misc]
                for stage, queue in stores.queues.items()
            },
            blobs=Outside(stores.blobs, "blobs", self.fate),  # type: ignore[arg-type]
            quotas=Outside(stores.quotas, "quotas", self.fate),  # type: ignore[arg-type]
            usage=Outside(stores.usage, "usage", self.fate),  # type: ignore[arg-type]
            scan=stores.scan,
            close=stores.close,
            validators=stores.validators,
        )

    def ask(
        self,
        *parts: str | Source,
        dimensions: int = 768,
        controls: CacheControls = DEFAULT,
        caller: Caller = DEVELOPMENT,
        webhook: str | None = None,
    ) -> Ticket:
        drafted = tuple(TextPart(part) if isinstance(part, str) else part for part in parts)
        return self.submit(
            EmbedRequest(
                drafts=(Draft(drafted, "input"),),
                options=EmbedOptions(GEMINI_EMBEDDING_2, dimensions),
                controls=controls,
                caller=caller,
                namespace="",
                deadline=self.deadline(),
            ),
            webhook,
        )

    def deadline(self, seconds: float = SECONDS) -> Deadline:
        return Deadline.after(seconds, self.clock.monotonic())

    def step(self, stage: Stage, most: int = 1) -> int:
        """Handle what is in a queue now; how many messages that were."""
        handler = self.worker if stage is Stage.WORK else self.poller
        queue = self.parts.stores.queues[stage]
        deliveries = queue.receive(most)
        for delivery in deliveries:
            handler.handle(delivery.message, self.deadline())
            queue.acknowledge(delivery)
        return len(deliveries)

    def run(self, seconds: float = 8000.0, until: Callable[[], bool] = lambda: False) -> None:
        """All three, for as long on the clock, or until nothing is left to do."""
        end = self.clock.now() + seconds
        tick = self.clock.now() + 60
        while self.clock.now() < end and not until():
            if self.step(Stage.WORK) + self.step(Stage.POLL):
                continue
            depth = [queue.depth() for queue in self.stores.queues.values()]
            if not any(d.ready + d.delayed + d.in_flight for d in depth) and not self.stores.tickets.due(
                float("inf"), 1
            ):
                return
            self.clock.advance(1.0)
            if self.clock.now() >= tick:
                self.janitor.tick(self.deadline(45))
                tick += 60

    def state(self, ref: TicketRef) -> str:
        ticket = self.stores.tickets.get(ref)
        assert ticket is not None
        match ticket.state:
            case Completed():
                return "COMPLETED"
            case Failed():
                return "FAILED"
            case _:
                return "open"

    def books(self) -> tuple[int, int, int]:
        """Pico-dollars that `DEVELOPMENT` has settled, that were perhaps billed (as it is when everything
        reserved has lapsed), and that count as spent on the days until now."""
        self.parts.accounts.settle_up()
        now = self.clock.now()
        days = self.stores.usage.read(DEVELOPMENT.key_id, day_of(START), day_of(now))
        spent = usage.spent(usage.summed(days.values()), now + 86_400)
        assert spent.reserved == 0
        committed = sum(self.stores.quotas.total(day_account(day)) for day in days)
        return spent.settled, spent.unknown, committed

    def vector_of(self, ref: TicketRef) -> bytes:
        return self.results.result(self.results.look(ref)).record.data


def inline(data: bytes, modality: Modality, param: str) -> InlineMedia:
    return InlineMedia(base64.b64encode(data).decode(), modality, param)


def expected(text: str, dimensions: int) -> bytes:
    return _vector(text.encode(), dimensions)


__all__ = ["Fate", "Killed", "Pipeline", "Provider", "expected", "inline"]
