"""Ingest in a test's process: an inbox, all handlers, and everything outside of it countable and killable."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from embedonce.bootstrap.ingest import chunks_of, ingest_of
from embedonce.bootstrap.stores import INBOX, INBOX_FOLDER, RESULT_FOLDER, IngestStores, Stores
from embedonce.core.content import Modality
from embedonce.core.manifest import Ended, Manifest, Outcome
from embedonce.core.segment import CutOptions, Format, Range, Segment, Unit
from embedonce.core.task import IngestQueue
from embedonce.core.ticket import Stage
from embedonce.local.inbox import sources
from embedonce.ports import Cuts, Segmenter, SourceReader, VectorSink
from embedonce.stores.embedded.queue import EmbeddedQueue
from embedonce.usecases.ingest.tend import Tend
from support.clock import FakeClock
from support.pipeline import Fate, Outside, Pipeline, Provider


class Lines:
    """A segmenter without a process of its own: a line is a segment; `!` makes it audio, `?` an error."""

    lineage = "lines/1"

    def format_of(self, head: bytes, key: str) -> Format | None:
        return Format.TEXT

    @contextmanager
    def cut(
        self, reader: SourceReader, kind: Format, options: CutOptions, *, most: int, seconds: float
    ) -> Iterator[Cuts]:
        text = b"".join(reader.pieces()).decode()
        yield _Cut([self._segment(row, line) for row, line in enumerate(text.splitlines())], self.lineage)

    @staticmethod
    def _segment(row: int, line: str) -> Segment:
        where = Range(Unit.ROWS, row + 1, row + 1)
        if line.startswith("!"):
            data = line.encode()
            return Segment(Modality.AUDIO, where, data=data, media_type="audio/wav", seconds=1.0)
        if line.startswith("?"):
            return Segment(Modality.TEXT, where, error=f"row {row + 1}: is wrong")
        return Segment(Modality.TEXT, where, text=line)


@dataclass
class _Cut:
    segments: list[Segment]
    lineage: str

    def __iter__(self) -> Iterator[Segment]:
        return iter(self.segments)


class IngestLab(Pipeline):
    """One process of it. `segmenter` None: the real one, with its child processes."""

    def __init__(
        self,
        folder: Path,
        provider: Provider,
        clock: FakeClock,
        *,
        fate: Fate | None = None,
        stores: Stores | None = None,
        segmenter: Segmenter | None = None,
        sink: VectorSink | None = None,
        **settings: str,
    ) -> None:
        self._sink = sink
        super().__init__(folder, provider, clock, fate=fate, stores=stores, **settings)
        self.inbox = folder / INBOX_FOLDER
        self.results_folder = folder / RESULT_FOLDER
        self.inbox.mkdir(parents=True, exist_ok=True)
        assert self.stores.ingest is not None
        self.ingest_stores = self._killable(self.stores.ingest)
        parts = self.parts
        self.ingest = ingest_of(
            parts.settings,
            self.ingest_stores,
            parts.catalog,
            clock,
            self.telemetry,
            segmenter=segmenter,
        )
        self.pool = ThreadPoolExecutor(4)
        self.chunks = chunks_of(parts, self.ingest_stores, self.pool)
        self.tend = Tend(self.ingest.manifests, self.ingest_stores.blobs, clock, self.telemetry)

    def _killable(self, stores: IngestStores) -> IngestStores:
        def outside(inner: Any, name: str) -> Any:
            return Outside(inner, name, self.fate)

        return IngestStores(
            manifests=outside(stores.manifests, "manifests"),
            queues={name: outside(queue, f"{name}-queue") for name, queue in stores.queues.items()},
            blobs=outside(stores.blobs, "segments"),
            sources=stores.sources,
            results=_Results(stores.results, self.fate),  # type: ignore[arg-type]
            sink=self._sink,
        )

    def drop(self, name: str, data: bytes | str) -> None:
        path = self.inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".part")
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
        os.replace(temporary, path)

    def look(self) -> list[Manifest]:
        """As the inbox does, but for waiting until a file has settled."""
        told = []
        for source, _ in sources(self.inbox, INBOX):
            news = self.ingest.arrivals.seen(source)
            manifest = None if news is None else self.ingest.arrivals.arrived(news)
            if manifest is not None:
                told.append(manifest)
        return told

    def ingest_step(self, name: IngestQueue, most: int = 1) -> int:
        handle = self.ingest.cut if name is IngestQueue.SOURCES else self.chunks
        queue = self.ingest_stores.queues[name]
        deliveries = queue.receive(most)
        for delivery in deliveries:
            handle(delivery.message, self.deadline())
            queue.acknowledge(delivery)
        return len(deliveries)

    def work(self, seconds: float = 100_000.0, until: Callable[[], bool] = lambda: False) -> None:
        """All queues, for as long on the clock, or until nothing is left to do."""
        end = self.clock.now() + seconds
        tick = self.clock.now() + 60
        pause = 1.0
        while self.clock.now() < end and not until():
            done = sum(self.ingest_step(name) for name in IngestQueue)
            done += self.step(Stage.WORK) + self.step(Stage.POLL)
            if done:
                pause = 1.0
                continue
            if self.idle:
                return
            self.clock.advance(pause)
            pause = min(pause * 2, 60.0)
            if self.clock.now() >= tick:
                self.janitor.tick(self.deadline(45))
                self.tend.tick(self.deadline(45))
                tick += 60

    def release(self) -> None:
        """What a killed process had in hand is ready again, as at the start of another."""
        assert self.stores.ingest is not None
        for queue in (*self.stores.queues.values(), *self.stores.ingest.queues.values()):
            assert isinstance(queue, EmbeddedQueue)
            queue.release()

    @property
    def idle(self) -> bool:
        assert self.stores.ingest is not None
        queues = [*self.stores.queues.values(), *self.stores.ingest.queues.values()]
        depths = [queue.depth() for queue in queues]
        waiting = any(d.ready + d.delayed + d.in_flight for d in depths)
        due = self.stores.tickets.due(float("inf"), 1) or self.stores.ingest.manifests.due(float("inf"), 1)
        return not waiting and not due

    def manifest(self, manifest_id: str) -> Manifest:
        assert self.stores.ingest is not None
        manifest = self.stores.ingest.manifests.get(manifest_id)
        assert manifest is not None
        return manifest

    def outcome(self, manifest: Manifest) -> Outcome | None:
        state = self.manifest(manifest.id).state
        return state.outcome if isinstance(state, Ended) else None

    def result(self, name: str) -> list[dict[str, Any]]:
        """The lines of a result, whatever its form."""
        one = self.results_folder / f"{name}.embedding.json"
        if one.exists():
            said = orjson.loads(one.read_bytes())
            return [said["source"], *said["segments"], said["summary"]]
        many = self.results_folder / f"{name}.embedding.jsonl"
        return [orjson.loads(line) for line in many.read_bytes().splitlines()]

    def published(self) -> list[str]:
        found = (path for path in self.results_folder.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(self.results_folder)) for path in found)

    def error(self, name: str) -> str:
        said = orjson.loads((self.results_folder / f"{name}.error.json").read_bytes())
        return str(said["error"]["message"])


class _Results:
    """Writing a result counts as two calls: its content, and its becoming visible."""

    def __init__(self, inner: Any, fate: Fate) -> None:
        self._inner = inner
        self._fate = fate

    @contextmanager
    def writing(self, name: str) -> Iterator[Any]:
        with self._inner.writing(name) as writer:
            yield Outside(writer, "result", self._fate)

    def delete_many(self, names: list[str]) -> None:
        self._fate.call("results.delete_many", lambda: self._inner.delete_many(names))


def vector_of(line: dict[str, Any]) -> bytes:
    return base64.b64decode(line["embedding"])


__all__ = ["IngestLab", "Lines", "vector_of"]
