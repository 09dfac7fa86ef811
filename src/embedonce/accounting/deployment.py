"""What the operator changes while everything runs, as a process believes it: pause, daily cap, purges."""

from __future__ import annotations

import threading
from collections.abc import Callable

from embedonce.core.errors import StoreUnavailable, WouldBlock
from embedonce.core.patience import Patience
from embedonce.ports import AccessStore, Clock, Deployment, Telemetry

FRESH_SECONDS = 45.0
"""How long it is believed: a change takes effect everywhere within a minute."""
REFRESH_SECONDS = 20.0
"""How old it may get before `tick` reads it anew, so that requests find it fresh."""
RETRY_SECONDS = 5.0
"""Until a store that failed is asked again."""


class DeploymentView:
    """`current` never fails: while the store does, what was last read holds, or at first the defaults."""

    def __init__(self, store: AccessStore, clock: Clock, telemetry: Telemetry) -> None:
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._seen: Deployment = Deployment()
        self._read_at = self._until = self._refresh = float("-inf")
        self._asked = False
        self._lock = threading.Lock()
        self._purged: list[Callable[[], None]] = []

    def on_purge(self, forget: Callable[[], None]) -> None:
        """To be called when something was purged, here or elsewhere."""
        self._purged.append(forget)

    def current(self, patience: Patience = Patience.PROVIDERS) -> Deployment:
        """:raises WouldBlock: the store has to be read, and there is no patience for it"""
        self._asked = True
        if self._fresh():
            return self._seen
        if patience < Patience.STORES:
            raise WouldBlock
        with self._lock:
            if not self._fresh():
                self._read()
            return self._seen

    def look(self) -> Deployment:
        """Read anew, however fresh it is: for who waits for a change."""
        with self._lock:
            self._read()
            return self._seen

    def _fresh(self) -> bool:
        """By the wall clock: the other one may stand still while a process is frozen. If it was set back,
        nothing is known of how old it is."""
        return self._read_at <= self._clock.now() < self._until

    @property
    def due(self) -> bool:
        """Whether `tick` would read it: it is used, and getting old."""
        return self._asked and self._clock.now() >= self._refresh

    def tick(self) -> None:
        if self.due:
            with self._lock:
                if self.due:
                    self._read()

    def _read(self) -> None:
        before = self._seen
        self._asked = False
        self._read_at = self._clock.now()
        try:
            self._seen = self._store.deployment()
        except StoreUnavailable:
            self._telemetry.count("AccessStoreErrors")
            self._until = self._refresh = self._clock.now() + RETRY_SECONDS
            return
        now = self._clock.now()
        self._until, self._refresh = now + FRESH_SECONDS, now + REFRESH_SECONDS
        if self._seen.purged != before.purged:
            for forget in self._purged:
                forget()
