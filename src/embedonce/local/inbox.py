"""The inbox: what lies in a folder is told to ingest as S3 would tell of its objects. By looking, again and
again: a folder may be on any file system, and what was there before the start counts too."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

from embedonce.bootstrap.parts import Parts
from embedonce.bootstrap.stores import INBOX, INBOX_FOLDER
from embedonce.core.errors import StoreUnavailable
from embedonce.core.source import Source
from embedonce.stores.embedded.inbox import scan
from embedonce.stores.embedded.sources import version_of
from embedonce.usecases.ingest.arrivals import Arrivals

LOOK_SECONDS = 1.0
LOOK_SHARE = 0.1
"""Of the time, at most so much goes into looking, however many files there are."""
SETTLE_SECONDS = 1.5
"""A file that was changed less long ago is perhaps still being written."""


class Inbox:
    def __init__(self, parts: Parts, arrivals: Arrivals, stopping: threading.Event) -> None:
        self._parts = parts
        self._arrivals = arrivals
        self._stopping = stopping
        self._root = parts.settings.data_dir / INBOX_FOLDER
        self._told: dict[str, str] = {}

    def run(self) -> None:
        clock = self._parts.clock
        while not self._stopping.is_set():
            began = clock.monotonic()
            try:
                self.look()
            except Exception as crash:  # noqa: BLE001  # the next look may do better
                self._parts.telemetry.count("LoopErrors")
                self._parts.telemetry.event("loop_error", loop="inbox", kind=type(crash).__name__)
            took = clock.monotonic() - began
            self._stopping.wait(max(LOOK_SECONDS, took / LOOK_SHARE))

    def look(self) -> int:
        """How many sources were told of.

        :raises StoreUnavailable: the folder cannot be read
        """
        told = 0
        there: set[str] = set()
        for source, changed in sources(self._root, INBOX):
            there.add(source.key)
            if self._told.get(source.key) == source.version:
                continue
            if self._parts.clock.now() - changed < SETTLE_SECONDS:
                continue
            try:
                news = self._arrivals.seen(source)
                told += news is not None and self._arrivals.arrived(news) is not None
            except StoreUnavailable:  # this one, or all of them: the next look tells
                self._parts.telemetry.count("LoopErrors")
                continue
            self._told[source.key] = source.version
        for gone in self._told.keys() - there:
            del self._told[gone]
        return told


def sources(root: Path, bucket: str) -> Iterator[tuple[Source, float]]:
    """What lies below a folder, which is made if it is not there, and when each was changed last: as the
    kernel says, not as whoever wrote it.

    :raises StoreUnavailable: it cannot be read
    """
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"inbox: {type(error).__name__}") from None
    for key, about in scan(root):
        yield source_of(bucket, key, about), about.st_ctime


def source_of(bucket: str, key: str, about: os.stat_result) -> Source:
    """Later changes have later times: they are what tells which version is newer."""
    return Source(bucket, key, version_of(about), "", about.st_size, f"{about.st_ctime_ns:016x}")
