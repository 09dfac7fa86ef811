"""The rows, messages and blobs of manifests. The row is the truth: it is written before its messages are
sent, and what is sent twice or lost does no harm."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from embedonce.core import manifest as machine
from embedonce.core.deadline import Deadline
from embedonce.core.errors import EmbedonceError, StoreUnavailable
from embedonce.core.manifest import Assembling, Cutting, Embedding, Ended, Head, Manifest
from embedonce.core.task import Step, Task
from embedonce.ports import BlobStore, Clock, ManifestStore, Queue, Telemetry

ATTEMPTS = 50
"""At changing a row that others change too."""
CONTENTION_SECONDS = 0.02
FIRST_PAUSE_SECONDS = 2.0
PAUSE_GROWTH = 1.5
LONGEST_PAUSE_SECONDS = 900.0
BLOB_BYTES = 512 << 20
"""More than any chunk, even of the largest vectors as text."""
CHUNK, RESULT, TICKETS, TAKEN, BOUGHT = "c", "r", "t", "q", "b"
"""Kinds of blobs that a chunk has: what is to be embedded, its part of the result, its tickets, what was
taken of its rule's ceiling, and what attempts that failed have paid for."""
CUTS_MEDIA = ("pdf", "av", "image")
"""How the lineages begin of cutters whose segments are no text."""
MEDIA = "m"
"""Blobs by the number of a segment: its bytes, where it is no text."""


