"""What the processes of tests/contract/test_store_races.py run; importable, because they are spawned."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from embedonce.ports import Swap
from embedonce.stores.embedded.database import Database
from embedonce.stores.embedded.flights import EmbeddedFlights
from embedonce.stores.embedded.vectors import EmbeddedVectors
from support.clock import FakeClock
from support.stored import fingerprint, key, leading, record

THREADS = 4
ROUNDS = 15
STEPS = 8


def race(path: Path, process: int, barrier: Barrier, answers: Any) -> None:
    """Opens the file at the same moment as the others (nobody has made it yet), then races them."""
    barrier.wait(30)
    database = Database(path)
    clock = FakeClock()
    vectors = EmbeddedVectors(database, clock)
    flights = EmbeddedFlights(database, clock)
    lines: list[dict[str, Any]] = []

    def run(thread: int) -> None:
        me = process * THREADS + thread
        put = [vectors.put_many([(key(n), record(100 + me))])[0] for n in range(ROUNDS)]
        led = [flights.swap_many([Swap(leading(n, owner=str(me)), 0)])[0] for n in range(ROUNDS)]
        lost = sum(_step(flights) for _ in range(STEPS))
        lines.append({"me": me, "put": put, "led": led, "lost": lost})

    _together(run)
    database.close()
    answers.put(lines)


def _step(flights: EmbeddedFlights) -> int:
    """Counts the row of one fingerprint up by one; answers how many swaps were lost on the way."""
    lost = 0
    while True:
        current = flights.get_many([fingerprint(-1)]).get(fingerprint(-1))
        wanted = leading(-1) if current is None else replace(current, version=current.version + 1)
        if flights.swap_many([Swap(wanted, current.version if current else 0)]) == [None]:
            return lost
        lost += 1


def _together(run: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=run, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
