"""`embedonce ingest PATH…`: files are cut, embedded and published by this process alone, with the code of the
inbox. What is done is kept in the data folder, so that the same command goes on where it was stopped."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from embedonce.bootstrap.ingest import Ingest
from embedonce.bootstrap.parts import parts_of
from embedonce.bootstrap.stores import (
    INGEST_VISIBILITY,
    MAX_RECEIVES,
    VISIBILITY_SECONDS,
    IngestStores,
    Stores,
    open_stores,
)
from embedonce.clock import SystemClock
from embedonce.config import ConfigError, Settings
from embedonce.core.manifest import Embedding, Manifest
from embedonce.core.source import Source
from embedonce.core.task import IngestQueue
from embedonce.local.inbox import source_of, sources
from embedonce.local.loops import Loops
from embedonce.local.server import local_key
from embedonce.ports import Clock
from embedonce.stores.embedded.database import Database
from embedonce.stores.embedded.queue import EmbeddedQueue
from embedonce.stores.embedded.results import DirectoryResults
from embedonce.stores.embedded.sources import DirectorySources
from embedonce.stores.messages import TASKS, TICKETS
from embedonce.telemetry import LogTelemetry

LOOK_SECONDS = 0.2
MOST_ERRORS = 3
"""Fewer than what makes a message a dead letter: then there are none any more."""


@dataclass(frozen=True, slots=True)
class Found:
    """One file to embed. `path` as it is shown."""

    path: str
    source: Source


@dataclass(frozen=True, slots=True)
class Progress:
    """`manifests` by path, as they are now."""

    manifests: Mapping[str, Manifest]

    @property
    def open(self) -> bool:
        return any(m.open and not paused(m) for m in self.manifests.values())


def paused(manifest: Manifest) -> str | None:
    return manifest.state.paused if isinstance(manifest.state, Embedding) else None


def found_in(paths: Sequence[Path], results: Path) -> tuple[list[Found], dict[str, Path]]:
    """The files, and the folders that they are in by bucket. A bucket is a folder and where its results go:
    the same files with results elsewhere are other sources.

    :raises ConfigError: there is no such file or folder, or nothing in it that counts
    """
    found: dict[str, Found] = {}
    folders: dict[str, Path] = {}
    for path in paths:
        whole = path.expanduser().resolve()
        root = whole if whole.is_dir() else whole.parent
        bucket = f"path:{root}>{results}"
        folders[bucket] = root
        if whole.is_dir():
            shown = [(f"{path / source.key}", source) for source, _ in sources(root, bucket)]
        elif whole.is_file():
            shown = [(str(path), source_of(bucket, whole.name, whole.stat()))]
        else:
            raise ConfigError(f"{path}: no such file or folder")
        for name, source in shown:
            before = found.setdefault(source.key, Found(name, source))
            if before.source.bucket != source.bucket:
                raise ConfigError(
                    f"{before.path} and {name} would have one result, {source.key}: embed them one after the "
                    "other with two --results, or name the folder above them"
                )
    if not found:
        raise ConfigError("there is no file in there (hidden, temporary and result files do not count)")
    return list(found.values()), folders


def ingest(
    settings: Settings, paths: Sequence[Path], results: Path, show: Callable[[Progress], None]
) -> Progress:
    """Until all are done or paused; `show` is called a few times a second.

    :raises ConfigError: nothing to embed, or settings that cannot work
    """
    if settings.mode != "local":
        raise ConfigError("EMBEDONCE_MODE: `ingest` is for local mode; on AWS files are put into the bucket")
    results = results.expanduser().resolve()
    try:
        results.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--results {results}: {error.strerror}") from None
    found, folders = found_in(paths, results)
    clock = SystemClock()
    with _stores(settings, clock, folders, results) as stores:
        telemetry = LogTelemetry()
        parts = parts_of(settings, telemetry, development_key=local_key(settings), clock=clock, stores=stores)
        loops = Loops(parts, ("worker", "poller"))
        try:
            assert stores.ingest is not None
            told = loops.ingest(stores.ingest, watched=False)
            ids = {each.path: _told(told, each.source) for each in found}
            loops.start()
            manifests: dict[str, Manifest] = {}
            patience = _Patience(telemetry)
            while True:
                for path, manifest_id in ids.items():
                    if path not in manifests or manifests[path].open:
                        manifests[path] = _read(told, manifest_id)
                progress = Progress(manifests)
                show(progress)
                if not progress.open:
                    break
                patience.check(progress)
                clock.sleep(LOOK_SECONDS)
            loops.stop()  # what is in hand is done: parts of a source that was paused meanwhile are paid for
            return Progress({path: _read(told, manifest_id) for path, manifest_id in ids.items()})
        finally:
            loops.stop()
            parts.close()


class _Patience:
    """What fails again and again, such as a folder that cannot be written, does not end by itself."""

    def __init__(self, telemetry: LogTelemetry) -> None:
        self._telemetry = telemetry
        self._done = -1
        self._errors: float = 0

    def check(self, progress: Progress) -> None:
        """:raises ConfigError: so many errors, and nothing was done in the meantime"""
        errors = self._telemetry.counts["LoopErrors"]
        totals = [m.totals for m in progress.manifests.values()]
        done = sum(t.segments + t.hits + t.derived + t.misses + t.failed for t in totals)
        done += sum(not m.open for m in progress.manifests.values())
        if done != self._done:
            self._done, self._errors = done, errors
        elif errors - self._errors >= MOST_ERRORS:
            raise ConfigError(
                "it does not get on: the lines above say what fails; the same command goes on from here"
            )


def _told(told: Ingest, source: Source) -> str:
    news = told.arrivals.seen(source)
    manifest = told.arrivals.arrived(news or source, afresh=True)
    assert manifest is not None  # it is the newest, as it lies there now
    return manifest.id


def _read(told: Ingest, manifest_id: str) -> Manifest:
    manifest = told.manifests.read(manifest_id)
    if manifest is None:
        raise ConfigError("the data folder was changed by somebody else")
    return manifest


@contextmanager
def _stores(settings: Settings, clock: Clock, folders: Mapping[str, Path], results: Path) -> Iterator[Stores]:
    """Everything but the queues is in the data folder: a server beside this process must not take its work,
    nor this one the server's."""
    stores = open_stores(settings, clock)
    assert stores.ingest is not None
    with tempfile.TemporaryDirectory(prefix="embedonce-") as scratch:
        database = Database(Path(scratch) / "queues.sqlite3")
        queues = {
            stage: EmbeddedQueue(
                database, clock, stage.value, TICKETS, visibility=seconds, max_receives=MAX_RECEIVES
            )
            for stage, seconds in VISIBILITY_SECONDS.items()
        }
        own = IngestStores(
            manifests=stores.ingest.manifests,
            queues={
                name: EmbeddedQueue(
                    database,
                    clock,
                    name.value,
                    TASKS,
                    visibility=INGEST_VISIBILITY,
                    max_receives=MAX_RECEIVES,
                )
                for name in IngestQueue
            },
            blobs=stores.ingest.blobs,
            sources=DirectorySources(folders),
            results=DirectoryResults(results, clock),
        )
        try:
            yield replace(stores, queues=queues, ingest=own)
        finally:
            database.close()
