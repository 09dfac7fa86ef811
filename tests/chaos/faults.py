"""Death at named points, from within: what a process of the fault program does to itself.

A point is `what:moment`. `what` is a transition of a flight or ticket as the machine's function names it
(`flights.submitted`), or a call to something outside (`upstream.submit`, `work-queue.send`); `moment` is
`before` it has an effect, `after` that (only where it had one), or `during` a call to a provider.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

WAITS = ("upstream.", "webhook.")
"""Calls that take a while."""
LONGEST_DURING = 0.03
"""Seconds into a call to a provider that a death `during` it comes at the latest."""


class Faults:
    """`plan`: at which occurrence of each point to die. `report` is a pipe to whoever started the process."""

    def __init__(self, life: int, plan: Mapping[str, int], report: int, rng: random.Random) -> None:
        self._life = life
        self._plan = dict(plan)
        self._report = report
        self._rng = rng
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def through(
        self, what: str, work: Callable[[], Any], *, effective: Callable[[Any], bool] = lambda result: True
    ) -> Any:
        """`effective`: whether the call had an effect, by what it returned."""
        self.reached(f"{what}:before")
        over = threading.Event()
        if what.startswith(WAITS) and self._due(f"{what}:during"):
            seconds = self._rng.random() * LONGEST_DURING
            threading.Thread(target=self._die_during, args=(what, seconds, over), daemon=True).start()
        try:
            result = work()
        finally:
            over.set()
        if effective(result):
            self.reached(f"{what}:after")
        return result

    def reached(self, point: str) -> None:
        if self._due(point):
            self._die(point)

    def _due(self, point: str) -> bool:
        with self._lock:
            self._seen[point] += 1
            occurrence = self._seen[point]
        if occurrence == 1:
            self._say({"life": self._life, "seen": point})
        return self._plan.get(point) == occurrence

    def _die_during(self, what: str, seconds: float, over: threading.Event) -> None:
        if over.wait(seconds):
            with self._lock:  # the call was faster: the next one, then
                self._plan[f"{what}:during"] = self._seen[f"{what}:during"] + 1
        else:
            self._die(f"{what}:during")

    def _die(self, point: str) -> None:
        self._say({"life": self._life, "killed": point})
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    def _say(self, what: Mapping[str, Any]) -> None:
        """One write, so that lines of several processes do not mix (they are shorter than PIPE_BUF)."""
        os.write(self._report, json.dumps(what).encode() + b"\n")
