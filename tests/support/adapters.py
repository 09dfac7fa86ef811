"""The handles of the contract tests: a store of some adapter, and ways to hurt it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from embedonce.core.source import Source
from embedonce.core.ticket import TicketRef
from embedonce.ports import (
    AccessStore,
    BlobStore,
    FlightStore,
    ManifestStore,
    Queue,
    QuotaStore,
    ResultStore,
    SourceStore,
    TicketStore,
    UsageStore,
    VectorStore,
)


@dataclass(frozen=True)
class Vectors:
    """`damage` makes the row of a fingerprint unreadable, `down` makes every later call fail."""

    damage: Callable[[bytes], None]
    down: Callable[[], None]
    store: VectorStore


@dataclass(frozen=True)
class Flights:
    damage: Callable[[bytes], None]
    down: Callable[[], None]
    store: FlightStore


@dataclass(frozen=True)
class Access:
    down: Callable[[], None]
    store: AccessStore


@dataclass(frozen=True)
class Tickets:
    damage: Callable[[TicketRef], None]
    down: Callable[[], None]
    store: TicketStore


@dataclass(frozen=True)
class Manifests:
    """`damage` makes the row of a manifest unreadable, `damage_head` that of a place."""

    damage: Callable[[str], None]
    damage_head: Callable[[str], None]
    down: Callable[[], None]
    store: ManifestStore


@dataclass(frozen=True)
class Sources:
    """`put` makes or replaces what has that key; whether replaced versions are `kept`."""

    put: Callable[[str, bytes], Source]
    delete: Callable[[Source], None]
    down: Callable[[], None]
    kept: bool
    store: SourceStore


@dataclass(frozen=True)
class Results:
    """`found`: what is published, by name."""

    found: Callable[[], dict[str, bytes]]
    down: Callable[[], None]
    store: ResultStore


@dataclass(frozen=True)
class Queues:
    """`put` adds a message whose body is that text. The visibility time-out is 60 s; after 5 receives a
    message is a dead letter."""

    put: Callable[[str], None]
    down: Callable[[], None]
    queue: Queue[TicketRef]


@dataclass(frozen=True)
class Blobs:
    down: Callable[[], None]
    store: BlobStore


@dataclass(frozen=True)
class Quotas:
    down: Callable[[], None]
    store: QuotaStore


@dataclass(frozen=True)
class Usage:
    down: Callable[[], None]
    store: UsageStore


def execute(path: Path, statement: str, *parameters: object) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement, parameters)
    connection.close()
