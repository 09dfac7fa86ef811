"""The SQLite file itself: who may read it, versions, locks, damage, and what is swept out of it."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest

from embedonce.core.errors import StoreUnavailable
from embedonce.ports import Swap
from embedonce.stores.embedded import database as module
from embedonce.stores.embedded.database import Database, IncompatibleDatabase
from embedonce.stores.embedded.flights import EmbeddedFlights
from embedonce.stores.embedded.vectors import EmbeddedVectors
from support.adapters import execute
from support.clock import START, FakeClock
from support.stored import fingerprint, key, leading, record


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_owner_may_read(path: Path, clock: FakeClock) -> None:
    database = Database(path)
    EmbeddedVectors(database, clock).put_many([(key(1), record(1))])
    assert mode(path.parent) == 0o700
    assert {each.name: mode(each) for each in path.parent.iterdir()} == {
        "embedonce.db": 0o600,
        "embedonce.db-wal": 0o600,
        "embedonce.db-shm": 0o600,
    }
    database.close()


def test_a_directory_that_was_there_stays_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "a.db").touch(0o644)
    Database(tmp_path / "a.db").close()
    assert (mode(tmp_path), mode(tmp_path / "a.db")) == (0o755, 0o600)


def test_it_is_durable_and_survives_reopening(path: Path, clock: FakeClock) -> None:
    for _ in range(2):
        database = Database(path)
        store = EmbeddedVectors(database, clock)
        assert store.put_many([(key(1), record(1))]) == [record(1)]
        assert database.read("PRAGMA journal_mode")[0][0] == "wal"
        assert database.read("PRAGMA synchronous")[0][0] == 2
        assert database.read("PRAGMA user_version")[0][0] == len(module.MIGRATIONS)
        database.close()
        assert [each.name for each in path.parent.iterdir()] == ["embedonce.db"]


def test_a_newer_file_is_refused_clearly(path: Path) -> None:
    Database(path).close()
    execute(path, "PRAGMA user_version = 99")
    with pytest.raises(IncompatibleDatabase, match=r"embedonce\.db has schema 99, .* knows up to 5"):
        Database(path)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"not a database, by far" * 100)
    with pytest.raises(StoreUnavailable, match=r"^sqlite: SQLITE_NOTADB$"):
        Database(tmp_path / "a.db")
    with pytest.raises(StoreUnavailable, match=r"^sqlite: NotADirectoryError$"):
        Database(tmp_path / "a.db" / "b.db")


def test_a_migration_that_failed_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = module.MIGRATIONS
    monkeypatch.setattr(module, "MIGRATIONS", (good[0] + "CREATE TABLE vectors (x);", *good[1:]))
    with pytest.raises(StoreUnavailable):
        Database(path)
    monkeypatch.setattr(module, "MIGRATIONS", good)
    Database(path).close()


def test_closed_is_unavailable(path: Path, clock: FakeClock) -> None:
    database = Database(path)
    database.close()
    database.close()
    with pytest.raises(StoreUnavailable):
        EmbeddedVectors(database, clock).get_many([key(1)])
    with pytest.raises(StoreUnavailable):
        EmbeddedVectors(database, clock).put_many([(key(1), record(1))])


def test_a_writer_elsewhere_holds_up_writes_only(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.02)
    database = Database(path)
    store = EmbeddedVectors(database, clock)
    store.put_many([(key(1), record(1))])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert store.get_many([key(1)]) == {fingerprint(1): record(1)}
    with pytest.raises(StoreUnavailable, match=r"^sqlite: SQLITE_BUSY$"):
        store.put_many([(key(2), record(2))])
    other.execute("ROLLBACK")
    other.close()
    assert store.put_many([(key(2), record(2))]) == [record(2)]
    database.close()


def test_expired_rows_are_swept_in_bites_by_writes_only(
    database: Database, path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SWEEP_ROWS", 3)
    vectors = EmbeddedVectors(database, clock)
    vectors.put_many([(key(n), record(n, ttl=10)) for n in range(8)])
    vectors.put_many([(key(100), record(100))])

    def count() -> int:
        return int(database.read("SELECT count(*) FROM vectors")[0][0])

    clock.advance(400)
    vectors.get_many([key(n) for n in range(8)])
    assert count() == 9
    counts = []
    for _ in range(4):
        vectors.put_many([(key(200), record(200))])
        counts.append(count())
        clock.advance(1)
    assert counts == [9 - 3 + 1, 4, 2, 2]
    assert set(vectors.get_many([key(100), key(200)])) == {fingerprint(100), fingerprint(200)}


def test_expired_flights_are_swept(database: Database, path: Path, clock: FakeClock) -> None:
    flights = EmbeddedFlights(database, clock)
    flights.swap_many([Swap(leading(1, expires=START + 5), 0)])
    clock.advance(400)
    flights.swap_many([Swap(leading(2, expires=START + 900), 0)])
    assert set(flights.get_many([fingerprint(1), fingerprint(2)])) == {fingerprint(2)}