class Manifests:
    def __init__(
        self,
        store: ManifestStore,
        queues: Mapping[Step, Queue[Task]],
        blobs: BlobStore,
        clock: Clock,
        telemetry: Telemetry,
        *,
        watched: bool = True,
    ) -> None:
        """:param watched: whether a janitor looks after what stands still; not where one process does all"""
        self._store = store
        self._queues = queues
        self._blobs = blobs
        self._clock = clock
        self._telemetry = telemetry
        self.watched = watched

    def read(self, manifest_id: str) -> Manifest | None:
        """:raises StoreUnavailable:"""
        return self._store.get(manifest_id)

    def head(self, place: str) -> Head | None:
        """:raises StoreUnavailable:"""
        return self._store.head(place)

    def add(self, manifest: Manifest, before: Manifest | None) -> Manifest:
        """The first of its id, or over one that has ended.

        :raises StoreUnavailable: also where somebody else adds it at this moment
        """
        over = before.version if before else 0
        manifest = replace(manifest, version=over + 1)
        if self._store.swap(manifest, over) is not None:
            raise StoreUnavailable("somebody else announces the source at this moment")
        return manifest

    def change(self, manifest: Manifest, changed: Manifest) -> bool:
        """False: somebody else changed it first.

        :raises StoreUnavailable:
        """
        return self._store.swap(changed, manifest.version) is None

    def change_head(self, head: Head | None, changed: Head) -> bool:
        """:raises StoreUnavailable:"""
        return self._store.swap_head(changed, head.version if head else 0) is None

    def amend(self, manifest_id: str, change: Callable[[Manifest], Manifest | None]) -> Manifest | None:
        """Change it as it stands, however often others are first; what `change` made of it. None: there is
        none, or `change` has nothing to do any more.

        :raises StoreUnavailable: also where others are first again and again
        """
        for attempt in range(ATTEMPTS):
            manifest = self._store.get(manifest_id)
            changed = None if manifest is None else change(manifest)
            if manifest is None or changed is None:
                return None
            if self.change(manifest, changed):
                return changed
            self._clock.sleep(random.uniform(0, CONTENTION_SECONDS * 2 ** min(attempt, 6)))  # noqa: S311  # jitter
        raise StoreUnavailable("others change the manifest again and again")

    def is_newest(self, manifest: Manifest) -> bool:
        """:raises StoreUnavailable:"""
        head = self._store.head(manifest.source.place)
        return head is not None and head.newest == manifest.id

    def superseded(self, manifest: Manifest) -> None:
        changed = self.amend(
            manifest.id, lambda m: machine.superseded(m, now=self._clock.now()) if m.open else None
        )
        if changed is not None:
            self._telemetry.count("SourcesSuperseded")
            self.forget(changed, manifest.state)

    def failed(self, manifest: Manifest, error: EmbedonceError) -> None:
        """What is published of it is the error.

        :raises StoreUnavailable:
        """

        def change(m: Manifest) -> Manifest | None:
            if not m.open or m.error is not None:
                return None
            return machine.failed(m, error, now=self._clock.now())

        changed = self.amend(manifest.id, change)
        if changed is not None:
            self._telemetry.count("SourcesFailed")
            self._telemetry.event("source_failed", manifest=changed.id, code=type(error).code)
            self.forget(changed, manifest.state)
            self.send(Task(changed.id, Step.ASSEMBLE))

    def due(self, limit: int) -> list[str]:
        """:raises StoreUnavailable:"""
        return self._store.due(self._clock.now(), limit)

    def send(self, task: Task, *, delay: float = 0.0) -> None:
        """A lost message is what the janitor is for."""
        try:
            self._queues[task.step].send(task, delay=delay)
        except StoreUnavailable:
            self._lost(task.step)

    def again(self, task: Task, *, delay: float | None = None) -> None:
        """The same task after a pause that grows each time."""
        if delay is None:
            delay = min(FIRST_PAUSE_SECONDS * PAUSE_GROWTH ** min(task.hops, 30), LONGEST_PAUSE_SECONDS)
        self.send(Task(task.manifest, task.step, task.chunk, task.hops + 1), delay=delay)

    def send_all(self, manifest: Manifest) -> None:
        """All messages that its state stands for."""
        match manifest.state:
            case Cutting():
                self.send(Task(manifest.id, Step.CUT))
            case Embedding() as state:
                tasks = [Task(manifest.id, Step.CHUNK, chunk) for chunk in state.left]
                try:
                    self._queues[Step.CHUNK].send_many(tasks)
                except StoreUnavailable:
                    self._lost(Step.CHUNK)
            case Assembling():
                self.send(Task(manifest.id, Step.ASSEMBLE))
            case Ended():
                pass

    def put_blob(self, manifest_id: str, kind: str, number: int | str, data: bytes) -> None:
        """:raises StoreUnavailable:"""
        self._blobs.put(_key(manifest_id, kind, number), data)

    def blob(self, manifest_id: str, kind: str, number: int | str) -> bytes | None:
        """:raises StoreUnavailable:"""
        return self._blobs.get(_key(manifest_id, kind, number), most=BLOB_BYTES)

    def delete_blobs(self, manifest_id: str, kind: str, numbers: Sequence[int | str]) -> None:
        """What cannot be deleted here is removed after days."""
        try:
            if numbers:
                self._blobs.delete_many([_key(manifest_id, kind, number) for number in numbers])
        except StoreUnavailable:
            self._telemetry.count("BlobsLeft", len(numbers))

    def forget(self, manifest: Manifest, before: machine.State) -> None:
        """All blobs of chunks; `before`: the state that knew how many there are."""
        chunks = before.chunks if isinstance(before, Embedding | Assembling) else 0
        for kind in (CHUNK, RESULT, TICKETS, *((TAKEN,) if manifest.terms.daily is not None else ())):
            self.delete_blobs(manifest.id, kind, range(chunks))
        # Of a chunk that is done they were deleted before.
        if isinstance(before, Embedding) and manifest.cutter.startswith(CUTS_MEDIA):
            self.delete_blobs(manifest.id, MEDIA, range(manifest.totals.segments))

    def _lost(self, step: Step) -> None:
        self._telemetry.count("QueueErrors")
        self._telemetry.event("queue_unavailable", queue=step.value)


class Lease:
    """A hold on something that lapses by itself: renewed while it is worked on, every third of its length."""

    def __init__(self, clock: Clock, seconds: float, renew: Callable[[], None], deadline: Deadline) -> None:
        self._clock = clock
        self._every = seconds / 3
        self._renew = renew
        self._deadline = deadline
        self._next = clock.monotonic() + self._every

    def keep(self) -> None:
        """:raises Exception: what `renew` raises where it is lost
        :raises OutOfTime: the deadline has come
        """
        now = self._clock.monotonic()
        if self._deadline.remaining(now) <= 0:
            raise OutOfTime
        if now >= self._next:
            self._renew()
            self._next = self._clock.monotonic() + self._every


class OutOfTime(Exception):
    """The process has no time left for this step: it is begun again."""


class Lost(Exception):
    """Somebody else changed what was being worked on: it is theirs."""


def _key(manifest_id: str, kind: str, number: int | str) -> str:
    return f"ingest/{manifest_id}/{kind}/{number}"
