"""The handles of the contract tests: a store of some adapter, and ways to hurt it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from embedonce.ports import AccessStore, FlightStore, VectorStore


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


def execute(path: Path, statement: str, *parameters: object) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement, parameters)
    connection.close()
