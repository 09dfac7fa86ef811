"""Whose fetch runs next. Whatever one caller asks for, and however dead its hosts are, others have threads.

What must wait for its host or its caller waits in a queue and holds no thread of the pool; it leaves the
queue when its future is cancelled.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from embedonce.core.content import MediaPart

THREADS = 32
PER_CALLER = 16
PER_HOST = 4


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    caller: str
    host: str
    run: Callable[[], MediaPart]
    future: Future[MediaPart] = field(default_factory=Future)


class Turns:
    """Thread-safe."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="media")
        self._lock = threading.Lock()
        self._waiting: deque[_Job] = deque()
        self._callers: Counter[str] = Counter()
        self._hosts: Counter[str] = Counter()
        self._running = 0

    def submit(self, caller: str, host: str, run: Callable[[], MediaPart]) -> Future[MediaPart]:
        job = _Job(caller, host, run)
        with self._lock:
            self._waiting.append(job)
            self._start()
        return job.future

    def close(self) -> None:
        with self._lock:
            waiting = list(self._waiting)
            self._waiting.clear()
        for job in waiting:
            job.future.cancel()
        self._pool.shutdown(wait=True)

    def _start(self) -> None:
        """Every job that may run now, in order. Called under the lock."""
        for _ in range(len(self._waiting)):
            job = self._waiting.popleft()
            if job.future.cancelled():
                continue
            if (
                self._running < THREADS
                and self._callers[job.caller] < PER_CALLER
                and self._hosts[job.host] < PER_HOST
            ):
                self._count(job, 1)
                self._pool.submit(self._run, job)
            else:
                self._waiting.append(job)

    def _run(self, job: _Job) -> None:
        try:
            if job.future.set_running_or_notify_cancel():
                try:
                    part = job.run()
                except BaseException as error:  # noqa: BLE001  # whoever waits gets it
                    job.future.set_exception(error)
                else:
                    job.future.set_result(part)
        finally:
            with self._lock:
                self._count(job, -1)
                self._start()

    def _count(self, job: _Job, change: int) -> None:
        self._running += change
        for counter, key in ((self._callers, job.caller), (self._hosts, job.host)):
            counter[key] += change
            if not counter[key]:
                del counter[key]
