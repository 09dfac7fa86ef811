"""Worker, poller, janitor and ingest on one machine: the handlers of AWS, fed from the SQLite queue."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Generic

from embedonce.bootstrap.ingest import CHUNK_THREADS, Ingest, chunks_of, ingest_of
from embedonce.bootstrap.jobs import janitor_of, poller_of, worker_of
from embedonce.bootstrap.parts import Parts
from embedonce.bootstrap.stores import IngestStores
from embedonce.core.deadline import Deadline
from embedonce.core.errors import StoreUnavailable
from embedonce.core.task import IngestQueue
from embedonce.core.ticket import Stage
from embedonce.local.inbox import Inbox
from embedonce.ports import Delivery, Message, Queue, Telemetry
from embedonce.stores.embedded.queue import EmbeddedQueue

WORK_SECONDS = 300.0
"""For one message, as long as the worker function has on AWS."""
CUT_SECONDS = 840.0
POLL_SECONDS = 45.0
TICK_SECONDS = 60.0
POLLERS = 8
"""More than one webhook host is given (`media.post`): a silent one must not hold them all."""
IDLE_SECONDS = 0.25
"""Between looks at an empty queue for what other processes sent; what this one sends wakes it."""
FIRST_RETRY_SECONDS = 2.0
"""After a message could not be handled; twice as long each further time."""
COUNT_SECONDS = 1.0
"""Between rounds of the accounts: what they write in one is little, and often nothing."""
WRITE_SECONDS = 15.0
"""After a provider's answer, for writing down what was paid for."""

CUTTERS = 2
"""Sources that are cut at a time, each in a process of its own."""


