"""The run: one thread reads and makes batches, some batches are in flight, and what is done is a prefix."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace

from embedonce.core.content import Content, Modality
from embedonce.core.errors import EmbedonceError
from embedonce.ports import Clock
from embedonce.usecases.warm.buying import failure_of
from embedonce.usecases.warm.entry import Entry, Failure, Mark, Outcome, Slot, Stop, Tally
from embedonce.usecases.warm.prefix import Prefix

WINDOW = 10_000
"""Entries that may be in hand at least: from the first one that is not done to the last one that was read."""
BATCH_BYTES = 4 << 20
"""A batch is not made larger than this; a single input may be."""
SAVE_SECONDS = 2.0
LOOK_SECONDS = 0.5
INTERRUPTED = Stop("stopped", interrupted=True)


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the run tells. `admit` gives how many of its kind a batch may hold, or raises why the input is
    refused; `save` is told how far everything is done; `show` is called a few times a second."""

    admit: Callable[[Content, str], int]
    work: Callable[[Sequence[Slot]], Outcome]
    save: Callable[[Mark, Tally], None]
    show: Callable[[Tally, Mark], None]
    failed: Callable[[Failure], None]
    halt: threading.Event
    """Set by whoever wants the run to end, and by the run when it does: no batch is tried again then."""


@dataclass(slots=True)
class _Batch:
    slots: list[Slot] = field(default_factory=list)
    size: int = 0


class Run:
    """`live`: what became of inputs, those of earlier runs included, in whatever order. Not thread-safe."""

    def __init__(
        self, hooks: Hooks, clock: Clock, concurrency: int, *, start: Mark, before: Tally | None = None
    ) -> None:
        self._hooks = hooks
        self._clock = clock
        self._concurrency = concurrency
        self._open: dict[frozenset[Modality], _Batch] = {}
        self._running: dict[Future[Outcome], Sequence[Slot]] = {}
        self._stop: Stop | None = None
        self._saved = (clock.monotonic(), start)
        self._window = WINDOW
        self.live = Tally()
        self.live.add(before or Tally())
        self.prefix = Prefix(start, replace(self.live))

    def go(self, entries: Iterable[Entry]) -> Stop | None:
        """Until all are done, or nothing more can be. What was in flight is waited for in any case."""
        with ThreadPoolExecutor(self._concurrency, thread_name_prefix="warm") as pool:
            try:
                for entry in entries:
                    self._take(pool, entry)
                    if self._ended():
                        break
                self._flush(pool)
                while self._running:
                    self._look()
                if len(self.prefix):  # batches came back with inputs that nothing became of
                    self._ended()
            finally:
                self._save()
        self._hooks.show(self.live, self.prefix.mark)
        return self._stop

    def _take(self, pool: ThreadPoolExecutor, entry: Entry) -> None:
        slot = self.prefix.add(entry)
        if entry.error is not None:
            self._fail(slot, Failure(entry.where, "invalid_request", entry.error))
        elif entry.content is None:
            self.prefix.finish(slot, Tally())
        else:
            self._board(pool, slot, entry.content)
        while len(self.prefix) >= self._window and not self._ended():
            self._flush(pool)
            if self._running:
                self._look()
        self._tick()

    def _board(self, pool: ThreadPoolExecutor, slot: Slot, content: Content) -> None:
        try:
            most = self._hooks.admit(content, slot.entry.where)
        except EmbedonceError as error:
            self._fail(slot, failure_of(slot, error))
            return
        self._window = max(self._window, 4 * most * self._concurrency)
        batch = self._open.setdefault(content.modalities, _Batch())
        if batch.slots and batch.size + content.size > BATCH_BYTES:
            self._send(pool, content.modalities)
            batch = self._open.setdefault(content.modalities, _Batch())
        batch.slots.append(slot)
        batch.size += content.size
        if len(batch.slots) >= most:
            self._send(pool, content.modalities)

    def _flush(self, pool: ThreadPoolExecutor) -> None:
        for kind in list(self._open):
            self._send(pool, kind)

    def _send(self, pool: ThreadPoolExecutor, kind: frozenset[Modality]) -> None:
        batch = self._open.pop(kind)
        while len(self._running) >= self._concurrency:
            self._look()
        if not self._ended():
            self._running[pool.submit(self._hooks.work, batch.slots)] = batch.slots

    def _ended(self) -> bool:
        if self._stop is None and self._hooks.halt.is_set():
            self._stop = INTERRUPTED
        return self._stop is not None

    def _look(self) -> None:
        done, _ = wait(self._running, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
        for future in done:
            del self._running[future]
            self._land(future.result())
        self._tick()

    def _land(self, outcome: Outcome) -> None:
        for slot, tally in outcome.done:
            self.live.add(tally)
            self.prefix.finish(slot, tally)
        for slot, failure in outcome.failed:
            self._fail(slot, failure)
        self.live.spent += outcome.spent
        self.prefix.tally.spent += outcome.spent
        self._stop = self._stop or outcome.stop
        if self._stop is not None:
            self._hooks.halt.set()

    def _fail(self, slot: Slot, failure: Failure) -> None:
        self._hooks.failed(failure)
        self.live.failed += 1
        self.prefix.finish(slot, Tally(failed=1))

    def _tick(self) -> None:
        self._hooks.show(self.live, self.prefix.mark)
        if self._clock.monotonic() - self._saved[0] >= SAVE_SECONDS:
            self._save()

    def _save(self) -> None:
        if self.prefix.mark != self._saved[1]:
            self._hooks.save(self.prefix.mark, self.prefix.tally)
        self._saved = (self._clock.monotonic(), self.prefix.mark)
