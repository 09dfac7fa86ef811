"""Publishing: the parts of a source's result are put together, and stand complete or not at all. Of several
versions of a key only the newest is published, whoever is slower."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from embedonce.core import manifest as machine
from embedonce.core.deadline import Deadline
from embedonce.core.errors import EmbedonceError, InvalidRequest, StoreUnavailable
from embedonce.core.manifest import Assembling, Head, Manifest, Published, Totals
from embedonce.core.resultname import ERROR, MANY, ONE, result_name
from embedonce.core.rule import Output, Sink
from embedonce.core.task import Task
from embedonce.ports import Clock, ResultStore, SinkEntry, Telemetry, VectorSink
from embedonce.usecases.ingest import lines
from embedonce.usecases.ingest.manifests import RESULT, Lease, Lost, Manifests, OutOfTime

LEASE_SECONDS = 30.0
BUSY_SECONDS = 5.0
SINK_BATCH = 250
MAX_ID = 100
"""Characters of a row's id in a sink, whose metadata are small; the result has all of it."""


class Publish:
    """`sink` None: rules with one cannot be served here. `prefix`: of keys, not of results."""

    def __init__(
        self,
        manifests: Manifests,
        results: ResultStore,
        sink: VectorSink | None,
        clock: Clock,
        telemetry: Telemetry,
        *,
        prefix: str,
    ) -> None:
        self._manifests = manifests
        self._results = results
        self._sink = sink
        self._clock = clock
        self._telemetry = telemetry
        self._prefix = prefix

    def handle(self, task: Task, deadline: Deadline) -> None:
        """:raises StoreUnavailable: the message has to come again"""
        manifest = self._manifests.read(task.manifest)
        if manifest is None or not isinstance(manifest.state, Assembling):
            return
        left = manifest.state.until - self._clock.now()
        if left > 0:
            self._manifests.again(task, delay=left)
            return
        begun = machine.assembly_begins(manifest, now=self._clock.now(), lease=LEASE_SECONDS)
        if not self._manifests.change(manifest, begun):
            return
        stage = _Stage(begun, self._manifests, self._clock)
        lease = Lease(self._clock, LEASE_SECONDS, stage.renew, deadline)
        try:
            stage.enter()
            self._publish(stage, lease)
        except Superseded:
            self._manifests.superseded(stage.manifest)
        except _Gone:  # they were removed, as after weeks: it is cut anew, and finds what was embedded
            changed = machine.recut(stage.manifest, now=self._clock.now())
            if self._manifests.change(stage.manifest, changed):
                self._manifests.send_all(changed)
        except _Busy:
            self._leave(stage)
            self._manifests.again(task, delay=BUSY_SECONDS)
        except (Lost, OutOfTime) as over:
            self._telemetry.event("publishing_given_up", why=type(over).__name__)
            self._manifests.again(task, delay=LEASE_SECONDS)
        except StoreUnavailable:
            self._leave(stage)
            raise
        except EmbedonceError as error:
            if error.retryable:
                self._leave(stage)
                raise
            self._manifests.failed(stage.manifest, error)
        except ValueError:
            why = InvalidRequest("its result cannot be written: its name or its metadata are too long")
            self._manifests.failed(stage.manifest, why)

    def _publish(self, stage: _Stage, lease: Lease) -> None:
        manifest = stage.manifest
        state = manifest.state
        assert isinstance(state, Assembling)
        reach = self._fill_sink(stage, lease)
        suffix = ERROR if manifest.error else ONE if manifest.totals.segments == 1 else MANY
        name = self._name(manifest, suffix)
        with self._results.writing(name) as writer:
            for data in self._document(manifest, suffix):
                writer.write(data)
                lease.keep()
            stage.renew()
            writer.commit()
        self._results.delete_many([self._name(manifest, s) for s in (ERROR, ONE, MANY) if s != suffix])
        stage.stands(name, reach=reach)
        self._telemetry.count("SourcesPublished" if manifest.error is None else "ErrorsPublished")
        self._manifests.forget(manifest, state)

    def _name(self, manifest: Manifest, suffix: str) -> str:
        return result_name(manifest.source.key.removeprefix(self._prefix), suffix)

    def _parts(self, manifest: Manifest, first: int = 0) -> Iterator[tuple[Totals, bytes]]:
        """Totals and lines of each chunk."""
        assert isinstance(manifest.state, Assembling)
        for chunk in range(first, manifest.state.chunks):
            data = self._manifests.blob(manifest.id, RESULT, chunk)
            try:
                if data is None:
                    raise _Gone
                yield lines.parted(data)
            except ValueError:
                raise _Gone from None

    def _document(self, manifest: Manifest, suffix: str) -> Iterator[bytes]:
        now = self._clock.now()
        if suffix == ERROR:
            yield lines.error_document(manifest)
        elif suffix == ONE:
            [(totals, line)] = self._parts(manifest)
            yield lines.document(manifest, line, totals, now)
        else:
            sums = Totals()
            yield lines.json_line(lines.opening(manifest))
            for totals, part in self._parts(manifest):
                sums = sums.plus(totals)
                yield part
            yield lines.json_line(lines.closing(manifest, sums, now))

    def _fill_sink(self, stage: _Stage, lease: Lease) -> int:
        """Up to which number there are vectors of this key afterwards.

        :raises InvalidRequest: the index does not take them
        """
        manifest, head = stage.manifest, stage.head
        target = None if manifest.error else manifest.terms.sink
        if head.sink is None and target is None:
            return 0
        assert self._sink is not None
        if head.sink is not None and head.sink != target:
            self._remove(head.sink, manifest, range(head.reach), lease)
        if target is None:
            stage.reaching(None, 0)
            return 0
        segments = manifest.totals.segments
        stage.reaching(target, segments)
        done = stage.filled  # of an attempt before, which ran out of time
        for _, part in self._parts(manifest, done):
            entries: list[SinkEntry] = []
            missing: list[int] = []
            for line in part.splitlines():
                said = orjson.loads(line)
                if "error" in said:
                    missing.append(said["index"])
                else:
                    entries.append(_entry(manifest, said))
            for at in range(0, len(entries), SINK_BATCH):
                lease.keep()
                self._sink.put_many(target, entries[at : at + SINK_BATCH])
            self._remove(target, manifest, missing, lease)
            done += 1
            stage.fill(done)
        self._remove(target, manifest, range(segments, stage.head.reach), lease)
        return segments

    def _remove(self, sink: Sink, manifest: Manifest, numbers: range | list[int], lease: Lease) -> None:
        assert self._sink is not None
        for at in range(0, len(numbers), 500):
            lease.keep()
            keys = [sink_key(manifest, number) for number in numbers[at : at + 500]]
            try:
                self._sink.delete_many(sink, keys)
            except InvalidRequest:  # an index that is no more, or takes no such keys, holds none either
                self._telemetry.event("sink_not_cleared")
                return

    def _leave(self, stage: _Stage) -> None:
        """Nobody has to wait for a lease under which nothing is done any more."""
        free = machine.assembly_begins(stage.manifest, now=self._clock.now(), lease=0.0)
        with suppress(StoreUnavailable):
            self._manifests.change(stage.manifest, free)


