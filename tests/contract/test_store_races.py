"""Several processes of several threads on one embedded file: exactly one of them wins."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from embedonce.core.flight import Leading
from embedonce.stores.embedded.database import Database
from embedonce.stores.embedded.flights import EmbeddedFlights
from embedonce.stores.embedded.vectors import EmbeddedVectors
from support.clock import FakeClock
from support.racers import ROUNDS, STEPS, THREADS, race
from support.stored import fingerprint, key

PROCESSES = 3


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    path = tmp_path_factory.mktemp("races") / "data" / "embedonce.db"
    spawn = multiprocessing.get_context("spawn")
    barrier, answers = spawn.Barrier(PROCESSES), spawn.Queue()
    processes = [spawn.Process(target=race, args=(path, n, barrier, answers)) for n in range(PROCESSES)]
    for process in processes:
        process.start()
    lines = [line for _ in processes for line in answers.get(timeout=60)]
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
        process.close()
    answers.close()
    answers.join_thread()
    assert len(lines) == PROCESSES * THREADS
    return path, lines


def test_everyone_is_answered_the_one_vector_that_stands(raced: tuple[Path, list[dict[str, Any]]]) -> None:
    path, lines = raced
    database = Database(path)
    standing = EmbeddedVectors(database, FakeClock()).get_many([key(n) for n in range(ROUNDS)])
    database.close()
    assert len(standing) == ROUNDS
    for n in range(ROUNDS):
        assert {line["put"][n] for line in lines} == {standing[fingerprint(n)]}


def test_one_leads_each_flight_and_all_others_see_it(raced: tuple[Path, list[dict[str, Any]]]) -> None:
    path, lines = raced
    database = Database(path)
    standing = EmbeddedFlights(database, FakeClock()).get_many([fingerprint(n) for n in range(ROUNDS)])
    database.close()
    for n in range(ROUNDS):
        leaders = [line["me"] for line in lines if line["led"][n] is None]
        assert len(leaders) == 1
        state = standing[fingerprint(n)].state
        assert isinstance(state, Leading)
        assert state.owner == str(leaders[0])
        assert {line["led"][n] for line in lines} == {None, standing[fingerprint(n)]}


def test_no_swap_is_lost(raced: tuple[Path, list[dict[str, Any]]]) -> None:
    path, _ = raced
    database = Database(path)
    row = EmbeddedFlights(database, FakeClock()).get_many([fingerprint(-1)])[fingerprint(-1)]
    database.close()
    assert row.version == PROCESSES * THREADS * STEPS