class Loops:
    """`names`: which of `worker`, `poller`, `janitor`, `ingest` run in this process."""

    def __init__(self, parts: Parts, names: Iterable[str]) -> None:
        self._parts = parts
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._feeds: list[_Feed[Any]] = []
        if "worker" in names:
            queue = parts.stores.queues[Stage.WORK]
            self.feed(Stage.WORK, queue, worker_of(parts).handle, WORK_SECONDS, parts.settings.workers)
        if "poller" in names:
            queue = parts.stores.queues[Stage.POLL]
            self.feed(Stage.POLL, queue, poller_of(parts).handle, POLL_SECONDS, POLLERS)
        self._janitor = janitor_of(parts) if "janitor" in names else None
        self._inbox: Inbox | None = None
        self._pool: ThreadPoolExecutor | None = None
        if "ingest" in names and parts.stores.ingest is not None:
            self._inbox = Inbox(parts, self.ingest(parts.stores.ingest).arrivals, self._stopping)

    def ingest(self, stores: IngestStores, *, watched: bool = True) -> Ingest:
        """Cuts, embeds and publishes what is told to it.

        :raises ConfigError: rules that cannot be kept
        """
        parts = self._parts
        ingest = ingest_of(
            parts.settings, stores, parts.catalog, parts.clock, parts.telemetry, watched=watched
        )
        self._pool = ThreadPoolExecutor(CHUNK_THREADS, thread_name_prefix="purchase")
        chunks = chunks_of(parts, stores, self._pool, watched=watched)
        sources, embeds = IngestQueue.SOURCES, IngestQueue.CHUNKS
        self.feed(sources, stores.queues[sources], ingest.cut, CUT_SECONDS, CUTTERS)
        self.feed(embeds, stores.queues[embeds], chunks, WORK_SECONDS, parts.settings.workers)
        return ingest

    def feed(
        self,
        name: str,
        queue: Queue[Message],
        handle: Callable[[Message, Deadline], None],
        seconds: float,
        threads: int,
    ) -> None:
        self._feeds.append(_Feed(self._parts, queue, name, handle, seconds, threads, self._stopping))

    def start(self) -> None:
        runs: list[tuple[str, Callable[[], None]]] = [(feed.name, feed.run) for feed in self._feeds]
        if self._janitor is not None:
            runs.append(("janitor", self._tick))
        runs.append(("accounts", self._count))
        if self._inbox is not None:
            runs.append(("inbox", self._inbox.run))
        for name, run in runs:
            thread = threading.Thread(target=run, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def ask_to_stop(self) -> None:
        self._stopping.set()

    def stop(self) -> None:
        """Takes nothing new, and waits for what is in hand: a provider's answer that came after the stores
        are closed would be paid for and lost. What is not done by then is as good as killed."""
        self._stopping.set()
        for feed in self._feeds:
            feed.wake()
        for thread in self._threads:
            thread.join(self._parts.settings.job_upstream_timeout + WRITE_SECONDS)
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def wait(self) -> None:
        """Until stopped."""
        self._stopping.wait()

    def _tick(self) -> None:
        assert self._janitor is not None
        clock = self._parts.clock
        while not self._stopping.is_set():
            try:
                self._janitor.tick(Deadline.after(TICK_SECONDS, clock.monotonic()))
            except Exception as crash:  # noqa: BLE001  # the next round may do better
                _report(self._parts.telemetry, "janitor", crash)
            self._stopping.wait(TICK_SECONDS)

    def _count(self) -> None:
        while not self._stopping.wait(COUNT_SECONDS):
            try:
                self._parts.accounts.tick()
            except Exception as crash:  # noqa: BLE001  # the next round may do better
                _report(self._parts.telemetry, "accounts", crash)


class _Feed(Generic[Message]):
    """One queue and the threads that handle what is in it."""

    def __init__(
        self,
        parts: Parts,
        queue: Queue[Message],
        name: str,
        handle: Callable[[Message, Deadline], None],
        seconds: float,
        threads: int,
        stopping: threading.Event,
    ) -> None:
        self.name = name
        self._parts = parts
        self._queue = queue
        self._handle = handle
        self._seconds = seconds
        self._free = threading.Semaphore(threads)
        self._threads = threads
        self._stopping = stopping

    def run(self) -> None:
        if isinstance(self._queue, EmbeddedQueue):
            self._release(self._queue)
        with ThreadPoolExecutor(self._threads, thread_name_prefix=self.name) as pool:
            while not self._stopping.is_set():
                if not self._free.acquire(timeout=IDLE_SECONDS):
                    continue
                delivery = self._next()
                if delivery is None:
                    self._free.release()
                    self._rest()
                else:
                    try:
                        pool.submit(self._one, delivery)
                    except RuntimeError:  # the interpreter is ending: the message comes again
                        return

    def wake(self) -> None:
        if isinstance(self._queue, EmbeddedQueue):
            self._queue.wake()

    def _release(self, queue: EmbeddedQueue[Message]) -> None:
        """What a killed process had in hand is ready again at once. If that one lives after all, its message
        is handled twice, which does no harm."""
        try:
            queue.release()
        except StoreUnavailable as failure:
            _report(self._parts.telemetry, self.name, failure)

    def _next(self) -> Delivery[Message] | None:
        try:
            return next(iter(self._queue.receive(1)), None)
        except StoreUnavailable as failure:
            _report(self._parts.telemetry, self.name, failure)
            return None

    def _rest(self) -> None:
        if isinstance(self._queue, EmbeddedQueue):
            self._queue.wait(IDLE_SECONDS)
        else:
            self._stopping.wait(IDLE_SECONDS)

    def _one(self, delivery: Delivery[Message]) -> None:
        """An error leaves the message where it is: it comes again, and then goes to the dead letters."""
        clock = self._parts.clock
        try:
            self._handle(delivery.message, Deadline.after(self._seconds, clock.monotonic()))
            self._queue.acknowledge(delivery)
        except Exception as crash:  # noqa: BLE001  # one message must not end the loop
            _report(self._parts.telemetry, self.name, crash)
            self._postpone(delivery)
        finally:
            self._free.release()

    def _postpone(self, delivery: Delivery[Message]) -> None:
        """Longer each time: what passes, as a full disk may, must not bury it at once."""
        if isinstance(self._queue, EmbeddedQueue):
            with suppress(StoreUnavailable):
                self._queue.postpone(delivery, FIRST_RETRY_SECONDS * 2.0 ** (delivery.receives - 1))


def _report(telemetry: Telemetry, where: str, crash: Exception) -> None:
    """The kind only: an exception's text may quote an input."""
    telemetry.count("LoopErrors")
    telemetry.event("loop_error", loop=where, kind=type(crash).__name__)