def sink_key(manifest: Manifest, number: int) -> str:
    """The same for every version of a source, so that a later one replaces an earlier one."""
    return f"{manifest.source.place}-{number:08d}"


def _entry(manifest: Manifest, said: dict[str, Any]) -> SinkEntry:
    source = manifest.source
    metadata: dict[str, str | float] = {
        "source": f"{source.bucket}/{source.key}",
        "index": said["index"],
        "modality": said["modality"],
    }
    if source.version:
        metadata["version"] = source.version
    if "id" in said:
        metadata["id"] = said["id"][:MAX_ID]
    for unit, (start, end) in (said["range"] or {}).items():
        metadata |= {f"{unit}_start": start, f"{unit}_end": end}
    vector = said["embedding"]
    if manifest.terms.output is Output.FLOAT:
        data = struct.pack(f"<{len(vector)}f", *vector)
    else:
        data = base64.b64decode(vector)
    return SinkEntry(sink_key(manifest, said["index"]), data, metadata)


@dataclass(slots=True)
class _Stage:
    """The manifest and the head of its key while they are held: one publishes at a time, the newest only."""

    manifest: Manifest
    manifests: Manifests
    clock: Clock
    _head: Head | None = None
    _filled: int = 0

    @property
    def head(self) -> Head:
        assert self._head is not None
        return self._head

    def enter(self) -> None:
        """:raises Superseded: a newer version is there
        :raises _Busy: another version's result is on its way
        """
        head = self.manifests.head(self.manifest.source.place)
        if head is None or head.newest != self.manifest.id:
            raise Superseded
        changed = machine.publishing(head, self.manifest.id, now=self.clock.now(), lease=LEASE_SECONDS)
        if changed is not None and self._filled:
            changed = machine.filling(changed, self.manifest.id, self._filled)
        if changed is None or not self.manifests.change_head(head, changed):
            raise _Busy
        self._head = changed

    @property
    def filled(self) -> int:
        """Chunks whose vectors are in the sink, by an attempt before."""
        who, chunks = self.head.filled or ("", 0)
        self._filled = chunks if who == self.manifest.id else 0
        return self._filled

    def fill(self, chunks: int) -> None:
        """Written down when the lease is renewed."""
        self._filled = chunks

    def renew(self) -> None:
        """:raises Superseded:
        :raises Lost:
        """
        self.enter_again()
        now = self.clock.now()
        changed = machine.assembly_begins(self.manifest, now=now, lease=LEASE_SECONDS)
        if not self.manifests.change(self.manifest, changed):
            raise Lost
        self.manifest = changed

    def enter_again(self) -> None:
        try:
            self.enter()
        except _Busy:
            raise Lost from None

    def reaching(self, sink: Sink | None, reach: int) -> None:
        """:raises Lost:"""
        changed = machine.reaching(self.head, sink, reach)
        if not self.manifests.change_head(self.head, changed):
            raise Lost
        self._head = changed

    def stands(self, name: str, *, reach: int) -> None:
        """It is published: the head says so, and the manifest has ended. Where a newer version has come in
        the meantime the head says so all the same."""
        m = self.manifest
        published = Published(m.id, m.sha256, m.terms.hash, m.cutter, name)
        for _ in range(10):
            head = self.manifests.head(m.source.place)
            if head is None or head.publishing is None or head.publishing[0] != m.id:
                break
            if self.manifests.change_head(head, machine.stands(head, published, reach=reach)):
                break
        self.manifests.amend(
            m.id,
            lambda each: (
                machine.published(each, now=self.clock.now()) if isinstance(each.state, Assembling) else None
            ),
        )


class Superseded(Exception):
    """A newer version of the key is there."""


class _Gone(Exception):
    """A part of the result is not there any more."""


class _Busy(Exception):
    """Another version's result is on its way at this moment."""
