"""A clock that stands until it is told to move."""

from __future__ import annotations

import threading

START = 1_800_000_000.0


class FakeClock:
    """`sleep` returns at once and moves the clock, so that nothing that waits takes time. Thread-safe."""

    def __init__(self, now: float = START) -> None:
        self._lock = threading.Lock()
        self._now = now
        self._monotonic = 1000.0
        self.sleeps: list[float] = []

    def now(self) -> float:
        with self._lock:
            return self._now

    def monotonic(self) -> float:
        with self._lock:
            return self._monotonic

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.sleeps.append(seconds)
        self.advance(max(0.0, seconds))

    def advance(self, seconds: float) -> None:
        """Both clocks; a negative step sets only the wall clock back."""
        with self._lock:
            self._now += seconds
            self._monotonic += max(0.0, seconds)
