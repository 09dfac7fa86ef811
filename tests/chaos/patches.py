"""What is put between the pipeline and everything outside of it, class by class, before it is started."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from chaos.faults import Faults
from embedonce.clock import SystemClock
from embedonce.core import flight, ticket
from embedonce.core.ticket import TicketRef
from embedonce.local import loops
from embedonce.media.post import WebhookPoster
from embedonce.stores.embedded.blobs import DirectoryBlobs
from embedonce.stores.embedded.flights import EmbeddedFlights
from embedonce.stores.embedded.queue import EmbeddedQueue
from embedonce.stores.embedded.tickets import EmbeddedTickets
from embedonce.stores.embedded.vectors import EmbeddedVectors
from embedonce.upstreams.segmind import Segmind

CURSED = 12
"""Of so many tickets one loses every message to the worker, and one every message to the poller."""


@dataclass(frozen=True)
class Time:
    """Runs `factor` times faster than the real one since `epoch`, alike in all processes."""

    epoch: float
    factor: float
    offset: float = 0.0

    def now(self) -> float:
        return self.epoch + (time.time() - self.epoch) * self.factor + self.offset


def cursed(ticket_id: str) -> str | None:
    """The queue that swallows whatever is sent of that ticket."""
    return {0: "work", 1: "poll"}.get(int(ticket_id[:8], 16) % CURSED)


def patch_clock(fast: Time) -> None:
    """The clock of the program, and the waiting in its loops; those of SQLite and sockets stay real."""
    factor = fast.factor

    class Event(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            return super().wait(None if timeout is None else timeout / factor)

    SystemClock.now = lambda self: fast.now()  # type: ignore[method-assign]
    SystemClock.monotonic = lambda self: time.monotonic() * factor  # type: ignore[method-assign]
    SystemClock.sleep = lambda self, seconds: time.sleep(seconds / factor)  # type: ignore[method-assign]
    vars(loops)["threading"] = SimpleNamespace(**(vars(threading) | {"Event": Event}))
    loops.IDLE_SECONDS = 0.03


def patch_queues(rng: random.Random, share: float) -> None:
    """Of the messages sent, `share` are lost, four times as many doubled, and three times as many come at
    another time, so that later ones overtake them."""
    send = EmbeddedQueue.send

    def disturbed(self: Any, ref: TicketRef, *, delay: float = 0.0) -> None:
        if share and cursed(ref.id) == self._name:
            return
        luck = rng.random()
        copies = 0 if luck < share else 2 if luck < 5 * share else 1
        for _ in range(copies):
            late = rng.random() * (3.0 * delay + 30.0)
            send(self, ref, delay=late if rng.random() < 3 * share else delay)

    EmbeddedQueue.send = disturbed  # type: ignore[method-assign]


def patch_outside(faults: Faults) -> None:
    """Every call that has an effect elsewhere goes through `faults`."""
    transitions = _Transitions()
    transitions.watch()

    def wrap(
        owner: Any,
        method: str,
        name: Callable[..., str],
        effective: Callable[[Any], bool] = lambda result: True,
    ) -> None:
        inner = getattr(owner, method)

        def wrapped(self: Any, *a: Any, **k: Any) -> Any:
            return faults.through(name(self, *a), lambda: inner(self, *a, **k), effective=effective)

        setattr(owner, method, wrapped)

    wrap(EmbeddedFlights, "swap_many", transitions.of_swaps, lambda standing: set(standing) == {None})
    wrap(EmbeddedTickets, "swap", transitions.of_ticket, lambda standing: standing is None)
    wrap(EmbeddedQueue, "send", lambda self, *a: f"{self._name}-queue.send")
    wrap(EmbeddedQueue, "receive", lambda self, *a: f"{self._name}-queue.receive", bool)
    wrap(EmbeddedQueue, "acknowledge", lambda self, *a: f"{self._name}-queue.acknowledge")
    wrap(EmbeddedVectors, "put_many", lambda self, *a: "vectors.put_many")
    wrap(DirectoryBlobs, "put", lambda self, *a: "blobs.put")
    wrap(DirectoryBlobs, "delete_many", lambda self, *a: "blobs.delete_many")
    wrap(DirectoryBlobs, "sweep", lambda self, *a: "blobs.sweep")
    wrap(Segmind, "submit", lambda self, *a: "upstream.submit")
    wrap(Segmind, "poll", lambda self, *a: "upstream.poll")
    wrap(WebhookPoster, "post", lambda self, *a: "webhook.post")


class _Transitions:
    """Which function of the state machines made a row, by its name and version, until it is written."""

    def __init__(self) -> None:
        self._made = threading.local()

    def watch(self) -> None:
        self._watch(flight, "_lead", lambda made, k: type(made.flight.state).__name__.lower())
        self._watch(flight, "polled", _polled)
        self._watch(flight, "fail", lambda made, k: "failed" if made.state.permanent else "backed-off")
        for name in ("renew", "submitted", "doubt", "lost", "land", "abandon"):
            self._watch(flight, name, _called(name))
        self._watch(ticket, "hop", lambda made, k: f"hop-{made[0].stage.value}")
        for name in ("issue", "begin", "board", "nudge", "complete", "fail", "announced"):
            self._watch(ticket, name, _called(name))

    def of_swaps(self, _store: Any, swaps: Any) -> str:
        last = swaps[-1].flight
        return f"flights.{self._names().get((last.fingerprint, last.version), 'unnamed')}"

    def of_ticket(self, _store: Any, written: Any, _over: int) -> str:
        return f"tickets.{self._names().get((written.ref, written.version), 'unnamed')}"

    def _names(self) -> dict[Any, str]:
        if not hasattr(self._made, "names") or len(self._made.names) > 500:
            self._made.names = {}
        names: dict[Any, str] = self._made.names
        return names

    def _watch(self, machine: Any, function: str, name: Callable[[Any, dict[str, Any]], str]) -> None:
        inner = getattr(machine, function)

        def watched(*a: Any, **k: Any) -> Any:
            made = inner(*a, **k)
            row = made[0] if isinstance(made, tuple) else getattr(made, "flight", made)
            if hasattr(row, "version"):
                key = row.ref if machine is ticket else row.fingerprint
                self._names()[key, row.version] = name(made, k)
            return made

        setattr(machine, function, watched)


def _called(name: str) -> Callable[[Any, dict[str, Any]], str]:
    return lambda made, k: name


def _polled(made: Any, given: dict[str, Any]) -> str:
    if given.get("missed"):
        return "missed"
    return "asked" if given.get("wait") is None else "patience"
