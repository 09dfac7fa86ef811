"""Worker, poller and janitor on one machine: the same handlers as on AWS, fed from the SQLite queue."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from embedonce.bootstrap.jobs import janitor_of, poller_of, worker_of
from embedonce.bootstrap.parts import Parts
from embedonce.core.deadline import Deadline
from embedonce.core.errors import StoreUnavailable
from embedonce.core.ticket import Stage, TicketRef
from embedonce.ports import Delivery, Queue, Telemetry
from embedonce.stores.embedded.queue import EmbeddedQueue

WORK_SECONDS = 300.0
"""For one message, as long as the worker function has on AWS."""
POLL_SECONDS = 45.0
TICK_SECONDS = 60.0
POLLERS = 8
"""More than one webhook host is given (`media.post`): a silent one must not hold them all."""
IDLE_SECONDS = 0.25
"""Between looks at an empty queue for what other processes sent; what this one sends wakes it."""
WRITE_SECONDS = 15.0
"""After a provider's answer, for writing down what was paid for."""

Handle = Callable[[TicketRef, Deadline], None]


class Loops:
    """`names`: which of `worker`, `poller`, `janitor` run in this process."""

    def __init__(self, parts: Parts, names: Iterable[str]) -> None:
        self._parts = parts
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._feeds: list[_Feed] = []
        if "worker" in names:
            self._add(Stage.WORK, worker_of(parts).handle, WORK_SECONDS, parts.settings.workers)
        if "poller" in names:
            self._add(Stage.POLL, poller_of(parts).handle, POLL_SECONDS, POLLERS)
        self._janitor = janitor_of(parts) if "janitor" in names else None

    def _add(self, stage: Stage, handle: Handle, seconds: float, threads: int) -> None:
        queue = self._parts.stores.queues[stage]
        self._feeds.append(_Feed(self._parts, queue, stage.value, handle, seconds, threads, self._stopping))

    def start(self) -> None:
        runs: list[tuple[str, Callable[[], None]]] = [(feed.name, feed.run) for feed in self._feeds]
        if self._janitor is not None:
            runs.append(("janitor", self._tick))
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


class _Feed:
    """One queue and the threads that handle what is in it."""

    def __init__(
        self,
        parts: Parts,
        queue: Queue,
        name: str,
        handle: Handle,
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

    def _release(self, queue: EmbeddedQueue) -> None:
        """What a killed process had in hand is ready again at once. If that one lives after all, its message
        is handled twice, which does no harm."""
        try:
            queue.release()
        except StoreUnavailable as failure:
            _report(self._parts.telemetry, self.name, failure)

    def _next(self) -> Delivery | None:
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

    def _one(self, delivery: Delivery) -> None:
        """An error leaves the message where it is: it comes again, and then goes to the dead letters."""
        clock = self._parts.clock
        try:
            self._handle(delivery.ref, Deadline.after(self._seconds, clock.monotonic()))
            self._queue.acknowledge(delivery)
        except Exception as crash:  # noqa: BLE001  # one message must not end the loop
            _report(self._parts.telemetry, self.name, crash)
        finally:
            self._free.release()


def _report(telemetry: Telemetry, where: str, crash: Exception) -> None:
    """The kind only: an exception's text may quote an input."""
    telemetry.count("LoopErrors")
    telemetry.event("loop_error", loop=where, kind=type(crash).__name__)
